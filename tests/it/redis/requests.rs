//! `POST /api/v1/samples` in front of Redis: once, whichever node the request comes to, and whatever is killed.

use super::nodes::{SETTLED, node};
use super::server::{APPEND, Server};
use crate::samples::total;
use crate::support::{Launch, Tallyd, http, time, wait_until};

fn send(node: &Tallyd, key: &str, lines: &str) -> u16 {
    let headers = [("Idempotency-Key", key)];
    http::request(node.ports.http, "POST", "/api/v1/samples", &headers, lines).unwrap().status
}

/// Whether a node reaches the store to answer a question.
fn answers(node: &Tallyd) -> bool {
    node.http_get("/api/v1/query?name=shop.paid").status == 200
}

#[test]
fn a_request_that_comes_to_two_nodes_counts_once() {
    let mut redis = Server::start(&APPEND);
    let launches = [(); 2].map(|()| node(&redis.url(), None, ""));
    let [first, second] = launches.each_ref().map(Launch::start);
    let at = time::unix_secs() - 40;
    let lines =
        |n: u32| format!("shop.paid:{n}|c\nweb.seen:1|c\nshop.paid:{n}|c|T{at}\nweb.seen:1|c|T{}", at - 20);
    let mut sent = 0;
    for n in 0..20 {
        for node in [&first, &second, &first] {
            assert_eq!(send(node, &format!("order-{n}"), &lines(n)), 202);
        }
        sent += 2 * n;
    }
    // While Redis is away requests are in the journal, which is what was promised; the node that has one is killed, and
    // the client turns to the other.
    redis.kill();
    for n in 20..30 {
        assert_eq!(send(&first, &format!("order-{n}"), &lines(n)), 202);
        sent += 2 * n;
    }
    first.kill9();
    for n in 20..30 {
        assert_eq!(send(&second, &format!("order-{n}"), &lines(n)), 202);
    }
    redis.start_again();
    let first = launches[0].start();
    // A node asks Redis again within a second of being told that it is away.
    for node in [&first, &second] {
        assert!(wait_until(SETTLED, || answers(node)));
    }
    let mut found = Vec::new();
    let right = wait_until(SETTLED, || {
        found = [&first, &second].map(|node| (total(node, "shop.paid"), total(node, "web.seen"))).to_vec();
        found == [(f64::from(sent), 60.0); 2]
    });
    assert!(right, "{found:?} of {sent} and 60");
    // What has settled stays as it is when the first node has sent its journal, and both are asked again.
    for n in 0..30 {
        assert_eq!(
            (send(&first, &format!("order-{n}"), &lines(n)), send(&second, &format!("order-{n}"), &lines(n))),
            (202, 202)
        );
    }
    assert_eq!((first.sigterm(), second.sigterm()), (Some(0), Some(0)));
    let last = launches[0].start();
    assert!(wait_until(SETTLED, || answers(&last) && total(&last, "shop.paid") > 0.0));
    assert_eq!((total(&last, "shop.paid"), total(&last, "web.seen")), (f64::from(sent), 60.0));
}
