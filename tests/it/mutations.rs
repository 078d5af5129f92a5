//! Seeded mutations of good bytes at every door, in seconds; `make fuzz` does the same for as long as one likes.
//! `TALLYD_TEST_LONG=N` makes N times as many.

use crate::unharmed;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tallyd::journal::{Journal, Options};
use tallyd::metric::{Kind, Number, Series, Sum, Tally};
use tallyd::wire::batch::{Dictionary, push_batch, push_batch_with};

fn times() -> usize {
    std::env::var("TALLYD_TEST_LONG").ok().and_then(|times| times.parse().ok()).unwrap_or(1)
}

/// Turns, adds, takes out and repeats a few bytes of one of the seeds.
fn mutate(seeds: &[Vec<u8>], random: &mut StdRng) -> Vec<u8> {
    let mut bytes = seeds[random.random_range(0..seeds.len())].clone();
    for _ in 0..random.random_range(1..5) {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..5) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = random.random(),
            2 => bytes.insert(at, random.random()),
            3 if at < bytes.len() => drop(bytes.remove(at)),
            _ => {
                let end = (at + random.random_range(0..16)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                let to = random.random_range(0..=bytes.len());
                bytes.splice(to..to, part);
            }
        }
    }
    bytes
}

fn unharmed_by(seeds: &[Vec<u8>], rounds: usize, door: fn(&[u8])) {
    let mut random = StdRng::seed_from_u64(21);
    for seed in seeds {
        door(seed);
    }
    for _ in 0..rounds * times() {
        door(&mutate(seeds, &mut random));
    }
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn counters() -> Vec<(Series, Tally)> {
    let entry = |n: i64| {
        let mut sum = Sum::ZERO;
        sum.add(Number::Decimal { mantissa: n * 63, places: 1 });
        (Series::new(Kind::Counter, &format!("key-{n};tag=v")), Tally::Counter(sum))
    };
    (0..8).map(entry).collect()
}

#[test]
fn batches() {
    let entries = counters();
    let each = || entries.iter().map(|(series, tally)| (series, tally));
    let (mut whole, mut by_id) = (Vec::new(), Vec::new());
    push_batch(&mut whole, 7, 1, 1_795_392_000_000, each());
    push_batch_with(&mut Dictionary::default(), &mut by_id, 7, 1, 1_795_392_000_000, each());
    unharmed_by(&[whole, by_id], 30_000, unharmed::batch);
}

#[test]
fn journals() {
    let folder = tempfile::tempdir().unwrap();
    let disk = tallyd::journal::Directory::open(folder.path()).unwrap();
    let (mut journal, _) = Journal::open(Box::new(disk), Options::default()).unwrap();
    let entries = counters();
    journal.segment(1_795_392_000_000).unwrap();
    for number in 1..=4 {
        let mut payload = Vec::new();
        let each = entries.iter().map(|(series, tally)| (series, tally));
        push_batch(&mut payload, 7, number, 1_795_392_000_000, each);
        journal.append(7, number, &payload, 1_795_392_000_000).unwrap();
    }
    journal.sync(1_795_392_000_000).unwrap();
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap();
    unharmed_by(&[std::fs::read(file.path()).unwrap()], 10_000, unharmed::journal);
}

#[test]
fn configurations() {
    let statsd = texts(&[
        "{ port: 8125, mgmt_port: 8126, flushInterval: 10000, graphiteHost: 'g', graphitePort: 2003 }",
        "{\"percentThreshold\": [90, -10.5], \"histogram\": [{metric: 'a', bins: [1, 'inf']}], keyNameSanitize: false}",
        "{ servers: [{server: './servers/udp', address: '0.0.0.0', port: 8125}], backends: ['./backends/graphite'] }",
        "{ graphite: { legacyNamespace: false, globalPrefix: 'x', prefixCounter: '' }, deleteIdleStats: true, /* c */ }",
        "// a comment\n{ dumpMessages: 0x1F, keyFlush: {interval: +5.e3}, prefixStats: \"\\u0041\\n\", }",
    ]);
    unharmed_by(&statsd, 10_000, unharmed::statsd_config);
    let ours = std::fs::read(crate::support::repository("config.example.toml")).unwrap();
    let mut native = texts(&[
        "[flush]\nbucket = \"1s\"\ngrace = \"200ms\"\n[graphite]\naddress = [\"a:1\", \"b\"]\n",
        "[rollup]\nkeep = { \"10s\" = \"6h\", \"1m\" = \"7d\" }\n[company]\ntimezone = \"Europe/Berlin\"\n",
        "[[figure]]\nid = \"a\"\nmetric = \"a.*\"\nkind = \"money\"\n[[page]]\npath = \"/\"\nshow = [\"a\"]\n",
    ]);
    native.push(ours);
    unharmed_by(&native, 2_000, unharmed::native_config);
}

#[test]
fn queries() {
    let seeds = texts(&[
        "name=shop.*&from=-1h&to=now&step=1m&stat=sum&by=name&fill=zero&limit=10&format=json",
        "name=**&from=1795391000&to=2026-11-23T00:00:00Z&step=1d&kind=counter",
        "name={shop,web}.[a-o]*;plan=pro;country!=de&name=\\*&step=15m&stat=p99.9",
        "name=shop.orders&from=today&to=yesterday&by=&stat=rate&format=csv",
        "match=shop.**&kind=counter&limit=3",
    ]);
    unharmed_by(&seeds, 10_000, unharmed::query);
}

#[test]
fn consoles() {
    let seeds = texts(&[
        "stats\ncounters\ntimers\ngauges\nhealth\nconfig\nhelp\n",
        "health down\nhealth up\nhealth\nquit\n",
        "delcounters shop.orders web.*\ndelgauges\ndeltimers a b c\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\ncounters\n",
    ]);
    unharmed_by(&seeds, 400, unharmed::console);
}
