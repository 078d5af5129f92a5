//! What happens at the limits: twice as many datagrams as can be read, and a million series.

use crate::load::{self, Limit, Payload, Sender};
use crate::subject::{Kind, Subject};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tallyd::clock;

const LINES: usize = 30;
/// How long the flood lasts in which the capacity is found, as a part of the overload.
const FLOOD_PART: u32 = 15;
/// The spinning process ends by itself after so long, should nobody be left to end it.
const SPIN: Duration = Duration::from_secs(120);

/// Another program that is never done, on the same core.
struct Spinner(Child);

impl Spinner {
    fn start() -> Self {
        let program = std::env::current_exe().expect("this program");
        let child = Command::new(program).arg("--spin").stdout(Stdio::null()).spawn();
        Self(child.expect("start the spinner"))
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// The spinner's own main.
pub(crate) fn spin() {
    let started = clock::monotonic_now();
    while clock::elapsed(started) < SPIN {
        std::hint::spin_loop();
    }
}

/// Twice the capacity: what the status page says was counted and dropped must be what was sent, to the datagram.
/// One sending core cannot outrun tallyd twice, so tallyd shares its core with a program that never sleeps.
pub(crate) fn overload(time: Duration) {
    println!("twice the capacity, 30 mixed lines a datagram, half a core");
    load::pin(0);
    let mut subject = Subject::start(Kind::Tallyd);
    let spinner = Spinner::start();
    load::pin(1);
    let (mut sender, payload) = (Sender::new(), Payload::mixed(LINES));
    let mut run = |limit: Limit| {
        let before = subject.books();
        let sent = sender.send(subject.port, &payload, limit);
        let started = clock::monotonic_now();
        subject.wait_drained();
        let seconds = (sent.time + clock::elapsed(started)).as_secs_f64();
        // It fails if anything is neither counted nor dropped.
        let after = subject.settled(before, sent.datagrams, payload.lines);
        let drops = after.drops - before.drops;
        (sent.datagrams, drops, sent.time.as_secs_f64(), (sent.datagrams - drops) as f64 / seconds)
    };
    run(Limit::count(payload.round(), 5_000.0));
    let (.., capacity) = run(Limit::time(time / FLOOD_PART));
    let (sent, drops, seconds, _) = run(Limit::paced(2.0 * capacity, time));
    drop(spinner);
    let line = |name: &str, value: String| println!("{:44} {value:>30}", format!("  {name}"));
    line("datagrams a second it can read", format!("{capacity:.0}"));
    line("datagrams sent a second", format!("{:.0}", sent as f64 / seconds));
    line("datagrams sent", sent.to_string());
    line("counted, by the status page", (sent - drops).to_string());
    line("dropped, by the status page", drops.to_string());
    line("sent, and neither", "0".to_owned());
}

/// A million counters in one bucket: what the whole process has in memory.
pub(crate) fn memory(series: usize) {
    println!("{series} counters in one bucket");
    load::pin(0);
    let mut subject = Subject::start(Kind::TallydOfOneBucket);
    load::pin(1);
    let (mut sender, payload) = (Sender::new(), Payload::of_series(series, LINES));
    let idle = subject.memory()[0];
    // Twice, since there are two generations; a little more slowly than names can be learned.
    for _ in 0..2 {
        let before = subject.books();
        let sent = sender.send(subject.port, &payload, Limit::count(payload.round(), 8_000.0));
        subject.wait_drained();
        let after = subject.settled(before, sent.datagrams, payload.lines);
        assert_eq!(after.drops, before.drops, "every series is counted");
    }
    let [now, most] = subject.memory();
    for (name, bytes) in [("idle", idle), ("with all of them", now), ("at most", most)] {
        println!("{:44} {:>30.0}", format!("  MB in memory, {name}"), bytes as f64 / 1e6);
    }
}
