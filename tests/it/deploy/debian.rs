//! The Debian package, tried in a bare Debian 12: installed, run, upgraded and purged, by dpkg itself, in a root of
//! its own. No service is started: there is no systemd in it.

use super::printed;
use crate::support::process::Process;
use crate::support::{free_port, http, repository};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(20);

/// Packs the program that the tests run, under a version.
fn pack(version: &str, into: &Path) -> PathBuf {
    let tools = repository("tests/.cache/cargo/bin");
    assert!(tools.join("cargo-deb").exists(), "cargo-deb is missing: run tests/setup");
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let file = into.join(format!("tallyd_{version}.deb"));
    let mut build = Command::new(repository("deploy/debian/build"));
    let build = build.args(["dev", "--no-strip", "--fast", "--deb-version", version, "--output"]).arg(&file);
    build.env("PATH", path).env("DEBFULLNAME", "A Builder").env("DEBEMAIL", "builder@localhost");
    printed(&build.output().unwrap());
    file
}

fn dpkg(root: &Path, arguments: &[&str]) -> String {
    let root = format!("--root={}", root.display());
    printed(
        &Command::new("dpkg")
            .arg(root)
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .output()
            .unwrap(),
    )
}

/// Every file and folder, but for dpkg's and the linker's own notes.
fn listing(root: &Path) -> BTreeSet<PathBuf> {
    fn walk(root: &Path, folder: &Path, into: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let inside = path.strip_prefix(root).unwrap().to_owned();
            let notes = [".complete", "var/lib/dpkg", "var/log", "var/cache", "etc/ld.so.cache"];
            if notes.iter().any(|note| inside.starts_with(note)) {
                continue;
            }
            if entry.file_type().unwrap().is_dir() {
                walk(root, &path, into);
            }
            into.insert(inside);
        }
    }
    let mut found = BTreeSet::new();
    walk(root, root, &mut found);
    found
}

fn chroot(root: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new("/usr/sbin/chroot");
    command.arg(root).args(arguments).env_clear().env("PATH", "/usr/bin:/bin");
    command
}

/// The installed program takes lines in under the packaged configuration and ends well.
fn runs(root: &Path, logs: &Path) {
    let (udp, page) = (free_port(), free_port());
    let mut command = chroot(root, &["/usr/bin/tallyd", "run", "--config", "/etc/tallyd/tallyd.toml"]);
    let listen = format!("127.0.0.1:{page}");
    command
        .env("TALLYD_INGEST_UDP", format!("127.0.0.1:{udp}"))
        .env("TALLYD_HTTP_LISTEN", &listen)
        // As systemd does it (StateDirectory=).
        .env("STATE_DIRECTORY", "/var/lib/tallyd")
        .env("TALLYD_CONSOLE_LISTEN", "off")
        .env("TALLYD_GRAPHITE_ADDRESS", "");
    let mut process = Process::start("installed", &command, logs);
    process.wait_ready(DEADLINE, |_| http::get(page, "/health/ready").is_ok_and(|reply| reply.status == 200));
    let mut health = chroot(root, &["/usr/bin/tallyd", "health"]);
    printed(&health.env("TALLYD_HTTP_LISTEN", &listen).output().unwrap());
    assert_eq!(process.terminate(DEADLINE).code(), Some(0));
}

#[test]
fn the_package_installs_runs_upgrades_and_purges() {
    if !nix::unistd::Uid::effective().is_root() {
        println!("left out: only root can install into a root of its own");
        return;
    }
    let root = repository("tests/.cache/debian-root");
    assert!(root.join("usr/bin/dpkg").exists(), "{} is missing: run tests/setup", root.display());
    let dir = tempfile::tempdir().unwrap();
    let first = pack("0.1.0-1", dir.path());
    let second = pack("0.1.0-2", dir.path());
    // A run that was killed may have left it installed.
    dpkg(&root, &["--purge", "tallyd"]);
    fs::remove_dir_all(root.join("var/lib/tallyd")).ok();
    let before = listing(&root);

    dpkg(&root, &["--install", first.to_str().unwrap()]);
    for path in [
        "usr/bin/tallyd",
        "etc/tallyd/tallyd.toml",
        "usr/share/man/man1/tallyd.1.gz",
        "usr/share/man/man1/tallyd-graphite-rules.1.gz",
        "usr/share/bash-completion/completions/tallyd",
        "usr/share/zsh/vendor-completions/_tallyd",
        "usr/share/fish/vendor_completions.d/tallyd.fish",
        "usr/share/doc/tallyd/docs/operations.md",
        "usr/share/doc/tallyd/copyright",
        "usr/share/tallyd/grafana/business.json",
    ] {
        assert!(root.join(path).exists(), "{path} is not in the package");
    }
    for unit in ["tallyd.service", "tallyd.socket"] {
        let shipped =
            ["lib/systemd/system", "usr/lib/systemd/system"].map(|folder| root.join(folder).join(unit));
        let shipped =
            shipped.iter().find(|path| path.exists()).unwrap_or_else(|| panic!("{unit} is not there"));
        assert_eq!(fs::read(shipped).unwrap(), fs::read(repository("deploy/systemd").join(unit)).unwrap());
    }
    let described = dpkg(&root, &["--status", "tallyd"]);
    assert!(described.contains("\nDepends: libc6"), "{described}");
    assert!(described.contains("\nMaintainer: A Builder <builder@localhost>\n"), "{described}");
    runs(&root, dir.path());

    let config = root.join("etc/tallyd/tallyd.toml");
    let edited = fs::read_to_string(&config).unwrap().replace("prefix = \"stats\"", "prefix = \"shop\"");
    fs::write(&config, &edited).unwrap();
    fs::create_dir_all(root.join("var/lib/tallyd")).unwrap();
    dpkg(&root, &["--install", second.to_str().unwrap()]);
    assert!(dpkg(&root, &["--status", "tallyd"]).contains("\nVersion: 0.1.0-2\n"));
    assert_eq!(fs::read_to_string(&config).unwrap(), edited, "an upgrade keeps what was edited");
    let said = printed(
        &chroot(&root, &["/usr/bin/tallyd", "check", "--config", "/etc/tallyd/tallyd.toml"])
            .output()
            .unwrap(),
    );
    assert!(said.contains("shop.counters.shop.orders"), "{said}");
    runs(&root, dir.path());

    dpkg(&root, &["--remove", "tallyd"]);
    assert!(config.exists() && !root.join("usr/bin/tallyd").exists(), "a removal keeps the configuration");
    dpkg(&root, &["--purge", "tallyd"]);
    let after = listing(&root);
    let left: Vec<_> = after.symmetric_difference(&before).collect();
    assert!(left.is_empty(), "a purge leaves {left:?}");
}
