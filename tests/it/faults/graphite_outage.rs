//! Graphite away, killed, or asked for at the last moment: every event still arrives, in its own bucket.
//!
//! The pretended Graphite shows each line that tallyd writes; the real one shows what is left after carbon
//! has lost its memory. Events are sent in the middle of a second, so that the second in which the test
//! sends them is the one in which tallyd receives them.

use crate::support::sink::{self, Points};
use crate::support::{Graphite, Launch, Sink, Tallyd, time};
use std::collections::BTreeMap;
use std::time::Duration;

const EVENTS_PATH: &str = "stats.counters.shop.events.count";
const EVENTS_PER_SECOND: usize = 100;
/// Events leave from here on in each second, spread over less than half of it.
const SEND_OFFSET: Duration = Duration::from_millis(250);
const SEND_PAUSE: Duration = Duration::from_millis(3);
/// And until here at the latest.
const SEND_UNTIL_MS: u32 = 700;
/// After an outage tallyd may wait a little before it tries again.
const CATCH_UP_DEADLINE: Duration = Duration::from_secs(20);

/// Events sent, by the second.
type Sent = BTreeMap<i64, f64>;

#[test]
fn an_outage_of_half_the_time_costs_no_event() {
    let mut graphite = Sink::start();
    let tallyd = launch_with_seconds(&graphite.address()).start();
    let mut sent = Sent::new();
    send_for_seconds(&tallyd, 8, &mut sent);
    graphite.stop();
    send_for_seconds(&tallyd, 15, &mut sent);
    graphite.start_again();
    send_for_seconds(&tallyd, 7, &mut sent);

    let total = (30 * EVENTS_PER_SECOND) as f64;
    let complete = |points: &Points| sink::sum_of(points, EVENTS_PATH) == total;
    let arrived = graphite.wait_for(CATCH_UP_DEADLINE, complete);
    assert!(arrived.is_some(), "{:?}", by_second(&graphite.points()));
    assert_eq!(tallyd.sigterm(), Some(0), "nothing is left undelivered");
    assert_eq!(by_second(&graphite.points()), sent);
}

#[test]
fn a_stop_half_a_second_after_the_events_delivers_them() {
    let graphite = Sink::start();
    let tallyd = Launch::native(&format!(
        "[flush]\nbucket = \"10s\"\n[graphite]\naddress = [\"{}\"]\n",
        graphite.address()
    ))
    .start();
    for _ in 0..100 {
        tallyd.send_udp("shop.events:1|c\n".repeat(10).as_bytes());
    }
    time::sleep(Duration::from_millis(500));
    assert_eq!(tallyd.sigterm(), Some(0), "nothing is left undelivered");
    assert_eq!(sink::sum_of(&graphite.points(), EVENTS_PATH), 1_000.0);
}

/// A carbon that ends in order writes out what it holds; one that is killed loses what it had accepted, which
/// tallyd states again when it is back.
#[test]
fn a_real_carbon_that_stops_and_is_killed_ends_with_every_event() {
    let mut graphite = Graphite::start("1s:1h");
    let tallyd = launch_with_seconds(&graphite.plaintext_addr()).start();
    let started = time::unix_secs();
    let mut sent = Sent::new();
    send_for_seconds(&tallyd, 3, &mut sent);
    graphite.stop();
    send_for_seconds(&tallyd, 3, &mut sent);
    graphite.start_again();
    send_for_seconds(&tallyd, 3, &mut sent);
    graphite.kill9();
    send_for_seconds(&tallyd, 3, &mut sent);
    graphite.start_again();
    send_for_seconds(&tallyd, 2, &mut sent);

    let mut read = Sent::new();
    let complete = time::wait_until(CATCH_UP_DEADLINE, || {
        let series = graphite.render(EVENTS_PATH, started - 2, time::unix_secs());
        let points = series.into_iter().flat_map(|(_, points)| points);
        read = points.filter_map(|(value, at)| Some((at, value.filter(|value| *value != 0.0)?))).collect();
        read == sent
    });
    assert!(complete, "sent {sent:?}\nread {read:?}");
    assert_eq!(tallyd.sigterm(), Some(0), "nothing is left undelivered");
}

/// tallyd with buckets of a second.
fn launch_with_seconds(graphite: &str) -> Launch {
    Launch::native(&format!(
        "[flush]\nbucket = \"1s\"\ngrace = \"200ms\"\n[graphite]\naddress = [\"{graphite}\"]\n"
    ))
}

/// Sends [`EVENTS_PER_SECOND`] single events in the middle of each of the next seconds.
fn send_for_seconds(tallyd: &Tallyd, seconds: i64, sent: &mut Sent) {
    let first = time::unix_secs() + 1;
    for second in first..first + seconds {
        time::sleep_until(second, SEND_OFFSET);
        for _ in 0..EVENTS_PER_SECOND {
            // On a busy machine the pauses grow; near a border nobody knows which second an event falls in.
            if time::since_epoch().subsec_millis() > SEND_UNTIL_MS {
                time::sleep_until(time::unix_secs() + 1, SEND_OFFSET);
            }
            *sent.entry(time::unix_secs()).or_default() += 1.0;
            tallyd.send_udp(b"shop.events:1|c");
            time::sleep(SEND_PAUSE);
        }
    }
}

/// What arrived of the events, by second, without the zeros of seconds that had none.
fn by_second(points: &Points) -> Sent {
    let events = points.iter().filter(|((path, _), value)| path == EVENTS_PATH && **value != 0.0);
    events.map(|((_, at), value)| (*at, *value)).collect()
}
