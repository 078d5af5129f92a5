//! What the tests share: real servers as child processes, a pretended Graphite, ports, files and time.
//!
//! Nothing here knows tallyd's code: its fixtures start the built program and speak to it through sockets,
//! so that a mistake in the product cannot repeat itself in the test. Every fixture works in a temporary
//! directory, on free ports, and ends what it started when it is dropped.

pub(crate) mod carbon;
pub(crate) mod clients;
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

use std::path::PathBuf;
use std::process::Command;

/// A path inside the repository.
pub(crate) fn repository(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
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

fn client(program: PathBuf) -> Command {
    assert!(program.exists(), "{} is missing: run tests/setup", program.display());
    Command::new(program)
}
