//! Rows 5 to 8: Graphite is away for an hour, killed, slow to make files, or does not read.

#[path = "../../it/faults/forwarding.rs"]
#[expect(dead_code, reason = "its other users are in tests/it")]
mod forwarding;

use crate::board::{Outcome, step};
use crate::books::Books;
use crate::feed::{Feed, LINES, To, kernel, mb, resident};
use crate::support::{Graphite, Launch, Tallyd, http, time, wait_until};
use forwarding::{Counts, count, load, missing, seconds, seconds_kept, waiting};
use serde_json::Value;
use std::io::Read as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// Two ticks: what was read by now is in the journal.
const SETTLE: Duration = Duration::from_millis(800);

/// Waits until carbon's files hold the truth; says how long it took and what differs then.
fn written(graphite: &Graphite, truth: &Counts, patience: Duration) -> (Duration, usize, String) {
    let started = time::now();
    let mut last = missing(graphite, truth);
    wait_until(patience, || {
        if last.0 > 0 {
            last = missing(graphite, truth);
        }
        last.0 == 0
    });
    (started.elapsed(), last.0, last.1)
}

/// An hour of buckets of ten seconds of 2,000 series; tallyd is stopped and killed in it.
pub(crate) fn an_hour_away(outcome: &mut Outcome) {
    const SERIES: usize = 2_000;
    const WIDTH: i64 = 10;
    outcome.wants_a_quiet_machine();
    let mut graphite = Graphite::start("10s:2h");
    let launch = Launch::native(&format!(
        "[flush]\nbucket = \"10s\"\ngrace = \"200ms\"\namend_window = \"2h\"\n[rollup]\nkeep = {{ \"10s\" = \"2h\" }}\n\
         figures = {{ \"10s\" = \"2h\" }}\n[graphite]\naddress = [\"{}\"]\n",
        graphite.plaintext_addr()
    ));
    let launch = launch.with_store().with_tcp();
    let mut tallyd = launch.start();
    let over = || (time::unix_secs() - 1) / WIDTH * WIDTH - WIDTH;
    let first = over();
    let mut truth = Counts::new();
    count(&tallyd, SERIES, &[first], &mut truth);
    let (_, wrong, words) = written(&graphite, &truth, Duration::from_secs(90));
    assert_eq!(wrong, 0, "before the outage: {words}");

    step("Graphite is away");
    graphite.stop();
    let past: Vec<i64> = (1..=3_600 / WIDTH).rev().map(|back| first - back * WIDTH).collect();
    let thirds: Vec<&[i64]> = past.chunks(past.len() / 3).collect();
    count(&tallyd, SERIES, thirds[0], &mut truth);
    let code = tallyd.sigterm();
    outcome.require(code == Some(0), format!("the stop had the exit code {code:?}"));
    tallyd = launch.start();
    count(&tallyd, SERIES, thirds[1], &mut truth);
    time::sleep(SETTLE);
    tallyd.kill9();
    tallyd = launch.start();
    count(&tallyd, SERIES, thirds[2], &mut truth);
    let newest = over();
    count(&tallyd, SERIES, &[newest], &mut truth);
    time::sleep(SETTLE);
    let at_newest: Counts = truth.clone().into_iter().filter(|((_, at), _)| *at == newest).collect();
    step(&format!("{} buckets wait; Graphite is back", waiting(&tallyd)));
    graphite.start_again();
    let back = time::now();
    let (newest_after, newest_wrong, _) = written(&graphite, &at_newest, Duration::from_secs(60));
    // To look into two thousand files takes a core for seconds.
    wait_until(Duration::from_secs(400), || {
        time::sleep(Duration::from_millis(500));
        waiting(&tallyd) == 0
    });
    let took = back.elapsed();
    // What carbon has taken it writes when it comes to it.
    let (writing, wrong, words) = written(&graphite, &truth, Duration::from_secs(240));
    if wrong > 0 {
        // What the store has of them tells whether they were lost before it or behind it.
        let path = "/api/v1/query?name=shop.s0&from=-2h&step=10s&stat=sum";
        step(&tallyd.http_get(path).body);
        step(&tallyd.http_get("/api/v1/status").body);
        step(&crate::books::log(&launch));
        step(&graphite.carbon_log());
    }
    let points = truth.len();
    outcome.figure(format!(
        "{points} points of {SERIES} series, {wrong} not right; newest bucket after {} s, all confirmed after {} s, in \
         carbon's files {} s later",
        newest_after.as_secs(),
        took.as_secs(),
        writing.as_secs()
    ));
    outcome.require(wrong == 0, words);
    outcome.require(newest_wrong == 0, "the newest bucket did not come within a minute");
    outcome.require(took <= Duration::from_secs(300), format!("it took {} s", took.as_secs()));
    outcome.unexplained(wrong as i64);
}

/// carbon writes 60 of 100 files a second, and loses what it holds each time.
pub(crate) fn kill(outcome: &mut Outcome) {
    const KILLS: u64 = 20;
    let mut graphite = Graphite::start_limited("1s:1h", 60_000, 60);
    let launch = seconds(&graphite.plaintext_addr(), "").with_tcp().with_store();
    let tallyd = launch.start();
    let mut truth = Counts::new();
    let mut held = 0;
    for kill in 0..KILLS {
        load(&tallyd, 1_500 + kill * 367 % 1_000, &mut truth);
        graphite.kill9();
        // What it had accepted by then and has not on disk.
        held = held.max(missing(&graphite, &truth).0);
        load(&tallyd, kill * 613 % 1_700, &mut truth);
        graphite.start_again();
        if kill % 5 == 4 {
            step(&format!("{} kills", kill + 1));
        }
    }
    load(&tallyd, 2_000, &mut truth);
    let (took, wrong, words) = written(&graphite, &truth, Duration::from_secs(120));
    outcome.figure(format!("{KILLS} kills, up to {held} points not on disk at a kill; {} points, {wrong} missing {} s after the load", truth.len(), took.as_secs()));
    outcome.require(wrong == 0, words);
    outcome.unexplained(wrong as i64);
}

/// More new series at once than carbon makes files for in a minute, as it does by default. 140 take three minutes;
/// carbon makes 2,000, which `CHAOS_FULL` asks for, in 40, and is told of them again after 41.
pub(crate) fn new_series(outcome: &mut Outcome) {
    let full = super::is_full();
    let (series, patience) = if full { (2_000, 5_400) } else { (140, 420) };
    // Debian's own settings.
    let graphite = Graphite::start_limited("1s:6h", 50, 500);
    // What is to be stated again has to be kept for as long as that takes.
    let launch = seconds_kept("3h", &graphite.plaintext_addr(), "counts = false\n");
    let tallyd = launch.with_store().with_tcp().start();
    let mut truth = Counts::new();
    count(&tallyd, series, &[time::unix_secs() - 300], &mut truth);
    // Buckets are a second wide: a rate is the count.
    let rate = |path: &str| format!("{}.rate", path.trim_end_matches(".count"));
    let truth: Counts = truth.into_iter().map(|((path, at), value)| ((rate(&path), at), value)).collect();
    time::sleep(Duration::from_secs(5));
    let (dropped, _) = missing(&graphite, &truth);
    step(&format!("{dropped} of {series} first points are not there after 5 s"));
    let (took, wrong, words) = written(&graphite, &truth, Duration::from_secs(patience));
    outcome.figure(format!("{series} new series, 50 files a minute: {dropped} first points missing after 5 s, {wrong} after {} s", took.as_secs() + 5));
    outcome.require(dropped > 0, "carbon made all files at once, so that this was no storm");
    outcome.require(wrong == 0, words);
    outcome.unexplained(wrong as i64);
}

/// A Graphite that reads as slowly as it is told: bytes a second, 0 is nothing at all.
struct Slow {
    port: u16,
    rate: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Slow {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (rate, stop) = (Arc::new(AtomicU64::new(u64::MAX)), Arc::new(AtomicBool::new(false)));
        let (ours, ends) = (Arc::clone(&rate), Arc::clone(&stop));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let (rate, stop) = (Arc::clone(&ours), Arc::clone(&ends));
                std::thread::spawn(move || drain(stream, &rate, &stop));
            }
        });
        Self { port, rate, stop }
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok();
    }
}

fn drain(mut stream: TcpStream, rate: &AtomicU64, stop: &AtomicBool) {
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out can be set");
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let bytes = match rate.load(Ordering::Relaxed) {
            u64::MAX => buffer.len(),
            rate => {
                time::sleep(Duration::from_millis(100));
                rate as usize / 10
            }
        };
        if bytes == 0 {
            continue;
        }
        match stream.read(&mut buffer[..bytes]) {
            Ok(0) => return,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return,
            _ => {}
        }
    }
}

/// What one phase of row 8 was like.
struct Phase {
    /// Lines counted of a hundred that were sent meanwhile.
    counted: f64,
    drops: u64,
    page_ms: f64,
    resident: u64,
}

/// How long an event is on its way to the page, in milliseconds: the mean of so many.
fn page_ms(tallyd: &Tallyd, probes: u64, before: u64) -> f64 {
    let mut sum = 0.0;
    for probe in 1..=probes {
        // Not in step with ticks.
        time::sleep(Duration::from_millis(probe * 37 % 250));
        let sent = time::now();
        tallyd.send_udp(b"probe:1|c");
        let wanted = (before + probe) as f64;
        let shown = || {
            let reply =
                http::get(tallyd.ports.http, "/api/v1/live.json").map(|reply| reply.body).unwrap_or_default();
            let page: Value = serde_json::from_str(&reply).unwrap_or_default();
            page["figures"][0]["values"][0]["number"].as_f64() == Some(wanted)
        };
        assert!(wait_until(Duration::from_secs(20), shown), "the page does not show {wanted}");
        sum += sent.elapsed().as_secs_f64() * 1e3;
    }
    sum / probes as f64
}

/// The same load before, at 1 KB/s and at nothing.
pub(crate) fn slow(outcome: &mut Outcome) {
    const PROBES: u64 = 60;
    outcome.wants_a_quiet_machine();
    let graphite = Slow::start();
    let toml = format!(
        "[flush]\nbucket = \"1s\"\ngrace = \"200ms\"\n[graphite]\naddress = [\"127.0.0.1:{}\"]\n[[figure]]\nid = \"probe\"\nmetric = \"probe\"\n",
        graphite.port
    );
    let tallyd = Launch::native(&toml).with_store().start();
    // Something to state, each second.
    for n in 0..1_000 {
        tallyd.send_udp(format!("series.n{n}:1|c").as_bytes());
    }
    time::sleep(Duration::from_secs(2));
    let mut phases = Vec::new();
    for (number, (name, rate)) in
        [("as usual", u64::MAX), ("1 KB/s", 1_000), ("nothing", 0)].into_iter().enumerate()
    {
        graphite.rate.store(rate, Ordering::Relaxed);
        time::sleep(Duration::from_secs(3));
        let (before, drops) = (Books::read(&tallyd).counted, kernel(tallyd.ports.statsd).0);
        let feed = Feed::start(&To::Udp(tallyd.ports.statsd), 100_000);
        let page_ms = page_ms(&tallyd, PROBES, number as u64 * PROBES);
        let sent = feed.stop() * LINES;
        let drops = kernel(tallyd.ports.statsd).0 - drops;
        wait_until(Duration::from_secs(10), || {
            Books::read(&tallyd).counted - before >= sent + PROBES - drops * LINES
        });
        let counted = Books::read(&tallyd).counted - before;
        outcome.unexplained((sent + PROBES) as i64 - (counted + drops * LINES) as i64);
        let resident = resident(tallyd.process.id());
        let phase =
            Phase { counted: counted as f64 * 100.0 / (sent + PROBES) as f64, drops, page_ms, resident };
        outcome.figure(format!(
            "{name}: counted {:.2} % of {sent} lines, dropped by the kernel {}, event to page {page_ms:.0} ms, {}",
            phase.counted,
            phase.drops * LINES,
            mb(resident)
        ));
        phases.push(phase);
    }
    let usual = &phases[0];
    for phase in &phases[1..] {
        outcome.require(phase.counted >= usual.counted - 5.0, "less was counted");
        // What lies below is the tick's and the page's own rhythm.
        let slower = phase.page_ms - usual.page_ms;
        outcome.require(
            slower <= (usual.page_ms * 0.05).max(25.0),
            format!("the page came {slower:.0} ms later"),
        );
        outcome.require(phase.resident <= usual.resident + (64 << 20), "memory grows");
    }
}
