//! Writing a folded bucket: the script's keys and arguments, and large buckets in pieces.

use super::layout::Bucket;
use super::link::{Failure, Link, Pipe, bytes, failure};
use super::scripts::Script;
use super::shared::Shared;
use super::tenure::{Tenure, version_of};
use redis::Value;

/// A sealed bucket larger than this is written in pieces and then put in place.
const STAGED_BYTES: usize = 1 << 20;

/// A bucket as it is to be written.
pub(super) struct Write<'a> {
    pub(super) bucket: Bucket,
    pub(super) expected: &'a str,
    pub(super) version: u64,
    pub(super) fields: &'a [Vec<u8>],
    /// Chunks with their numbers.
    pub(super) chunks: Vec<(usize, Vec<u8>)>,
    /// All chunks are here, and nothing of before stays.
    pub(super) whole: bool,
    /// What goes up, and where to.
    pub(super) delta: Option<(Bucket, Vec<u8>)>,
    pub(super) keep: bool,
}

/// Writes a bucket with the script; `false` if anything has changed since it was read.
pub(super) fn put(
    shared: &Shared,
    tenure: &Tenure,
    link: &mut Link,
    write: Write<'_>,
) -> Result<bool, Failure> {
    let (layout, partition) = (&shared.layout, tenure.partition);
    let (bucket, version) = (write.bucket, name(write.version));
    let pending = layout.pending(partition, bucket);
    let stage = layout.key(partition, &format!("stage:{version}"));
    let bytes: usize = write.chunks.iter().map(|(_, chunk)| chunk.len()).sum();
    let mut chunks = write.chunks;
    let mut staged = 0;
    if write.keep && write.whole && bytes > STAGED_BYTES {
        staged = chunks.len() + 1;
        for (number, chunk) in std::mem::take(&mut chunks) {
            let mut pipe = Pipe::default();
            pipe.cmd(
                redis::cmd("HSET").arg(&stage).arg("~version").arg(&version).arg(number).arg(chunk).clone(),
            );
            pipe.cmd(redis::cmd("PEXPIRE").arg(&stage).arg(60_000).clone());
            link.call_on(tenure.connection, partition, &pipe)?;
        }
    }
    let (coarser, due, delta) = match &write.delta {
        Some((coarser, delta)) => {
            let due = layout.end(*coarser) + shared.grace_ms;
            (
                layout.pending(partition, *coarser),
                format!("{}@{due}", layout.name(*coarser)),
                delta.as_slice(),
            )
        }
        None => (pending.clone(), String::new(), [].as_slice()),
    };
    let sealed = layout.sealed(partition, bucket);
    let mut keys =
        vec![pending, sealed, layout.key(partition, "todo"), coarser, stage, layout.key(partition, "log")];
    if bucket.level == 0 {
        keys.extend(shared.destinations.iter().map(|name| layout.key(partition, &format!("out:{name}"))));
    }
    let head = [
        write.expected.to_owned(),
        version,
        if write.keep { "keep" } else { "up" }.to_owned(),
        layout.name(bucket),
        due,
        layout.until(partition, bucket).to_string(),
        layout.expires(partition, bucket).to_string(),
        staged.to_string(),
        write.fields.len().to_string(),
    ];
    let numbers: Vec<String> = chunks.iter().map(|(number, _)| number.to_string()).collect();
    let mut args: Vec<&[u8]> = head.iter().map(String::as_bytes).collect();
    args.extend(write.fields.iter().map(Vec::as_slice));
    args.push(delta);
    for (number, (_, chunk)) in numbers.iter().zip(&chunks) {
        args.extend([number.as_bytes(), chunk.as_slice()]);
    }
    let mut pipe = Pipe::default();
    pipe.script(Script::Fold, &keys, &args);
    let answers = link.call_on(tenure.connection, partition, &pipe)?;
    let answer = answers.first().ok_or_else(|| Failure::away("an empty answer"))?;
    if let Some(failure) = failure(answer) {
        return Err(failure);
    }
    Ok(bytes_are(answer, b"ok"))
}

fn bytes_are(value: &Value, expected: &[u8]) -> bool {
    bytes(value) == Some(expected)
}

/// Random, never counted: after a failover a count hands out the same number twice.
pub(super) fn new_version() -> u64 {
    fastrand::u64(1..)
}

pub(super) fn name(version: u64) -> String {
    let name = format!("{version:016x}");
    debug_assert_eq!(version_of(name.as_bytes()), Some(version));
    name
}
