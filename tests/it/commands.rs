//! What people and machines ask of tallyd: the console, HTTP, and the commands beside `run`.

use crate::books::{Books, log, refuses_to_start, seconds};
use crate::support::process::Process;
use crate::support::{Launch, Sink, Tallyd, http, time};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(20);
/// The demo makes weeks of a past first, unoptimised here and beside other tests.
const DEMO_TIMEOUT: Duration = Duration::from_secs(90);

/// Runs tallyd with these arguments to its end, without settings from our own environment.
fn tallyd(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tallyd"));
    command.args(arguments);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TALLYD_")) {
        command.env_remove(name);
    }
    command.output().expect("tallyd starts")
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Sends bytes to a port of this machine and reads until the end, which may be a reset.
fn exchange(port: u16, bytes: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.write_all(bytes.as_bytes()).unwrap();
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
    }
    String::from_utf8(answer).unwrap()
}

#[test]
fn the_console_answers_every_command_and_several_at_once() {
    let launch = Launch::native("[flush]\nbucket = \"1h\"\n[graphite]\naddress = []");
    let tallyd = launch.start();
    tallyd.send_udp(b"shop.orders:3|c\nshop.stock:7|g\nshop.time:20|ms\nshop.time:10|ms\nshop.bad:x|c");
    Books::wait_total(&tallyd, 5);
    assert!(tallyd.console("help").starts_with("Commands: stats, counters, timers, gauges, delcounters"));
    let stats = tallyd.console("stats");
    for line in ["uptime: ", "messages.last_msg_seen: ", "messages.bad_lines_seen: 1\n"] {
        assert!(stats.contains(line), "{stats}");
    }
    assert!(stats.ends_with("END\n\n"), "{stats}");
    assert!(tallyd.console("counters").contains("'shop.orders': 3"), "{}", tallyd.console("counters"));
    assert!(tallyd.console("gauges").contains("'shop.stock': 7"));
    assert!(tallyd.console("timers").contains("'shop.time': [ 20, 10 ]"), "{}", tallyd.console("timers"));
    assert_eq!(
        tallyd.console("delcounters shop.orders nothing"),
        "deleted: shop.orders\nmetric nothing not found\nEND\n\n"
    );
    assert!(!tallyd.console("counters").contains("shop.orders"));
    assert_eq!(tallyd.console("deltimers shop.*"), "deleted: shop.time\nEND\n\n");
    assert_eq!(tallyd.console("delgauges"), "END\n\n");
    assert_eq!(tallyd.console("delgauges shop.stock"), "deleted: shop.stock\nEND\n\n");
    assert!(tallyd.console("config").contains("flush > bucket: "), "{}", tallyd.console("config"));
    assert_eq!(tallyd.console("COUNTERS"), "ERROR\n");
    assert_eq!(tallyd.console(""), "ERROR\n");

    let port = tallyd.ports.console;
    assert_eq!(
        exchange(port, "health\nhealth down\r\nnonsense\nhealth up\nquit\nhealth\n"),
        "health: up\nhealth: down\nERROR\nhealth: up\n"
    );
    // A command without its newline counts after a moment; one connection may go on for long.
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    for _ in 0..3 {
        stream.write_all(b"health").unwrap();
        let mut answer = [0; 11];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"health: up\n");
    }
    assert_eq!(exchange(port, &"x".repeat(20_000)), "ERROR\n");
}

#[test]
fn the_console_hangs_up_on_browsers() {
    let tallyd = seconds("127.0.0.1:9", "").start();
    tallyd.send_udp(b"precious:1|c");
    Books::wait_total(&tallyd, 1);
    for verb in ["GET", "POST", "HEAD", "PUT", "OPTIONS", "DELETE", "CONNECT"] {
        let request = format!("{verb} / HTTP/1.1\r\nHost: x\r\n\r\ndelcounters precious\r\n");
        assert_eq!(exchange(tallyd.ports.console, &request), "", "{verb}");
    }
    // What a server elsewhere gave a browser to keep comes in its next handshake, wherever that leads.
    let handshake = "\u{16}\u{3}\u{1}\u{0}kept\ndelcounters precious\n";
    assert_eq!(exchange(tallyd.ports.console, handshake), "");
    assert!(tallyd.console("counters").contains("precious"));
}

#[test]
fn http_answers_who_names_it_and_shows_figures_that_parse() {
    let tallyd = seconds("127.0.0.1:9", "").start();
    tallyd.send_udp(b"good:1|c\nbad:x|c");
    Books::wait_total(&tallyd, 2);
    let port = tallyd.ports.http;
    for path in ["/", "/health/live", "/health/ready", "/api/v1/status", "/metrics"] {
        assert_eq!(tallyd.http_get(path).status, 200, "{path}");
        for headers in ["Host: evil.example\r\n", "Host: localhost\r\nOrigin: http://evil.example\r\n", ""] {
            let reply = exchange(port, &format!("GET {path} HTTP/1.1\r\n{headers}Connection: close\r\n\r\n"));
            assert!(reply.starts_with("HTTP/1.1 421 "), "{path} {headers}: {reply}");
        }
    }
    assert_eq!(tallyd.http_get("/nowhere").status, 404);
    assert_eq!(http::request(port, "POST", "/api/v1/status", &[], "x").unwrap().status, 405);

    let metrics = tallyd.http_get("/metrics").body;
    let samples: Vec<&str> =
        metrics.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(samples.len() > 20, "{metrics}");
    for line in &samples {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let ours = name.starts_with("tallyd_") || name.starts_with("process_");
        assert!(ours && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{line}");
        let inner = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}"));
        for label in inner.split(',').filter(|label| !label.is_empty()) {
            let (_, quoted) = label.split_once('=').unwrap_or_else(|| panic!("{line}"));
            assert!(quoted.len() >= 2 && quoted.starts_with('"') && quoted.ends_with('"'), "{line}");
        }
    }
    assert!(samples.contains(&"tallyd_samples_total 1"), "{metrics}");
    assert!(samples.contains(&"tallyd_refused_total{reason=\"bad_value\"} 1"), "{metrics}");
}

#[test]
fn who_was_forwarded_shows_a_token() {
    let tallyd = seconds("127.0.0.1:9", "[http]\ntokens = [\"s3cret\", \"other\"]").start();
    let status = |headers: &[(&str, &str)], path: &str| {
        http::request(tallyd.ports.http, "GET", path, headers, "").unwrap().status
    };
    let forwarded = ("X-Forwarded-For", "203.0.113.9");
    for path in ["/", "/api/v1/status", "/metrics"] {
        assert_eq!(status(&[], path), 200);
        assert_eq!(status(&[forwarded], path), 401);
        assert_eq!(status(&[("Forwarded", "for=203.0.113.9")], path), 401);
        for wrong in ["Bearer s3cre", "Bearer s3crets", "Bearer ", "s3cret", "Basic s3cret", "bearer"] {
            assert_eq!(status(&[forwarded, ("Authorization", wrong)], path), 401, "{wrong}");
        }
        for right in ["Bearer s3cret", "Bearer other"] {
            assert_eq!(status(&[forwarded, ("Authorization", right)], path), 200, "{right}");
        }
    }
    assert_eq!(status(&[forwarded], "/health/ready"), 200, "health says nothing that is worth a token");
}

#[test]
fn a_port_in_use_ends_the_start_and_names_its_key() {
    let launch = seconds("127.0.0.1:9", "");
    let first = launch.start();
    let places = [
        ("TALLYD_INGEST_UDP", first.ports.statsd, "ingest.udp"),
        ("TALLYD_CONSOLE_LISTEN", first.ports.console, "console.listen"),
        ("TALLYD_HTTP_LISTEN", first.ports.http, "http.listen"),
    ];
    for (variable, port, key) in places {
        let address = format!("127.0.0.1:{port}");
        let log = refuses_to_start(&seconds("127.0.0.1:9", "").env(variable, &address));
        assert!(log.contains(key) && log.contains(&address), "{log}");
    }
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let log = refuses_to_start(&seconds("127.0.0.1:9", "").env("TALLYD_INGEST_TCP", &address));
    assert!(log.contains("ingest.tcp") && log.contains(&address), "{log}");
    first.send_udp(b"a:1|c");
    Books::wait(&first, |books| books.counted == 1);
}

/// Without privileges the kernel gives `net.core.rmem_max` at most, and what it gives is what we measure.
#[test]
fn a_receive_buffer_that_is_too_small_is_warned_of() {
    let socket = socket2::Socket::from(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    socket.set_recv_buffer_size(1 << 28).unwrap();
    let given = socket.recv_buffer_size().unwrap() / 2;
    for (asked, warned) in [(given, false), (2 * given, true)] {
        let launch = seconds("127.0.0.1:9", "");
        start_unprivileged(&launch, asked);
        let text = log(&launch);
        assert_eq!(text.contains("net.core.rmem_max"), warned, "{text}");
        if warned {
            assert!(text.contains(&given.to_string()) && text.contains(&asked.to_string()), "{text}");
        }
    }
    // Where the buffer may be forced, asking for the most there is must not be answered with advice.
    let most = seconds("127.0.0.1:9", "[ingest]\nreceive_buffer = \"512MiB\"");
    let may_force =
        nix::sys::socket::setsockopt(&socket.as_fd(), nix::sys::socket::sockopt::RcvBufForce, &(1 << 20))
            .is_ok();
    let running = most.start();
    assert_eq!(log(&most).contains("net.core.rmem_max"), !may_force, "{}", log(&most));
    drop(running);
}

/// Starts it without the right to force its receive buffer, and ends it when it is ready.
fn start_unprivileged(launch: &Launch, receive_buffer: usize) {
    let at = |port: u16| format!("127.0.0.1:{port}");
    let mut command = Command::new("setpriv");
    command
        .args([
            "--inh-caps=-net_admin",
            "--bounding-set=-net_admin",
            "--",
            env!("CARGO_BIN_EXE_tallyd"),
            "run",
        ])
        .env("TALLYD_STORE_URL", "memory:")
        .env("TALLYD_INGEST_RECEIVE_BUFFER", receive_buffer.to_string())
        .env("RUNTIME_DIRECTORY", launch.dir())
        .env("TALLYD_INGEST_UDP", at(launch.ports.statsd))
        .env("TALLYD_CONSOLE_LISTEN", at(launch.ports.console))
        .env("TALLYD_HTTP_LISTEN", at(launch.ports.http));
    let mut process = Process::start("tallyd", &command, launch.dir());
    process.wait_ready(TIMEOUT, |process| process.stdout().contains("tallyd is up"));
}

#[test]
fn check_says_what_will_happen_or_lists_every_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good =
        file("good.toml", "[flush]\nbucket = \"1s\"\n[graphite]\naddress = [\"graphite.example:2003\"]\n");
    let output = tallyd(&["check", "--config", &good]);
    let text = out(&output);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    for part in [
        "Listens:  UDP [::]:8125",
        "in buckets of 1s",
        "graphite.example:2003",
        "stats.counters.shop.orders.count",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }

    let bad = file(
        "bad.toml",
        "[flush]\nbucket = \"fast\"\nbukket = 1\n[ingest]\nudp = [\"nowhere\"]\n[idle]\nsets = 3\n",
    );
    let output = tallyd(&["check", "--config", &bad]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(1), ""));
    for key in ["flush.bucket", "flush.bukket", "ingest.udp", "idle.sets"] {
        assert!(errors(&output).contains(key), "{key}: {}", errors(&output));
    }
    // run refuses the same file with the same words.
    let refused = tallyd(&["run", "--config", &bad]);
    assert_eq!((refused.status.code(), errors(&refused)), (Some(1), errors(&output)));
    assert_eq!(tallyd(&["check", "--config", "absent.toml"]).status.code(), Some(1));
    assert_eq!(tallyd(&["chekc"]).status.code(), Some(2));
}

#[test]
fn what_migrate_prints_is_accepted_by_check() {
    let folder = tempfile::tempdir().unwrap();
    let (statsd, toml) = (folder.path().join("statsd.js"), folder.path().join("tallyd.toml"));
    std::fs::write(
        &statsd,
        "// ours\n{ graphiteHost: 'graphite.example', flushInterval: 5000, percentThreshold: [90, 99],
      deleteIdleStats: true, graphite: { legacyNamespace: false, globalSuffix: 'host1' }, }\n",
    )
    .unwrap();
    let output = tallyd(&["migrate", statsd.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    std::fs::write(&toml, out(&output)).unwrap();
    let checked = tallyd(&["check", "--config", toml.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(0), "{}", errors(&checked));
    let text = out(&checked);
    for part in ["in buckets of 5s", "graphite.example:2003", "stats.counters.shop.orders.count.host1"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    std::fs::write(&statsd, "{ graphiteHost: ").unwrap();
    assert_eq!(tallyd(&["migrate", statsd.to_str().unwrap()]).status.code(), Some(1));
}

#[test]
fn health_and_version_tell_by_their_exit_codes() {
    let running: Tallyd = seconds("127.0.0.1:9", "").start();
    let listen = format!("http.listen=127.0.0.1:{}", running.ports.http);
    assert_eq!(tallyd(&["health", "--set", &listen]).status.code(), Some(0));
    assert_eq!(running.sigterm(), Some(1), "Graphite is away");
    let output = tallyd(&["health", "--set", &listen]);
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("no answer"), "{}", errors(&output));
    assert_eq!(tallyd(&["health", "--set", "http.listen=off"]).status.code(), Some(1));
    assert_eq!(out(&tallyd(&["--version"])), format!("tallyd {}\n", env!("CARGO_PKG_VERSION")));
}

/// Whether the usual ports are taken by us or by somebody else, the demo takes the next free ones.
#[test]
fn the_demo_runs_beside_whoever_has_the_usual_ports() {
    let _udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 8_125));
    let _tcp = [8_126, 8_127].map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
    let graphite = Sink::start();
    let started = time::now();
    let output = tallyd(&["demo", "--seconds", "3", "--graphite", &graphite.address()]);
    let text = out(&output);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert!(started.elapsed() < DEMO_TIMEOUT);
    for part in
        ["the page   http://127.0.0.1:", "lines in   udp 127.0.0.1:", " views ", " revenue ", "stopping"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    for port in ["udp 127.0.0.1:8125 ", "console    127.0.0.1:8126 ", "http://127.0.0.1:8127/"] {
        assert!(!text.contains(port), "{port}: {text}");
    }
    assert!(graphite.points().keys().any(|(path, _)| path == "stats.counters.page_views.count"));

    // Without one it stands in for Graphite itself, and has nothing to complain of.
    let output = tallyd(&["demo", "--seconds", "12"]);
    assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
    assert!(out(&output).contains("to Graphite:"), "{}", out(&output));
    assert!(!errors(&output).contains("not confirmed"), "{}", errors(&output));
}
