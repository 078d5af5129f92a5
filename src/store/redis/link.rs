//! Connections to a Redis, or to the masters of a cluster, and which of them a partition's keys are at.
//!
//! In go pipelines for one partition, out come their answers, one for each command. A connection that failed or timed
//! out is dropped, never read on: an answer that comes late would pass for another's. Each has a number of its own,
//! since a lease ends with the connection it was taken on. Where to go is asked anew after each redirection.

use super::cluster::Slots;
use super::scripts::{self, Script};
use super::target::Target;
use crate::clock;
use crate::limits;
use redis::{Client, Cmd, Connection, ConnectionInfo, ConnectionLike, Value};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Why a call came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// In words.
    pub(super) text: String,
    /// The code that Redis gave, such as `OOM`; empty if it did not answer.
    pub(super) code: String,
}

impl Failure {
    pub(super) fn away(text: impl Into<String>) -> Self {
        Self { text: text.into(), code: String::new() }
    }
}

/// One connection.
struct Open {
    id: u64,
    connection: Connection,
    /// The names under which this server knows the scripts.
    scripts: Vec<String>,
}

/// Where the next attempt has to wait for.
struct Pause {
    until: Instant,
    failures: u32,
    failure: Failure,
}

/// Connections of one thread.
pub(super) struct Link {
    target: Target,
    open: HashMap<String, Open>,
    pauses: HashMap<String, Pause>,
    slots: Option<Slots>,
    asked_at: Option<Instant>,
}

/// Commands for one partition, sent as one.
#[derive(Default)]
pub(super) struct Pipe {
    commands: Vec<Step>,
}

enum Step {
    Plain(Cmd),
    Script(Script, Cmd),
}

impl Pipe {
    pub(super) fn cmd(&mut self, cmd: Cmd) -> &mut Self {
        self.commands.push(Step::Plain(cmd));
        self
    }

    /// A script with its keys and arguments.
    pub(super) fn script(&mut self, script: Script, keys: &[String], args: &[&[u8]]) -> &mut Self {
        let mut rest = Cmd::new();
        rest.arg(keys.len()).arg(keys);
        for arg in args {
            rest.arg(*arg);
        }
        self.commands.push(Step::Script(script, rest));
        self
    }

    pub(super) fn len(&self) -> usize {
        self.commands.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    fn packed(&self, scripts: &[String]) -> Vec<u8> {
        let mut out = Vec::new();
        for step in &self.commands {
            match step {
                Step::Plain(cmd) => out.extend(cmd.get_packed_command()),
                Step::Script(script, rest) => {
                    let mut cmd = redis::cmd("EVALSHA");
                    cmd.arg(scripts.get(*script as usize).map_or("", String::as_str));
                    for arg in rest.args_iter() {
                        if let redis::Arg::Simple(bytes) = arg {
                            cmd.arg(bytes);
                        }
                    }
                    out.extend(cmd.get_packed_command());
                }
            }
        }
        out
    }
}

impl Link {
    pub(super) fn new(target: Target) -> Self {
        Self { target, open: HashMap::new(), pauses: HashMap::new(), slots: None, asked_at: None }
    }

    /// The number of the connection that a partition's calls go over now.
    pub(super) fn id(&self, partition: usize) -> Option<u64> {
        self.open.get(&self.known_address(partition)?).map(|open| open.id)
    }

    fn known_address(&self, partition: usize) -> Option<String> {
        if !self.target.is_asked() {
            return Some(String::new());
        }
        let slot = self.target.slot(partition)?;
        self.slots.as_ref()?.master_of(slot).map(str::to_owned)
    }

    /// Sends commands and waits for all their answers. Where a server was away it is left alone for a pause.
    pub(super) fn call(&mut self, partition: usize, pipe: &Pipe) -> Result<Vec<Value>, Failure> {
        if pipe.is_empty() {
            return Ok(Vec::new());
        }
        let address = self.address(partition)?;
        self.connect(&address)?;
        let Some(open) = self.open.get_mut(&address) else {
            return Err(Failure::away("there is no connection"));
        };
        let packed = pipe.packed(&open.scripts);
        match open.connection.req_packed_commands(&packed, 0, pipe.len()) {
            Ok(values) => {
                if let Some(failure) = values.iter().find_map(moved) {
                    // Whoever answered is not, or not alone, where these keys are.
                    self.slots = None;
                    self.open.remove(&address);
                    if failure.code == "READONLY" || failure.code == "MASTERDOWN" || failure.code == "LOADING"
                    {
                        self.pause(&address, failure);
                    }
                }
                Ok(values)
            }
            Err(error) => {
                self.open.remove(&address);
                self.slots = None;
                let failure = Failure::away(error.to_string());
                self.pause(&address, failure.clone());
                Err(failure)
            }
        }
    }

    /// The same, if the partition's calls still go over that connection.
    pub(super) fn call_on(&mut self, id: u64, partition: usize, pipe: &Pipe) -> Result<Vec<Value>, Failure> {
        if self.id(partition) != Some(id) {
            return Err(Failure::away("the connection of the lease is gone"));
        }
        self.call(partition, pipe)
    }

    fn address(&mut self, partition: usize) -> Result<String, Failure> {
        if !self.target.is_asked() {
            return Ok(String::new());
        }
        if self.slots.is_none() {
            self.ask_for_slots()?;
        }
        self.known_address(partition).ok_or_else(|| Failure {
            text: "the cluster has no master for some slots".to_owned(),
            code: "CLUSTERDOWN".to_owned(),
        })
    }

    /// Asks those who know, one after another, where the masters are.
    fn ask_for_slots(&mut self) -> Result<(), Failure> {
        let pause = Duration::from_millis(limits::REDIS_SLOTS_PAUSE_MS);
        if self.asked_at.is_some_and(|at| clock::elapsed(at) < pause) {
            return Err(Failure::away("asking where the masters are"));
        }
        self.asked_at = Some(clock::monotonic_now());
        let mut last = Failure::away("nobody answers who knows where the masters are");
        for node in self.target.informants(self.open.keys()) {
            match connection_to(&node).and_then(|mut connection| self.target.slots(&mut connection, &node)) {
                Ok(slots) => {
                    self.slots = Some(slots);
                    return Ok(());
                }
                Err(error) => last = Failure::away(error.to_string()),
            }
        }
        Err(last)
    }

    fn connect(&mut self, address: &str) -> Result<(), Failure> {
        if self.open.contains_key(address) {
            return Ok(());
        }
        if let Some(pause) = self.pauses.get(address)
            && clock::monotonic_now() < pause.until
        {
            return Err(pause.failure.clone());
        }
        let info = self.target.at(address).ok_or_else(|| Failure::away("there is no such address"))?;
        match open(&info) {
            Ok(open) => {
                self.open.insert(address.to_owned(), open);
                self.pauses.remove(address);
                Ok(())
            }
            Err(error) => {
                let code = error.code().unwrap_or_default().to_owned();
                let failure = Failure { text: error.to_string(), code };
                self.slots = None;
                self.pause(address, failure.clone());
                Err(failure)
            }
        }
    }

    /// The next attempt waits, longer each time, half to all of the pause so that nodes do not come back in step.
    fn pause(&mut self, address: &str, failure: Failure) {
        let failures = self.pauses.get(address).map_or(0, |pause| pause.failures);
        let full =
            limits::REDIS_RETRY_MS.saturating_mul(1 << failures.min(10)).min(limits::REDIS_RETRY_MS_MAX);
        let pause = Duration::from_millis(fastrand::u64(full / 2..=full));
        let until = clock::monotonic_now() + pause;
        self.pauses.insert(address.to_owned(), Pause { until, failures: failures + 1, failure });
    }
}

fn connection_to(info: &ConnectionInfo) -> redis::RedisResult<Connection> {
    let client = Client::open(info.clone())?;
    let connection = client.get_connection_with_timeout(Duration::from_millis(limits::REDIS_CONNECT_MS))?;
    let patience = Some(Duration::from_millis(limits::REDIS_ANSWER_MS));
    connection.set_read_timeout(patience)?;
    connection.set_write_timeout(patience)?;
    Ok(connection)
}

fn open(info: &ConnectionInfo) -> redis::RedisResult<Open> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut connection = connection_to(info)?;
    let mut load = redis::pipe();
    for script in scripts::ALL {
        load.cmd("SCRIPT").arg("LOAD").arg(script);
    }
    let scripts: Vec<String> = load.query(&mut connection)?;
    // Relaxed: only that each is given once matters.
    Ok(Open { id: NEXT.fetch_add(1, Ordering::Relaxed), connection, scripts })
}

/// An answer that says we are at the wrong server, or at one that has forgotten the scripts.
fn moved(value: &Value) -> Option<Failure> {
    let failure = failure(value)?;
    let codes = ["MOVED", "ASK", "READONLY", "LOADING", "CLUSTERDOWN", "NOSCRIPT", "MASTERDOWN", "NOAUTH"];
    codes.contains(&failure.code.as_str()).then_some(failure)
}

/// What a server refused.
pub(super) fn failure(value: &Value) -> Option<Failure> {
    match value {
        Value::ServerError(error) => {
            let text = format!("{} {}", error.code(), error.details().unwrap_or_default());
            Some(Failure { text: text.trim().to_owned(), code: error.code().to_owned() })
        }
        _ => None,
    }
}

/// A whole number.
pub(super) fn int(value: &Value) -> Option<i64> {
    match value {
        Value::Int(n) => Some(*n),
        other => text(other)?.parse().ok(),
    }
}

/// Bytes of a string.
pub(super) fn bytes(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        Value::Okay => Some(b"OK"),
        _ => None,
    }
}

/// Text of a string.
pub(super) fn text(value: &Value) -> Option<&str> {
    std::str::from_utf8(bytes(value)?).ok()
}

/// Elements of an array.
pub(super) fn array(value: &Value) -> &[Value] {
    match value {
        Value::Array(values) => values,
        _ => &[],
    }
}

/// Fields and values of a hash.
pub(super) fn pairs(value: &Value) -> impl Iterator<Item = (&[u8], &[u8])> {
    array(value).as_chunks::<2>().0.iter().filter_map(|[field, value]| Some((bytes(field)?, bytes(value)?)))
}

/// `TIME`, in milliseconds.
pub(super) fn time(value: &Value) -> Option<i64> {
    match array(value) {
        [secs, micros] => Some(int(secs)? * 1_000 + int(micros)? / 1_000),
        _ => None,
    }
}
