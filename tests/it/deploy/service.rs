//! tallyd as a service: what it tells systemd, sockets that outlive it, and the units, judged by systemd's own
//! tools. No service of this machine is started.

use super::{printed, tallyd};
use crate::support::process::{Process, signal};
use crate::support::{Launch, Sink, free_port, http, repository, sink, time, wait_until};
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(30);

/// A unit is as exposed as this at most; systemd-analyze calls 0 perfect and 10 open to all.
const EXPOSURE_MAX: &str = "15"; // tenths

/// All that was told, a state each.
fn told(socket: &UnixDatagram, into: &mut Vec<String>) {
    let mut buffer = [0; 4_096];
    while let Ok(length) = socket.recv(&mut buffer) {
        into.extend(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned));
    }
}

#[test]
fn systemd_is_told_of_ready_watchdog_reload_and_stop() {
    let launch = Launch::native("[graphite]\naddress = []");
    let path = launch.dir().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_nonblocking(true).unwrap();
    let launch = launch.env("NOTIFY_SOCKET", path.to_str().unwrap()).env("WATCHDOG_USEC", "300000");
    let tallyd = launch.start();
    let mut states = Vec::new();
    let mut heard = |wanted: &str, times: usize| {
        let enough = wait_until(DEADLINE, || {
            told(&socket, &mut states);
            states.iter().filter(|state| *state == wanted).count() >= times
        });
        assert!(enough, "{wanted} was not said {times} times: {states:?}");
    };
    heard("READY=1", 1);
    heard("WATCHDOG=1", 3);
    signal("HUP", &tallyd.process.id().to_string());
    heard("RELOADING=1", 1);
    heard("READY=1", 2);
    assert_eq!(tallyd.sigterm(), Some(0));
    heard("STOPPING=1", 1);
    assert!(states[0] == "READY=1" && states[1].starts_with("STATUS=udp 127.0.0.1:"), "{states:?}");
}

/// The port belongs to somebody else, as under systemd: what is sent while nobody reads is read by the next.
#[test]
fn a_socket_that_was_opened_for_it_keeps_lines_over_a_restart() {
    let graphite = Sink::start();
    let dir = tempfile::tempdir().unwrap();
    let (udp, page) = (free_port(), free_port());
    let mut command = Command::new("/usr/bin/python3");
    command
        .arg(repository("tests/tools/activate.py"))
        .args([
            format!("udp=udp:{udp}"),
            format!("http=tcp:{page}"),
            "--".into(),
            env!("CARGO_BIN_EXE_tallyd").into(),
        ])
        .args(["run", "--set", "flush.bucket=1s", "--set", "console.listen=off"])
        .env("RUNTIME_DIRECTORY", dir.path())
        .env("TALLYD_STORE_URL", format!("file:{}", dir.path().join("store").display()))
        .env("TALLYD_GRAPHITE_ADDRESS", graphite.address());
    let process = Process::start("activate", &command, dir.path());
    let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let send = |line: &str| sender.send_to(line.as_bytes(), (Ipv4Addr::LOCALHOST, udp)).unwrap();
    let runs = || process.stdout().lines().filter(|line| line.starts_with("run ")).count();
    for round in 1..=3 {
        assert!(wait_until(DEADLINE, || runs() == round), "{}{}", process.stdout(), process.stderr());
        let ready = || http::get(page, "/health/ready").is_ok_and(|reply| reply.status == 200);
        assert!(wait_until(DEADLINE, ready), "{}", process.stderr());
        send(&format!("live.{round}:1|c"));
        time::sleep(Duration::from_millis(500));
        let pid = process.stdout().lines().rev().find_map(|line| Some(line.strip_prefix("run ")?.to_owned()));
        signal("TERM", &pid.unwrap());
        let ends = || process.stdout().lines().filter(|line| *line == "ended 0").count() == round;
        assert!(wait_until(DEADLINE, ends), "{}{}", process.stdout(), process.stderr());
        send(&format!("away.{round}:1|c"));
    }
    let name = |what: &str| format!("stats.counters.{what}.count");
    for what in ["live.1", "away.1", "live.2", "away.2", "live.3"] {
        let there = || sink::sum_of(&graphite.points(), &name(what)) == 1.0;
        assert!(wait_until(DEADLINE, there), "{what}: {}", process.stderr());
    }
    let log = process.stderr();
    assert!(log.contains(&format!("udp 127.0.0.1:{udp}, inherited")), "{log}");
    assert!(log.contains("set ReceiveBuffer="), "a small buffer is told of: {log}");
}

/// systemd's own tools read the units and find them sound and closed.
#[test]
fn the_units_are_sound_and_closed() {
    let dir = tempfile::tempdir().unwrap();
    let text = fs::read_to_string(repository("deploy/systemd/tallyd.service")).unwrap();
    let program = env!("CARGO_BIN_EXE_tallyd");
    let service = dir.path().join("tallyd.service");
    fs::write(&service, text.replace("/usr/bin/tallyd", program)).unwrap();
    let socket = dir.path().join("tallyd.socket");
    fs::copy(repository("deploy/systemd/tallyd.socket"), &socket).unwrap();
    let analyze = |arguments: &[&str]| {
        Command::new("systemd-analyze").args(arguments).output().expect("systemd-analyze: run tests/setup")
    };
    let (service, socket) = (service.to_str().unwrap(), socket.to_str().unwrap());
    let verified = analyze(&["verify", "--man=no", service, socket]);
    let ours =
        String::from_utf8_lossy(&verified.stderr).lines().filter(|line| line.contains("tallyd")).count();
    assert!(verified.status.success() && ours == 0, "{}", String::from_utf8_lossy(&verified.stderr));
    printed(&analyze(&[
        "security",
        "--no-pager",
        "--offline=true",
        &format!("--threshold={EXPOSURE_MAX}"),
        service,
    ]));
    let bad = dir.path().join("bad.service");
    fs::write(&bad, format!("[Service]\nExecStart={program} run\n")).unwrap();
    let open = analyze(&[
        "security",
        "--no-pager",
        "--offline=true",
        &format!("--threshold={EXPOSURE_MAX}"),
        bad.to_str().unwrap(),
    ]);
    assert!(!open.status.success(), "an open unit is found out");

    for word in [
        "Type=notify\n",
        "WatchdogSec=30s\n",
        "DynamicUser=yes\n",
        "ExecStart=/usr/bin/tallyd run --config /etc/tallyd/tallyd.toml\n",
    ] {
        assert!(text.contains(word), "{word}");
    }
}

/// Pages and completions name every command that `--help` names.
#[test]
fn man_pages_and_completions_name_every_command() {
    let help = printed(&tallyd(&["--help"]));
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| line.starts_with("  "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help" && help.contains(&format!("\n  {name} ")))
        .collect();
    assert!(commands.len() >= 8, "{commands:?}");
    let dir = tempfile::tempdir().unwrap();
    printed(&tallyd(&["man", dir.path().to_str().unwrap()]));
    for name in &commands {
        let page = dir.path().join(format!("tallyd-{name}.1"));
        let text = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{}: {error}", page.display()));
        assert!(text.contains(".SH SYNOPSIS"), "{name}");
    }
    let main = fs::read_to_string(dir.path().join("tallyd.1")).unwrap();
    assert!(commands.iter().all(|name| main.contains(&name.replace('-', r"\-"))), "{main}");
    for shell in ["bash", "zsh", "fish"] {
        let text = printed(&tallyd(&["completions", shell]));
        assert!(commands.iter().all(|name| text.contains(name)), "{shell}");
    }
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("tallyd.bash");
    fs::write(&script, printed(&tallyd(&["completions", "bash"]))).unwrap();
    let mut bash = Command::new("bash");
    let asked =
        ". \"$0\"; COMP_WORDS=(tallyd gr); COMP_CWORD=1; _tallyd tallyd gr tallyd; echo \"${COMPREPLY[@]}\"";
    assert_eq!(printed(&bash.args(["-c", asked]).arg(&script).output().unwrap()), "graphite-rules\n");
}
