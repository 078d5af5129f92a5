//! Unmodified statsd clients of four languages' users: what applications really put on the wire.
//!
//! Each sends a seeded stream of operations to a statsd port and says what it meant, in its own words; out
//! go those operations in order. Each has names of its own, so the four may send at the same time. cadence
//! runs in this process, the others are the programs in `tests/clients`.

use super::truth::{Change, Operation};
use super::{client_node, client_python, repository, time};
use cadence::prelude::*;
use cadence::{BufferedUdpMetricSink, StatsdClient};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

/// What every name of one client begins with; no other series does.
pub(crate) const PREFIXES: [&str; 4] = ["cadence.", "pystatsd.", "dogstatsd.", "hotshots."];

const NAMES: [&str; 2] = ["orders", "checkout.cart-top"];
const SHOPS: [&str; 2] = ["paris", "la_rochelle"];
/// A pause after so many lines keeps loopback from dropping any.
const PAUSE_EVERY: usize = 20;
const PAUSE: Duration = Duration::from_millis(1);

/// Lets all four send `count_each` operations at the same time; returns when the last has ended.
pub(crate) fn send_all(port: u16, seed: u64, count_each: usize) -> Vec<Operation> {
    let programs = [
        (client_python(), "tests/clients/send_statsd.py"),
        (client_python(), "tests/clients/send_datadog.py"),
        (client_node(), "tests/clients/send_hotshots.js"),
    ];
    std::thread::scope(|scope| {
        let external = programs.map(|(interpreter, program)| {
            scope.spawn(move || send_external(interpreter, program, port, seed, count_each))
        });
        let mut operations = send_cadence(port, seed, count_each);
        for client in external {
            operations.extend(client.join().expect("a client's thread ends well"));
        }
        operations
    })
}

fn send_external(
    mut interpreter: Command,
    program: &str,
    port: u16,
    seed: u64,
    count: usize,
) -> Vec<Operation> {
    interpreter.arg(repository(program)).arg("127.0.0.1").args([port.to_string(), seed.to_string()]);
    let output = interpreter.arg(count.to_string()).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; run tests/setup"));
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8(output.stdout).expect("JSON is UTF-8");
    let operations: Vec<_> = stdout.lines().map(Operation::from_json).collect();
    assert_eq!(operations.len(), count, "{program}");
    operations
}

fn send_cadence(port: u16, seed: u64, count: usize) -> Vec<Operation> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a UDP socket");
    let sink = BufferedUdpMetricSink::from((Ipv4Addr::LOCALHOST, port), socket).expect("cadence's sink");
    let client = StatsdClient::from_sink("cadence", sink);
    let mut random = StdRng::seed_from_u64(seed);
    let mut operations = Vec::with_capacity(count);
    for number in 0..count {
        operations.push(send_with_cadence(&client, &mut random));
        if number % PAUSE_EVERY == 0 {
            time::sleep(PAUSE);
        }
    }
    client.flush().expect("cadence's buffer leaves");
    operations
}

/// Sends one operation; a tag `shop` is there half the time.
fn send_with_cadence(client: &StatsdClient, random: &mut StdRng) -> Operation {
    let name = *NAMES.choose(random).expect("there are names");
    let shop = random.random_bool(0.5).then(|| *SHOPS.choose(random).expect("there are shops"));
    let cents: u32 = random.random_range(0..50_000);
    let euros = f64::from(cents) / 100.0;
    macro_rules! send {
        ($method:ident, $kind:literal, $value:expr, $change:expr) => {{
            let key = format!(concat!($kind, ".{}"), name);
            let builder = client.$method(&key, $value);
            let builder = if let Some(shop) = shop { builder.with_tag("shop", shop) } else { builder };
            builder.try_send().expect("cadence sends");
            (key, $change)
        }};
    }
    let (key, change) = match random.random_range(0..10) {
        0..=2 => send!(count_with_tags, "counter", i64::from(cents), Change::Count(f64::from(cents))),
        3 => send!(count_with_tags, "counter", -1_i64, Change::Count(-1.0)),
        4 => send!(gauge_with_tags, "gauge", euros, Change::Gauge(euros)),
        5 => send!(time_with_tags, "timing", u64::from(cents), Change::Time(f64::from(cents))),
        6 => send!(histogram_with_tags, "histogram", euros, Change::Time(euros)),
        7 => send!(distribution_with_tags, "distribution", euros, Change::Time(euros)),
        _ => {
            let member = i64::from(cents % 150);
            send!(set_with_tags, "set", member, Change::Member(member.to_string()))
        }
    };
    let tags: BTreeMap<_, _> = shop.map(|shop| ("shop".to_owned(), shop.to_owned())).into_iter().collect();
    Operation { name: format!("cadence.{key}"), tags, change }
}
