//! What may be wrong with Graphite, with carbon's limits and rules, and in a running tallyd's books.

use super::{Answering, Machine};
use crate::support::Graphite;
use std::fs;

#[test]
fn a_graphite_that_is_not_reached() {
    let to = |address: &str| Machine::sound().set(&format!("graphite.address={address}"));
    to("127.0.0.1:1").ails_among_others(&["nobody listens at 127.0.0.1:1", "carbon-cache"]);
    to("nowhere.invalid:2003").ails(&["nowhere.invalid:2003 is not reached", "getent hosts"]);
    // A network for documents, where nobody is: what says so depends on the machine.
    to("192.0.2.1:2003").ails(&["192.0.2.1:2003"]);
    assert!(to("").is_sound().contains("sent nowhere"));
}

#[test]
fn a_graphite_that_is_spoken_to_in_the_wrong_protocol() {
    let text = Machine::sound().set("graphite.address=127.0.0.1:2004");
    text.ails_among_others(&["text is sent to 127.0.0.1:2004", "graphite.protocol = \"pickle\""]);
    let pickle = Machine::sound().set("graphite.address=127.0.0.1:2003").set("graphite.protocol=pickle");
    pickle.ails_among_others(&["pickles is sent to 127.0.0.1:2003", "graphite.protocol = \"plaintext\""]);
}

/// carbon.conf with its right port and more.
fn carbon(more: &str) -> Machine {
    let machine = Machine::sound();
    let port = machine.graphite.port();
    machine.file("carbon/carbon.conf", &format!("[cache]\nLINE_RECEIVER_PORT = {port}\n{more}\n"))
}

#[test]
fn carbons_limits() {
    carbon("MAX_CREATES_PER_MINUTE = 50").ails(&["50 new names a minute", "MAX_CREATES_PER_MINUTE = inf"]);
    carbon("[cache:b]\nMAX_CREATES_PER_MINUTE = 60").ails(&["60 new names a minute"]);
    carbon("MAX_CACHE_SIZE = 10000\nUSE_FLOW_CONTROL = False")
        .ails(&["drops points once 10000 wait", "USE_FLOW_CONTROL"]);
    carbon("MAX_CACHE_SIZE = 10000\nUSE_FLOW_CONTROL = True").is_sound();
    assert!(carbon("USE_WHITELIST = True").is_sound().contains("whitelist"));
    let elsewhere = Machine::sound().file("carbon/carbon.conf", "[cache]\nLINE_RECEIVER_PORT = 2103\n");
    elsewhere.ails(&["is no port of this carbon's", "LINE_RECEIVER_PORT is 2103"]);
    let nowhere = Machine::sound();
    fs::remove_file(nowhere.path("carbon/carbon.conf")).unwrap();
    nowhere.ails(&["there is no carbon.conf", "--carbon"]);
}

#[test]
fn carbons_files_are_found_where_packages_put_them() {
    let mut machine = Machine::sound();
    machine.carbon = None;
    assert!(machine.is_sound().contains("carbon's files are not here"));
    fs::create_dir_all(machine.path("root/opt/graphite")).unwrap();
    fs::rename(machine.path("carbon"), machine.path("root/opt/graphite/conf")).unwrap();
    machine
        .file("root/opt/graphite/conf/carbon.conf", "[cache]\nMAX_CREATES_PER_MINUTE = 50\n")
        .ails(&["50 new names"]);
}

#[test]
fn rules_that_do_not_do_what_ours_do() {
    let schemas = |text: &str| Machine::sound().file("carbon/storage-schemas.conf", text);
    schemas("[default]\npattern = .*\nretentions = 60s:1d,5m:30d\n").ails(&[
        "stats.counters.shop.orders.rate and 17 more",
        "every 60 s ([default]",
        "graphite-rules --only schemas",
    ]);
    schemas("[carbon]\npattern = ^carbon\\.\nretentions = 60:90d\n").ails(&["every 60 s (no rule"]);
    schemas("[all]\npattern = .*\nretentions = 1s:1d\n").ails(&["every 1 s", "stay empty"]);
    schemas("[all]\npattern = .*\nretentions = 10s:2h,1m:30d\n").ails(&["reach back 7200 s", "should 43200"]);
    schemas("[odd]\npattern = (?<!x)y\nretentions = 60:90d\n[all]\npattern = .*\nretentions = 10:8640\n")
        .is_sound();
    let aggregation = |text: &str| Machine::sound().file("carbon/storage-aggregation.conf", text);
    let averaged = aggregation("[all]\npattern = .*\nxFilesFactor = 0\naggregationMethod = average\n");
    averaged.ails_among_others(&[
        "counters.shop.orders.count and",
        "average, xFilesFactor 0 ([all]",
        "right is sum",
    ]);
    averaged.ails_among_others(&["upper", "right is max"]);
    averaged.ails_among_others(&["stats.gauges.shop.stock are", "right is last"]);
    // A count that is thinned out by the right method still goes where half of its step is empty.
    let ours = fs::read_to_string(Machine::sound().path("carbon/storage-aggregation.conf")).unwrap();
    let sparse = ours.replacen("xFilesFactor = 0", "xFilesFactor = 0.5", 1);
    aggregation(&sparse).ails(&["sum, xFilesFactor 0.5", "right is sum, xFilesFactor 0"]);
    // Rules of somebody else's before ours that match other names do no harm.
    aggregation(&format!("[carbon]\npattern = ^carbon\\.\nxFilesFactor = 1\n{ours}")).is_sound();
    let none = Machine::sound();
    fs::remove_file(none.path("carbon/storage-schemas.conf")).unwrap();
    none.ails(&["there is no", "storage-schemas.conf", "graphite-rules --only schemas"]);
}

/// graphite-web's answer with one series.
fn agents(name: &str, values: &str, more: &str) -> String {
    format!("[{{\"target\": \"carbon.agents.host-a.{name}\", \"datapoints\": [{values}]}}{more}]")
}

#[test]
fn what_carbon_says_of_itself() {
    let says = |body: &str| {
        let web = Answering::start("200 OK", body);
        let url = web.url();
        (Machine::sound().with(&["--render", &url]), web)
    };
    let (machine, _web) =
        says(&agents("droppedCreates", "[0.0, 60], [12.0, 120], [30.0, 180], [null, 240]", ""));
    machine.ails(&["carbon.agents.host-a.droppedCreates is 42", "MAX_CREATES_PER_MINUTE = inf"]);
    let (machine, _web) = says(&agents("cache.overflow", "[5.0, 60]", ""));
    machine.ails(&["cache was full", "MAX_CACHE_SIZE"]);
    let (machine, _web) = says(&agents("errors", "[1.0, 60]", ""));
    machine.ails(&["writes to whisper's files failed", "carbon's log"]);
    let written = ", {\"target\": \"carbon.agents.host-a.committedPoints\", \"datapoints\": [[100.0, 60]]}";
    let (machine, _web) = says(&agents("cache.size", "[5000.0, 60]", written));
    machine.ails(&["falls behind", "MAX_UPDATES_PER_SECOND"]);
    let (machine, _web) = says(&agents("cache.size", "[500.0, 60]", written));
    assert!(machine.is_sound().contains("dropped nothing and keeps up"));
    let (machine, _web) = says("[]");
    assert!(machine.is_sound().contains("no carbon.agents"));
    let (machine, _web) = says("<html>");
    machine.ails(&["does not answer as graphite-web does"]);
    Machine::sound().with(&["--render", "http://127.0.0.1:1"]).ails(&["does not answer", "graphite-web"]);
    Machine::sound().with(&["--render", "https://127.0.0.1:1"]).ails(&["http:// only"]);
}

#[test]
fn a_graphite_whose_clock_is_another() {
    let now = std::process::Command::new("date").args(["-u", "-R", "-d", "-90 seconds"]).output().unwrap();
    let date = String::from_utf8(now.stdout).unwrap();
    let web = Answering::start(&format!("200 OK\r\nDate: {}", date.trim()), "[]");
    Machine::sound().with(&["--render", &web.url()]).ails(&["s apart", "NTP"]);
}

#[test]
fn a_real_graphite_with_our_rules_is_sound() {
    let machine = Machine::sound();
    let rules =
        |part: &str| fs::read_to_string(machine.path(&format!("carbon/storage-{part}.conf"))).unwrap();
    let graphite = Graphite::start_with(&rules("schemas"), &rules("aggregation"));
    let (conf, web) = (graphite.conf(), format!("http://127.0.0.1:{}", graphite.web_port()));
    let machine =
        machine.set(&format!("graphite.address={}", graphite.plaintext_addr())).with(&["--render", &web]);
    let mut machine = machine;
    machine.carbon = Some(conf);
    assert!(machine.is_sound().contains("no carbon.agents"));
}

/// A tallyd whose books say this.
fn in_trouble(pointer: &str, value: &str) -> (Machine, Answering) {
    let mut status: serde_json::Value = serde_json::from_str(
        "{\"version\": \"0.1.0\", \"counted\": 100, \"refused\": {}, \"refused_total\": 0, \"last_refused\": {}, \"kernel_drops\": 0,
          \"series\": 5, \"ticks\": {\"clock_steps\": 0}, \"store\": {\"durable\": true, \"damaged\": 0, \"buckets_shed\": 0},
          \"graphite\": [{\"address\": \"g:2003\", \"failing\": false, \"lag_seconds\": 1.5, \"buckets_waiting\": 0, \"failures\": 0, \"unsendable\": 0}]}",
    )
    .unwrap();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let value = serde_json::from_str(value).unwrap();
    match status.pointer_mut(parent).unwrap() {
        serde_json::Value::Object(object) => drop(object.insert(name.to_owned(), value)),
        other => panic!("{other}"),
    }
    let web = Answering::start("200 OK", &status.to_string());
    (Machine::sound().set(&format!("http.listen=127.0.0.1:{}", web.port)), web)
}

#[test]
fn what_a_running_tallyd_says_is_wrong() {
    let (sound, _web) = in_trouble("/series", "5");
    assert!(sound.is_sound().contains("nothing to complain of"));
    let cases: [(&str, &str, &[&str]); 10] = [
        ("/kernel_drops", "7", &["dropped 7 datagrams", "ingest.receive_buffer"]),
        ("/refused_total", "7", &["7 values or lines were refused", "docs/metrics.md"]),
        ("/ticks/clock_steps", "2", &["set by a second or more 2 times", "slewed"]),
        ("/series", "950000", &["950000 series are known", "limits.series_max"]),
        ("/store/damaged", "3", &["3 parts of the store did not read back", "tallyd restore"]),
        (
            "/store/redis",
            "{\"buckets_due\": 341, \"partitions\": 17}",
            &["341 buckets are over and not sealed", "flush.tick"],
        ),
        ("/store/buckets_shed", "4", &["4 buckets were let go", "limits.memory_max"]),
        ("/graphite/0/failing", "true", &["g:2003 is behind", "bring that Graphite back"]),
        ("/graphite/0/lag_seconds", "600", &["the oldest for 600 s"]),
        ("/graphite/0/unsendable", "5", &["5 points could not be sent", "250 bytes"]),
    ];
    for (pointer, value, words) in cases {
        let (machine, _web) = in_trouble(pointer, value);
        machine.ails(words);
    }
    let (machine, _web) = in_trouble("/store/redis", "{\"buckets_due\": 340, \"partitions\": 17}");
    machine.is_sound();
    let (machine, _web) = in_trouble(
        "/store",
        "{\"durable\": false, \"not_durable\": {\"reason\": \"No space left\", \"since_ms\": 5}}",
    );
    machine.ails(&["does not reach the disk now: No space left"]);
    let (machine, _web) = in_trouble(
        "/store",
        "{\"durable\": false, \"not_durable\": {\"reason\": \"store.url is memory:\", \"since_ms\": 5}}",
    );
    machine.is_sound();
}

#[test]
fn somebody_else_at_our_port() {
    let web = Answering::start("401 Unauthorized", "{}");
    let machine = Machine::sound().set(&format!("http.listen=127.0.0.1:{}", web.port));
    machine.ails_among_others(&["is no tallyd, or does not know us: HTTP/1.1 401", "tokens"]);
    machine.ails_among_others(&["HTTP 127.0.0.1:", "is in use by"]);
    // A server that takes the connection and says nothing at all; the doctor does not wait for ever.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("http.listen={}", mute.local_addr().unwrap());
    Machine::sound()
        .set(&listen)
        .ails_among_others(&["is no tallyd, or does not know us", "no answer came within 3 s"]);
}
