//! A look at a Redis by somebody who does not count into it: how it keeps things, whether it takes writes, its clock.

use super::confirm::keeping;
use super::layout::{FORMAT, Layout};
use super::link::{Failure, Link, Pipe, array, failure, text, time};
use super::settings::LAYOUT;
use super::shared::{SKEW_WARNED_MS, cure};
use super::target::Target;
use crate::clock::{self, Clock};
use crate::metric::{Ladder, Width};

/// The oldest version that has what is needed.
const VERSION_MIN: u32 = 7;
/// An answer that takes longer is slow, in milliseconds.
const SLOW_MS: u128 = 20;

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// As it should be.
    Good(String),
    /// Something is wrong, and what to do about it.
    Trouble(String, &'static str),
}

/// Looks at every server that partitions are at.
#[must_use]
pub fn examine(url: &str, prefix: &str, partitions: usize, clock: &Clock) -> Vec<Finding> {
    let ladder = Ladder::single(Width::from_ms(1_000), 1_000);
    let layout = Layout::new(prefix.to_owned(), partitions, ladder, Vec::new(), Vec::new());
    let tags: Vec<String> = (0..layout.partitions()).map(|partition| layout.tag(partition)).collect();
    let target = match Target::new(url, &tags) {
        Ok(target) => target,
        Err(failure) => return vec![unreachable(&failure)],
    };
    let (mut link, mut seen, mut found) = (Link::new(target), Vec::new(), Vec::new());
    for partition in 0..layout.partitions() {
        if link.id(partition).is_some_and(|id| seen.contains(&id)) {
            continue;
        }
        match one(&mut link, &layout, partition, clock) {
            Ok(findings) => found.extend(findings),
            Err(failure) => {
                found.push(unreachable(&failure));
                return found;
            }
        }
        seen.extend(link.id(partition));
    }
    found.extend(later(&mut link, &layout));
    found
}

/// What to do about a later version that has changed the layout.
fn later(link: &mut Link, layout: &Layout) -> Option<Finding> {
    let mut pipe = Pipe::default();
    let settings = layout.key(layout.figures(), "settings");
    pipe.cmd(redis::cmd("HGET").arg(settings).arg(LAYOUT).clone());
    let answers = link.call(layout.figures(), &pipe).ok()?;
    let found: u64 = answers.first().and_then(text)?.parse().ok()?;
    (found > FORMAT).then(|| {
        Finding::Trouble(
            format!(
                "a later version of tallyd counts into it (its layout is {found}, this one knows {FORMAT})"
            ),
            "run that version here too: this one does not start on it",
        )
    })
}

fn unreachable(failure: &Failure) -> Finding {
    let cure = "start it, or correct store.url; until it answers, tallyd counts into its journal";
    Finding::Trouble(format!("Redis does not answer: {}", self::cure(failure)), cure)
}

fn one(link: &mut Link, layout: &Layout, partition: usize, clock: &Clock) -> Result<Vec<Finding>, Failure> {
    let mut pipe = Pipe::default();
    for section in ["server", "replication", "persistence", "memory"] {
        pipe.cmd(redis::cmd("INFO").arg(section).clone());
    }
    for name in ["save", "maxmemory-policy"] {
        pipe.cmd(redis::cmd("CONFIG").arg("GET").arg(name).clone());
    }
    let answers = link.call(partition, &pipe)?;
    let [server, replication, persistence, memory, save, policy] = answers.as_slice() else {
        return Err(Failure::away("an answer that is too short"));
    };
    if let Some(failure) = answers.iter().take(4).find_map(failure) {
        return Err(failure);
    }
    let info = [server, replication, persistence, memory].map(|one| text(one).unwrap_or_default()).concat();
    let config = |value| array(value).get(1).and_then(text).unwrap_or_default().to_owned();
    let keeping = keeping(&info, &config(save), &config(policy));
    let mut found = vec![version(&info), room(&info)];
    found.push(match keeping.trouble() {
        Some(trouble) => Finding::Trouble(trouble, "see docs/nodes.md for how a Redis is set up"),
        None if !keeping.aof && keeping.replicas == 0 => Finding::Trouble(
            keeping.words(),
            "set appendonly yes: without it a restart is covered by the journals for store.journal_hold only",
        ),
        None => Finding::Good(keeping.words()),
    });
    found.push(writes(link, layout, partition, clock)?);
    found.push(clocks(link, partition, clock)?);
    Ok(found)
}

fn field<'a>(info: &'a str, name: &str) -> &'a str {
    info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':')).unwrap_or_default()
}

fn version(info: &str) -> Finding {
    let version = field(info, "redis_version");
    let first = version.split('.').next().and_then(|first| first.parse::<u32>().ok()).unwrap_or(0);
    let said = format!("Redis {version} on port {}", field(info, "tcp_port"));
    if first < VERSION_MIN {
        Finding::Trouble(said, "tallyd needs 7.0 or later")
    } else {
        Finding::Good(said)
    }
}

fn room(info: &str) -> Finding {
    let number = |name| field(info, name).parse::<u64>().unwrap_or(0);
    let (used, most) = (number("used_memory"), number("maxmemory"));
    let said = match most {
        0 => format!("it uses {} MiB of memory, without a limit", used >> 20),
        most => format!("it uses {} MiB of {} MiB (maxmemory)", used >> 20, most >> 20),
    };
    if most > 0 && used > most / 10 * 8 {
        return Finding::Trouble(
            said,
            "give it more before it is full: then it takes no counts, and they wait",
        );
    }
    Finding::Good(said)
}

fn writes(link: &mut Link, layout: &Layout, partition: usize, clock: &Clock) -> Result<Finding, Failure> {
    let mut pipe = Pipe::default();
    let key = layout.key(partition, "doctor");
    pipe.cmd(redis::cmd("SET").arg(key).arg(clock.now()).arg("PX").arg(1_000).clone());
    let started = clock::monotonic_now();
    let answers = link.call(partition, &pipe)?;
    let took = clock::elapsed(started).as_millis();
    Ok(match answers.first().and_then(failure) {
        Some(failure) => Finding::Trouble(
            format!("it takes no writes: {}", cure(&failure)),
            "what is counted waits in the journals until that is mended",
        ),
        None if took > SLOW_MS => {
            Finding::Trouble(format!("a write took {took} ms"), "look at the network, and at SLOWLOG GET")
        }
        None => Finding::Good(format!("it takes writes, in {took} ms")),
    })
}

fn clocks(link: &mut Link, partition: usize, clock: &Clock) -> Result<Finding, Failure> {
    let mut pipe = Pipe::default();
    pipe.cmd(redis::cmd("TIME"));
    let before = clock.now();
    let answers = link.call(partition, &pipe)?;
    let now = before.midpoint(clock.now());
    let skew = answers.first().and_then(time).map_or(0, |time| now - time);
    let said = format!("its clock and this machine's differ by {} ms", skew.abs());
    Ok(if skew.abs() > SKEW_WARNED_MS {
        Finding::Trouble(
            said,
            "set both clocks (chrony, systemd-timesyncd): samples count in buckets of this one's",
        )
    } else {
        Finding::Good(said)
    })
}
