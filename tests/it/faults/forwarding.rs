//! Forwarding that survives, from outside and with a real carbon: an hour without it, carbon killed over and over,
//! new series that it makes no files for yet, and receivers that stand still.
//!
//! Samples carry their own timestamps, so that the truth is exact: what was sent for a second is what the whisper
//! files must hold for it. An hour passes at once, since such samples may lie in the past.
//! `TALLYD_TEST_LONG` plays the full sizes.

use crate::support::{Graphite, Launch, Sink, Tallyd, free_port, sink, time};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::time::Duration;

/// Counts by path and timestamp.
pub(crate) type Counts = BTreeMap<(String, i64), f64>;

const PREFIX: &str = "stats.counters.shop.";
/// Two ticks: what was read by now is in the journal.
const SETTLE: Duration = Duration::from_millis(800);
/// The newest points are there so soon after Graphite is back.
const NEWEST_DEADLINE: Duration = Duration::from_secs(30);
/// New series are stated again after half a minute, whatever was confirmed.
const SOONER_THAN_NEW_SERIES: Duration = Duration::from_secs(20);
/// And all of them so soon.
const BACKLOG_DEADLINE: Duration = Duration::from_secs(300);

fn is_long() -> bool {
    std::env::var_os("TALLYD_TEST_LONG").is_some()
}

/// Counts each of `series` series at each of these moments; what is counted differs by series and moment.
pub(crate) fn count(tallyd: &Tallyd, series: usize, moments: &[i64], truth: &mut Counts) {
    let mut stream = tallyd.connect();
    for &at in moments {
        let mut lines = String::new();
        for number in 0..series {
            let value = 1 + (number as i64 + at) % 97;
            writeln!(lines, "shop.s{number}:{value}|c|T{at}").expect("a string takes all");
            *truth.entry((format!("{PREFIX}s{number}.count"), at)).or_default() += value as f64;
        }
        stream.write_all(lines.as_bytes()).expect("tallyd reads");
    }
    // It closes when it has read to the end.
    stream.shutdown(Shutdown::Write).expect("a connection can be closed halfway");
    assert_eq!(stream.read(&mut [0]).expect("tallyd closes"), 0);
}

/// What differs between the truth and the files, and an example of it.
pub(crate) fn missing(graphite: &Graphite, truth: &Counts) -> (usize, String) {
    let (from, until) = span(truth);
    let written = graphite.written(PREFIX, from - 1, until);
    let wrong: Vec<_> = truth.iter().filter(|(point, value)| written.get(*point) != Some(*value)).collect();
    let example = wrong.first().map(|(point, value)| (point, value, written.get(*point)));
    let moments: BTreeSet<i64> = wrong.iter().map(|((_, at), _)| *at).collect();
    let span = format!("{:?} to {:?}", moments.first(), moments.last());
    let (differ, all) = (wrong.len(), truth.len());
    (
        differ,
        format!("{differ} of {all} points differ, such as {example:?}, of {} moments, {span}", moments.len()),
    )
}

fn span(truth: &Counts) -> (i64, i64) {
    let moments = || truth.keys().map(|(_, at)| *at);
    (moments().min().expect("something was counted"), moments().max().expect("something was counted"))
}

/// Waits until the files hold the truth; panics when they do not.
fn assert_written(graphite: &Graphite, truth: &Counts, deadline: Duration) {
    let mut last = String::new();
    let whole = time::wait_until(deadline, || {
        let (wrong, words) = missing(graphite, truth);
        last = words;
        wrong == 0
    });
    assert!(whole, "{last}{}", graphite.carbon_log());
}

/// An hour of buckets of 2,000 series while Graphite is away, and tallyd is stopped and killed in it. Here they are a
/// minute wide; the long version has the default's ten seconds.
#[test]
fn an_hour_without_graphite_is_made_up_for_over_restarts() {
    let series = 2_000;
    let width = if is_long() { 10 } else { 60 };
    let mut graphite = Graphite::start(&format!("{width}s:2h"));
    let launch = Launch::native(&format!(
        "[flush]\nbucket = \"{width}s\"\ngrace = \"200ms\"\namend_window = \"2h\"\n[rollup]\n\
         keep = {{ \"{width}s\" = \"2h\" }}\nfigures = {{ \"{width}s\" = \"2h\" }}\n[graphite]\naddress = [\"{}\"]\n",
        graphite.plaintext_addr()
    ));
    let launch = launch.with_store().with_tcp();
    let mut tallyd = launch.start();
    // The newest bucket that is over.
    let over = || (time::unix_secs() - 1) / width * width - width;
    let first = over();
    let mut truth = Counts::new();
    count(&tallyd, series, &[first], &mut truth);
    assert_written(&graphite, &truth, Duration::from_secs(60));

    graphite.stop();
    let past: Vec<i64> = (1..=3_600 / width).rev().map(|back| first - back * width).collect();
    let thirds: Vec<&[i64]> = past.chunks(past.len() / 3).collect();
    count(&tallyd, series, thirds[0], &mut truth);
    assert_eq!(tallyd.sigterm(), Some(0), "the store keeps what Graphite has not confirmed");
    tallyd = launch.start();
    count(&tallyd, series, thirds[1], &mut truth);
    time::sleep(SETTLE);
    tallyd.kill9();
    tallyd = launch.start();
    // The list itself survives: what is new would be stated again without it too.
    let two = 2 * thirds[0].len() as u64;
    assert!(time::wait_until(Duration::from_secs(20), || waiting(&tallyd) >= two), "{}", waiting(&tallyd));
    count(&tallyd, series, thirds[2], &mut truth);
    let newest = over();
    count(&tallyd, series, &[newest], &mut truth);
    let newest = truth.clone().into_iter().filter(|((_, at), _)| *at == newest).collect();
    time::sleep(SETTLE);

    graphite.start_again();
    let back = time::now();
    assert_written(&graphite, &newest, NEWEST_DEADLINE);
    println!("the newest points are back after {:?}", back.elapsed());
    assert_written(&graphite, &truth, BACKLOG_DEADLINE.saturating_sub(back.elapsed()));
    println!("{} points are back after {:?}", truth.len(), back.elapsed());
    assert_eq!(tallyd.sigterm(), Some(0));
}

/// Buckets on the list of the only destination.
pub(crate) fn waiting(tallyd: &Tallyd) -> u64 {
    let status: Value = serde_json::from_str(&tallyd.http_get("/api/v1/status").body).expect("JSON");
    status["graphite"][0]["buckets_waiting"].as_u64().expect("a number")
}

/// The backlog takes ten seconds at its rate, newest first; each new second arrives in time all the same.
#[test]
fn the_backlog_comes_newest_first_at_its_rate_and_new_buckets_do_not_wait_for_it() {
    let mut graphite = Sink::start();
    let launch = seconds(&graphite.address(), "backfill_rate = 4000\n").with_store().with_tcp();
    let tallyd = launch.start();
    graphite.stop();
    let now = time::unix_secs();
    let past: Vec<i64> = (1..=100).rev().map(|back| now - 10 - back).collect();
    let mut truth = Counts::new();
    count(&tallyd, 200, &past, &mut truth);
    time::sleep(SETTLE);
    graphite.start_again();
    let back = time::now();
    // However long it waits before it tries again, that is over with the first line.
    assert!(graphite.wait_for(NEWEST_DEADLINE, |points| !points.is_empty()).is_some());

    let first = time::unix_secs() + 1;
    let mut sent = Vec::new();
    for second in first..first + 6 {
        time::sleep_until(second, Duration::from_millis(300));
        count(&tallyd, 1, &[second], &mut Counts::new());
        // The bucket ends 0.7 s from now; a bucket's width and 2 s are allowed.
        sent.push((second, time::now() + Duration::from_millis(700) + Duration::from_secs(3)));
    }
    let whole = |points: &sink::Points| truth.iter().all(|(point, value)| points.get(point) == Some(value));
    assert!(graphite.wait_for(Duration::from_secs(60), whole).is_some());
    // A counter is two points, and a second's worth may leave at once.
    let least = Duration::from_secs(2 * truth.len() as u64 / 4_000 - 2);
    assert!(back.elapsed() >= least, "it took {:?} only", back.elapsed());

    let lines = graphite.lines();
    let mut order = Vec::new();
    let mut arrived = BTreeMap::new();
    for line in lines.iter().filter(|line| line.text.starts_with(&format!("{PREFIX}s0.count "))) {
        let stamp = line.text.rsplit(' ').next().and_then(|stamp| stamp.parse().ok()).expect("a timestamp");
        if arrived.insert(stamp, line.arrived).is_none() && past.contains(&stamp) {
            order.push(stamp);
        }
    }
    let (early, late) = (&order[..20], &order[order.len() - 20..]);
    assert!(early.iter().min() > late.iter().max(), "not newest first: {order:?}");
    for (second, until) in sent {
        let arrived = arrived.get(&second).unwrap_or_else(|| panic!("second {second} is missing"));
        assert!(*arrived <= until, "second {second} came {:?} too late", *arrived - until);
    }
    assert_eq!(tallyd.sigterm(), Some(0));
}

#[test]
fn a_carbon_killed_over_and_over_ends_with_every_point_with_a_store_on_disk() {
    assert_kills_cost_nothing(true);
}

#[test]
fn a_carbon_killed_over_and_over_ends_with_every_point_with_a_store_in_memory() {
    assert_kills_cost_nothing(false);
}

/// carbon writes little and holds much, which it loses each time. With a store on disk tallyd is stopped and
/// killed in between too.
fn assert_kills_cost_nothing(on_disk: bool) {
    let kills = if is_long() { 20 } else { 4 };
    let mut graphite = Graphite::start_limited("1s:1h", 60_000, 60);
    let mut launch = seconds(&graphite.plaintext_addr(), "").with_tcp();
    if on_disk {
        launch = launch.with_store();
    }
    let mut tallyd = launch.start();
    let mut truth = Counts::new();
    for kill in 0..kills {
        // Moments that differ from kill to kill, and are the same in every run.
        let (runs, rests) = (1_500 + kill * 367 % 1_000, kill * 613 % 1_700);
        load(&tallyd, runs, &mut truth);
        graphite.kill9();
        load(&tallyd, rests, &mut truth);
        if on_disk && kill % 5 == 1 {
            assert_eq!(tallyd.sigterm(), Some(0));
            tallyd = launch.start();
        } else if on_disk && kill % 5 == 3 {
            time::sleep(SETTLE);
            tallyd.kill9();
            tallyd = launch.start();
        }
        graphite.start_again();
        if kill == 0 {
            // Sooner than the series, which are new, are stated again for that.
            load(&tallyd, 1_000, &mut truth);
            assert_written(&graphite, &truth, Duration::from_secs(22));
        }
    }
    load(&tallyd, 2_000, &mut truth);
    assert_written(&graphite, &truth, Duration::from_secs(90));
    assert_eq!(tallyd.sigterm(), Some(0));
}

/// Ten rounds a second, for so many milliseconds.
pub(crate) fn load(tallyd: &Tallyd, millis: u64, truth: &mut Counts) {
    for _ in 0..millis / 100 {
        count(tallyd, 50, &[time::unix_secs()], truth);
        time::sleep(Duration::from_millis(100));
    }
}

/// No delivery fails then; carbon has lost what it had confirmed.
#[test]
fn a_carbon_that_is_killed_and_back_between_two_flushes_is_noticed() {
    let mut graphite = Graphite::start_limited("10s:1h", 60_000, 60);
    let launch = Launch::native(&format!(
        "[flush]\nbucket = \"10s\"\ngrace = \"200ms\"\n[graphite]\naddress = [\"{}\"]\n",
        graphite.plaintext_addr()
    ));
    let tallyd = launch.with_store().with_tcp().start();
    let bucket = time::unix_secs() / 10 * 10 + 10;
    time::sleep_until(bucket, Duration::from_millis(500));
    let mut truth = Counts::new();
    count(&tallyd, 200, &[bucket], &mut truth);
    // The bucket is sealed 0.2 s after its end and confirmed within a second; carbon writes 60 of 400 files
    // a second.
    time::sleep_until(bucket + 11, Duration::from_millis(700));
    graphite.kill9();
    let (lost, words) = missing(&graphite, &truth);
    assert!(lost > 50, "carbon had nothing to lose: {words}");
    graphite.start_again();
    assert!(time::unix_secs() < bucket + 20, "carbon was not back before the next flush");
    // With the next flush, and not only half a minute after the first one, as series that are new.
    let left = (bucket + 41 - time::unix_secs()).max(0) as u64;
    assert_written(&graphite, &truth, Duration::from_secs(left));
    assert_eq!(tallyd.sigterm(), Some(0));
}

/// carbon has made the files of all after some 25 s, and until then it drops points. The restatement half a minute
/// after it was told brings the first ones, though another process of tallyd has seen them.
#[test]
fn the_first_points_of_more_series_than_carbon_makes_files_for_arrive() {
    let graphite = Graphite::start_limited("1s:1h", 200, 10_000);
    let launch = seconds(&graphite.plaintext_addr(), "counts = false\n").with_store().with_tcp();
    let tallyd = launch.start();
    // What carbon hears late counts from when it hears it.
    let first = time::unix_secs() - 300;
    let mut truth = Counts::new();
    count(&tallyd, 250, &[first], &mut truth);
    // Buckets are a second wide: a rate is the count.
    let rate = |path: &str| format!("{}.rate", path.trim_end_matches(".count"));
    let truth: Counts = truth.into_iter().map(|((path, at), value)| ((rate(&path), at), value)).collect();
    time::sleep(Duration::from_secs(5));
    let (lost, words) = missing(&graphite, &truth);
    assert!(lost > 30, "carbon makes more files than the test is about: {words}");
    assert_eq!(tallyd.sigterm(), Some(0));
    let tallyd = launch.start();
    assert_written(&graphite, &truth, Duration::from_secs(100));
    assert_eq!(tallyd.sigterm(), Some(0));
}

#[test]
fn receivers_that_stand_still_delay_neither_ingest_nor_one_another() {
    assert_nobody_waits("per_flush");
}

#[test]
fn receivers_that_stand_still_delay_nobody_with_kept_connections_either() {
    assert_nobody_waits("kept");
}

/// Five destinations, of which one is well.
fn assert_nobody_waits(connection: &str) {
    let graphite = Sink::start();
    let slow = Sink::start();
    slow.read_slowly(Duration::from_millis(500));
    let never_reads = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let destinations = [
        never_reads.local_addr().expect("an address").to_string(),
        slow.address(),
        format!("127.0.0.1:{}", free_port()),
        // For documentation: packets to it go nowhere, where there is a way out at all.
        "192.0.2.1:2003".to_owned(),
        graphite.address(),
    ];
    let more = format!("connection = \"{connection}\"\n");
    let launch = seconds(&destinations.join("\", \""), &more).with_store().with_tcp();
    let tallyd = launch.start();
    let mut truth = Counts::new();
    let mut due = Vec::new();
    let mut resident = Vec::new();
    let first = time::unix_secs() + 1;
    for second in first..first + 20 {
        time::sleep_until(second, Duration::from_millis(200));
        count(&tallyd, 1_000, &[second], &mut truth);
        due.push((second, time::now() + Duration::from_millis(800) + Duration::from_secs(3)));
        resident.push(resident_kib(&tallyd));
    }
    let whole = |points: &sink::Points| truth.iter().all(|(point, value)| points.get(point) == Some(value));
    assert!(graphite.wait_for(Duration::from_secs(5), whole).is_some(), "{} points", graphite.points().len());
    for (second, until) in due {
        let end = format!(" {second}");
        let last =
            graphite.lines().into_iter().filter(|line| line.text.ends_with(&end)).map(|line| line.arrived);
        // The first statement of it; what is stated again after an outage is not meant.
        let arrived = last.min().expect("every second is there");
        assert!(arrived <= until, "second {second} came {:?} too late", arrived - until);
    }
    println!("resident KiB: {resident:?}");
    let (early, late) = (resident[4], resident[19]);
    assert!(late < early + 64 * 1_024, "memory grows: {resident:?}");
    let stopping = time::now();
    assert_eq!(tallyd.sigterm(), Some(0), "the store keeps what was not confirmed");
    assert!(stopping.elapsed() < Duration::from_secs(8), "{:?}", stopping.elapsed());
}

fn resident_kib(tallyd: &Tallyd) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", tallyd.process.id())).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory is told");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

#[test]
fn a_server_of_something_else_on_graphites_port_confirms_nothing() {
    assert_an_answer_is_no_confirmation("per_flush");
}

#[test]
fn a_server_of_something_else_confirms_nothing_on_a_kept_connection_either() {
    assert_an_answer_is_no_confirmation("kept");
}

/// It reads whatever comes and complains as Redis would.
fn assert_an_answer_is_no_confirmation(connection: &str) {
    let mut graphite = Sink::start();
    graphite.stop();
    let stranger = TcpListener::bind(graphite.address()).expect("the port is free again");
    let closes = connection == "per_flush";
    // A delivery that was confirmed is not stated again, but as a kept connection's last minutes, and as new series.
    let resend = if closes { "0s" } else { "5m" };
    let more = format!("connection = \"{connection}\"\nresend = \"{resend}\"\n");
    let launch = seconds(&graphite.address(), &more);
    let tallyd = launch.with_store().with_tcp().start();
    let mut truth = Counts::new();
    count(&tallyd, 20, &[time::unix_secs() - 5], &mut truth);
    let started = time::now();
    let open: Vec<_> = (0..3).map(|_| complain(&stranger, closes)).collect();
    assert!(started.elapsed() < SOONER_THAN_NEW_SERIES, "deliveries were confirmed: {:?}", started.elapsed());
    drop((stranger, open));
    graphite.start_again();
    let whole = |points: &sink::Points| truth.iter().all(|(point, value)| points.get(point) == Some(value));
    assert!(graphite.wait_for(SOONER_THAN_NEW_SERIES, whole).is_some(), "{:?}", graphite.points());
    assert_eq!(tallyd.sigterm(), Some(0));
}

/// Takes one delivery in and says something to it; closes when the delivery is over, or not at all.
fn complain(stranger: &TcpListener, closes: bool) -> Option<TcpStream> {
    loop {
        let (mut peer, _) = stranger.accept().expect("somebody connects");
        // The connection that only watches sends nothing.
        peer.set_read_timeout(Some(Duration::from_millis(500))).expect("a time");
        let (mut bytes, mut some) = (0, vec![0; 65_536]);
        while let Ok(read @ 1..) = peer.read(&mut some) {
            bytes += read;
            if !closes {
                break;
            }
        }
        if bytes > 0 {
            peer.write_all(b"-ERR unknown command 'stats.counters'\r\n").ok();
            return (!closes).then_some(peer);
        }
    }
}

/// What a destination lacks is remembered by its address, as long as it is in the configuration.
#[test]
fn a_destination_has_its_own_list_over_restarts_and_none_when_it_is_new() {
    let here = Sink::start();
    let mut away = Sink::start();
    let mut new = Sink::start();
    away.stop();
    new.stop();
    // Nothing but its list says what a destination lacks.
    let launch = seconds(&here.address(), "resend = \"0s\"\n").with_store().with_tcp();
    let with = |launch: Launch, sinks: &[&Sink]| {
        let addresses: Vec<String> = sinks.iter().map(|sink| sink.address()).collect();
        launch.env("TALLYD_GRAPHITE_ADDRESS", &addresses.join(","))
    };
    let holds = |sink: &Sink, at: i64| {
        // A stop closes the second that is open, with zeros where nothing was counted.
        let counted = |((path, stamp), value): (&(String, i64), &f64)| {
            *stamp == at && *value > 0.0 && path.starts_with(PREFIX)
        };
        sink.points().iter().any(counted)
    };
    let counted_and_stopped = |launch: &Launch| {
        let tallyd = launch.start();
        let at = time::unix_secs();
        count(&tallyd, 3, &[at], &mut Counts::new());
        assert!(here.wait_for(NEWEST_DEADLINE, |_| holds(&here, at)).is_some());
        assert_eq!(tallyd.sigterm(), Some(0));
        at
    };

    let launch = with(launch, &[&here, &away]);
    let first = counted_and_stopped(&launch);
    away.start_again();
    new.start_again();
    // In another order, and with one more.
    let launch = with(launch, &[&new, &away, &here]);
    let second = counted_and_stopped(&launch);
    assert!(holds(&away, first) && holds(&away, second), "the list was not kept: {:?}", away.points());
    assert!(holds(&new, second));
    assert!(!holds(&new, first), "a new destination was told of what was before it");

    new.stop();
    let third = counted_and_stopped(&launch);
    let launch = with(launch, &[&here, &away]);
    counted_and_stopped(&launch);
    new.start_again();
    let launch = with(launch, &[&here, &away, &new]);
    let fifth = counted_and_stopped(&launch);
    assert!(holds(&new, fifth));
    assert!(!holds(&new, third), "a destination that was taken out was told of what was before it came back");
}

/// tallyd with buckets of a second, kept for an hour.
pub(crate) fn seconds(graphite: &str, more: &str) -> Launch {
    seconds_kept("1h", graphite, more)
}

/// tallyd with buckets of a second.
pub(crate) fn seconds_kept(keep: &str, graphite: &str, more: &str) -> Launch {
    Launch::native(&format!(
        "[flush]\nbucket = \"1s\"\ngrace = \"200ms\"\namend_window = \"1h\"\n\
         [rollup]\nkeep = {{ \"1s\" = \"{keep}\" }}\nfigures = {{ \"1s\" = \"{keep}\" }}\n\
         [graphite]\naddress = [\"{graphite}\"]\n{more}"
    ))
}
