//! What may be wrong on the machine itself: configuration, kernel, ports, clock, disk, store.

use super::Machine;
use crate::books::Books;
use crate::support::{Tallyd, free_port, time};
use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::Command;
use std::time::Duration;

#[test]
fn what_the_configuration_opens_or_ignores() {
    Machine::sound().env("TALLYD_NONSENSE", "1").ails(&["TALLYD_NONSENSE", "mend or remove it"]);
    let open = format!("http.listen=0.0.0.0:{}", free_port());
    Machine::sound().set(&open).ails(&["shows status and figures to anybody", "http.tokens"]);
    Machine::sound().set(&open).env("TALLYD_HTTP_TOKENS", "a-secret-nobody-guesses").is_sound();
    let open = format!("console.listen=0.0.0.0:{}", free_port());
    Machine::sound().set(&open).ails(&["has no password", "127.0.0.1:8126"]);
}

#[test]
fn secrets_that_everybody_may_read() {
    let machine = Machine::sound();
    let file = machine.path("tallyd.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        text.replace("[http]", "[sets]\nsalt = \"pepper\"\n[http]\ntokens = [\"a-secret-nobody-guesses\"]"),
    )
    .unwrap();
    let allow = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    allow(0o644);
    machine.ails(&["http.tokens and sets.salt", "chmod o-r"]);
    allow(0o640);
    machine.is_sound();
}

#[test]
fn the_kernels_limits() {
    let small = Machine::sound().file("root/proc/sys/net/core/rmem_max", "212992\n");
    small.ails(&["net.core.rmem_max is 212992", "8388608", "sysctl -w net.core.rmem_max=8388608"]);
    // systemd, which opens the socket, may exceed it.
    fs::create_dir_all(small.path("root/etc/systemd/system/sockets.target.wants")).unwrap();
    symlink(
        "/lib/systemd/system/tallyd.socket",
        small.path("root/etc/systemd/system/sockets.target.wants/tallyd.socket"),
    )
    .unwrap();
    assert!(small.is_sound().contains("tallyd.socket is enabled"));
    Machine::sound()
        .file("root/proc/sys/net/ipv4/udp_mem", "1000 1500 2000\n")
        .set("ingest.threads=4")
        .ails(&["net.ipv4.udp_mem", "7.8 MiB", "64 MiB", "'16384 24576 32768'"]);
    Machine::sound().file("root/proc/meminfo", "MemTotal:         600000 kB\n").ails(&[
        "limits.memory_max is 512 MiB",
        "would end tallyd",
        "468MiB or less",
    ]);
    Machine::sound()
        .file("root/sys/fs/cgroup/memory.max", "268435456\n")
        .ails(&["256 MiB", "204MiB or less"]);
    Machine::sound().file("root/sys/fs/cgroup/memory.max", "max\n").is_sound();
    let dropped = Machine::sound().file("root/proc/net/softnet_stat", "000000ff 00000010 0\n0a 00000001 0\n");
    assert!(dropped.is_sound().contains("dropped 17 packets"));
}

#[test]
fn too_few_descriptors() {
    let machine = Machine::sound();
    let mut doctor = Command::new("/bin/sh");
    doctor.args(["-c", "ulimit -n 300 && exec \"$0\" doctor --config \"$1\" --root \"$2\" --carbon \"$3\""]);
    doctor.arg(env!("CARGO_BIN_EXE_tallyd"));
    doctor.args(["tallyd.toml", "root", "carbon"].map(|name| machine.path(name)));
    let output = doctor.env("LD_PRELOAD", super::ailing()).output().unwrap();
    let report = super::text(&output);
    assert!(report.contains("may open 300 files") && report.contains("LimitNOFILE="), "{report}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn ports_that_somebody_has() {
    let us = std::process::id().to_string();
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = udp.local_addr().unwrap();
    let mut machine = Machine::sound().set(&format!("ingest.udp={at}"));
    machine.root = None;
    machine.ails_among_others(&["UDP", "is in use by", &us, "ingest.udp"]);
    let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let at = tcp.local_addr().unwrap();
    let tcp_in_use = Machine::sound().set(&format!("ingest.tcp={at}"));
    tcp_in_use.ails(&["TCP", "in use by a process that we may not look at", "ingest.tcp"]);
    Machine::sound().set(&format!("console.listen={at}")).ails(&["console", "console.listen"]);
    Machine::sound().set("ingest.udp=203.0.113.7:8125").ails(&["203.0.113.7:8125 cannot be listened on"]);
    Machine::sound().env("AILING_BIND", "denied").ails_among_others(&["UDP", "a port of 1024 or more"]);
}

#[test]
fn unix_sockets_that_cannot_be_made() {
    let machine = Machine::sound();
    let path = machine.path("lines.sock");
    let machine = machine.set(&format!("ingest.unix={}", path.display()));
    machine.is_sound();
    let somebody = UnixDatagram::bind(&path).unwrap();
    machine.ails(&["lines.sock is in use by another process"]);
    drop(somebody);
    // A child that another test is just starting may hold it for a moment longer.
    let stranger = UnixDatagram::unbound().unwrap();
    assert!(time::wait_until(Duration::from_secs(10), || stranger.connect(&path).is_err()));
    // Nobody listens there any more: tallyd will take its place.
    machine.is_sound();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "text").unwrap();
    machine.ails(&["is there and is no socket"]);
    let machine = Machine::sound();
    let path = machine.path("streams.sock");
    let _somebody = UnixListener::bind(&path).unwrap();
    machine.set(&format!("ingest.unix=stream:{}", path.display())).ails(&["streams.sock is in use"]);
    let nowhere = Machine::sound().set("ingest.unix=/nowhere/lines.sock");
    nowhere.ails(&["no directory for the Unix socket", "RuntimeDirectory="]);
}

#[test]
fn a_clock_that_nobody_keeps() {
    Machine::sound()
        .env("AILING_CLOCK", "unsynchronised")
        .ails(&["unsynchronised", "timedatectl set-ntp true"]);
    Machine::sound().env("AILING_YEAR", "2000").ails(&["2000-01-01 00:00 UTC", "timedatectl"]);
}

#[test]
fn a_disk_that_is_no_place_for_a_store() {
    let mounted = |kind: &str| {
        let machine = Machine::sound();
        let at = machine.dir.path().canonicalize().unwrap();
        let text =
            format!("22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 0:40 / {} rw - {kind} x rw\n", at.display());
        machine.file("root/proc/self/mountinfo", &text)
    };
    mounted("tmpfs").ails(&["is on tmpfs", "empty after a restart"]);
    mounted("nfs4").ails(&["is on nfs4", "network"]);
    mounted("overlay").ails(&["is on overlay", "mount a volume"]);
    mounted("xfs").is_sound();
    Machine::sound().set("store.journal_max=1023GiB").ails(&["free; the journal may grow to 1023 GiB"]);
    Machine::sound().set("store.url=file:/proc/tallyd").ails_among_others(&["cannot be written", "chown"]);
    Machine::sound()
        .env("AILING_DISK", "full")
        .ails(&["cannot be written: No space left", "free some space"]);
    Machine::sound().env("AILING_SYNC_MS", "120").ails(&["ms to be safe", "store.journal_sync = \"off\""]);
    Machine::sound().env("AILING_SYNC_MS", "120").set("store.journal_sync=off").is_sound();
    assert!(Machine::sound().set("store.url=memory:").is_sound().contains("promises nothing over a crash"));
}

/// A machine whose store holds something, and nobody has it open.
fn with_a_store() -> Machine {
    let machine = Machine::sound();
    let tallyd = running(&machine);
    tallyd.send_udp(b"orders:1|c");
    time::sleep(Duration::from_millis(500));
    assert_eq!(tallyd.sigterm(), Some(0));
    machine
}

/// tallyd as this machine's configuration has it.
fn running(machine: &Machine) -> Tallyd {
    let text = fs::read_to_string(machine.path("tallyd.toml")).unwrap();
    let config: toml::Table = toml::from_str(&text).unwrap();
    let port =
        |value: &toml::Value| value.as_str().unwrap().rsplit_once(':').unwrap().1.parse::<u16>().unwrap();
    let mut launch = crate::support::Launch::native(&text);
    launch.ports = crate::support::tallyd::Ports {
        statsd: port(&config["ingest"]["udp"][0]),
        console: port(&config["console"]["listen"]),
        http: port(&config["http"]["listen"]),
    };
    launch
        .env("TALLYD_STORE_URL", config["store"]["url"].as_str().unwrap())
        .env("TALLYD_INGEST_UDP", config["ingest"]["udp"][0].as_str().unwrap())
        .env("TALLYD_CONSOLE_LISTEN", config["console"]["listen"].as_str().unwrap())
        .env("TALLYD_HTTP_LISTEN", config["http"]["listen"].as_str().unwrap())
        .start()
}

#[test]
fn a_store_without_a_good_backup() {
    let machine = with_a_store();
    machine.ails(&["no good backup", "tallyd backup"]);
    let backup = || {
        let made = machine.run(&["backup"]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        super::text(&made).trim().to_owned()
    };
    let first = backup();
    assert!(machine.is_sound().contains(&first));
    time::sleep(Duration::from_millis(5));
    let second = backup();
    assert!(second > first);
    fs::write(&second, "no store").unwrap();
    machine.ails(&["is no use", &second]);
    fs::remove_file(&second).unwrap();
    assert!(Command::new("touch").args(["-d", "9 days ago", &first]).status().unwrap().success());
    machine.ails(&["is 9 d old", "daily"]);
}

#[test]
fn a_store_that_is_damaged_or_somebody_elses() {
    let machine = with_a_store();
    assert!(machine.run(&["backup"]).status.success());
    let store = machine.path("store/tallyd.redb");
    let whole = fs::read(&store).unwrap();
    let damaged = whole[..whole.len() / 2].to_vec();
    fs::write(&store, &damaged).unwrap();
    machine.ails(&["tallyd.redb is damaged", "tallyd restore"]);
    assert_eq!(fs::read(&store).unwrap(), damaged, "the doctor changes nothing");
    fs::write(&store, &whole).unwrap();
    crate::faults::damage::write_setting(&store, b"mformat", b"9");
    machine.ails(&["was written by a later version of tallyd", "Run that version"]);
    fs::write(&store, &whole).unwrap();
    let tallyd = running(&machine);
    let elsewhere = format!("http.listen=127.0.0.1:{}", free_port());
    let ports = [elsewhere.as_str(), "ingest.udp=127.0.0.1:0", "console.listen=off"];
    let stranger = ports.iter().fold(machine, |machine, setting| machine.set(setting));
    stranger.ails(&["in use by another process", "--config"]);
    drop(tallyd);
}

#[test]
fn a_tallyd_that_runs_is_asked_and_its_ports_are_its_own() {
    let machine = Machine::sound();
    let tallyd = running(&machine);
    tallyd.send_udp(b"orders:1|c\norders:1|c");
    Books::wait_total(&tallyd, 2);
    // A store that is new has no backup yet.
    machine.ails(&["no good backup"]);
    let made = machine.run(&["backup"]);
    assert!(made.status.success());
    let report = machine.is_sound();
    for words in
        ["its ports are its own", "tallyd has ", "has counted 2 values and has nothing to complain of"]
    {
        assert!(report.contains(words), "{report}");
    }
    tallyd.send_udp(b"orders:x|c\norders:x|c");
    Books::wait_total(&tallyd, 4);
    machine.ails(&["2 values or lines were refused", "bad_value", "orders:x|c"]);
}
