//! What the tests share: real servers as child processes, a pretended Graphite, ports, files and time.
//!
//! Nothing here knows tallyd's code: its fixtures start the built program and speak to it through sockets,
//! so that a mistake in the product cannot repeat itself in the test. Every fixture works in a temporary
//! directory, on free ports, and ends what it started when it is dropped.

pub(crate) mod carbon;
pub(crate) mod certificate;
pub(crate) mod clients;
pub(crate) mod clock;
pub(crate) mod http;
pub(crate) mod port;
pub(crate) mod process;
pub(crate) mod prometheus;
pub(crate) mod sink;
pub(crate) mod tallyd;
pub(crate) mod time;
pub(crate) mod truth;

pub(crate) use carbon::{Graphite, Rendered};
pub(crate) use port::free_port;
pub(crate) use sink::Sink;
pub(crate) use tallyd::{Launch, Tallyd};
pub(crate) use time::wait_until;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A path inside the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A library that stands before the system's (`LD_PRELOAD`), built from a file of tests/tools into a directory.
pub(crate) fn library(source: &str, dir: &Path) -> PathBuf {
    let library = dir.join(source).with_extension("so");
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library);
    compiler.arg(repository("tests/tools").join(source));
    assert!(compiler.status().expect("a C compiler, as Rust needs it to link").success());
    library
}

/// The Python that has the statsd clients, started without its own settings from the environment.
pub(crate) fn client_python() -> Command {
    client(repository("tests/.cache/venv/bin/python"))
}

/// Node, which finds the statsd clients beside the tests' cache.
pub(crate) fn client_node() -> Command {
    let modules = repository("tests/.cache/node/node_modules");
    assert!(modules.exists(), "{} is missing: run tests/setup", modules.display());
    let mut node = Command::new("node");
    node.env("NODE_PATH", modules);
    node
}

/// Whether the long version of a test is asked for.
pub(crate) fn long() -> bool {
    std::env::var_os("TALLYD_TEST_LONG").is_some()
}

/// Lets this process, and what it starts from now on, have descriptors for thousands of connections; many shells allow
/// 1,024. All tests that need it ask for the same, so that none takes it from another.
pub(crate) fn raise_descriptors() {
    const WANTED: u64 = 16_384;
    static RAISED: OnceLock<()> = OnceLock::new();
    RAISED.get_or_init(|| {
        let limits = std::fs::read_to_string("/proc/self/limits").expect("limits can be read");
        let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit of files");
        let soft = line.split_whitespace().nth(3).expect("a soft limit");
        if soft.parse::<u64>().map_or(true, |soft| soft >= WANTED) {
            return;
        }
        let mut command = Command::new("prlimit");
        command.args(["--pid", &std::process::id().to_string(), &format!("--nofile={WANTED}:")]);
        assert!(command.status().expect("prlimit runs").success(), "this test needs {WANTED} descriptors");
    });
}

fn client(program: PathBuf) -> Command {
    assert!(program.exists(), "{} is missing: run tests/setup", program.display());
    Command::new(program)
}
