//! `[store]`, `[rollup]` and `[company]`: where buckets stand, what is kept how long, and whose days these are.

use super::figures::currency;
use super::problem::Reason;
use super::raw::{Raw, choice, count, duration, size, text};
use super::reader::Section;
use super::sections::whole;
use super::units::{parse_duration, show_duration, show_size};
use crate::calendar::{Calendar, DAY_MS};
use crate::journal::{self, SyncWhen};
use crate::limits;
use crate::metric::ladder::Step;
use crate::metric::{Ladder, Width};
use crate::store::StoreUrl;
use chrono::{NaiveDate, NaiveTime};
use std::collections::BTreeSet;
use std::path::PathBuf;
use toml::{Table, Value};

/// Where the store is when nothing says otherwise.
const URL: &str = "file:./tallyd-data";
/// Where the journal in front of Redis is then.
const FOLDER: &str = "./tallyd-data";
/// The default ladders, the finest step first; that of the bucket itself is as wide as the bucket.
const KEEP: [(&str, &str); 3] = [("10s", "6h"), ("1m", "7d"), ("15m", "90d")];
const FIGURES: [(&str, &str); 3] = [("1m", "40d"), ("15m", "3y"), ("1d", "10y")];

/// How addresses of a Redis begin.
const REDIS: [&str; 8] = [
    "redis://",
    "rediss://",
    "redis+cluster://",
    "rediss+cluster://",
    "redis+sentinel://",
    "rediss+sentinel://",
    "redis+unix://",
    "unix://",
];

pub(super) struct StoreKeys {
    pub(super) url: StoreUrl,
    pub(super) journal: Option<Journal>,
    pub(super) prefix: String,
    pub(super) partitions: usize,
    pub(super) hold_ms: i64,
}

/// Where the journal is, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    /// Its directory.
    pub folder: PathBuf,
    /// How large it may be, and how safe.
    pub options: journal::Options,
}

pub(super) struct Rollup {
    keep: Vec<Step>,
    figures: Vec<Step>,
    pub(super) history: Vec<String>,
}

/// The store's keys; `state` is the directory that systemd gives a service for its state.
pub(super) fn store(section: &mut Section<'_, '_>, state: Option<&str>) -> StoreKeys {
    let default = state.map_or_else(|| URL.to_owned(), |state| format!("file:{state}"));
    let syncs = [("tick", SyncWhen::Tick), ("off", SyncWhen::Off)];
    let url = section.value("url", default, text(url));
    let prefix = section.value("prefix", "tallyd", text(prefix));
    let partitions =
        section.value("partitions", whole(limits::REDIS_PARTITIONS), count(1..=limits::REDIS_PARTITIONS_MAX));
    let folder = section.value("journal", "", |raw| raw.text().map(PathBuf::from));
    let options = journal::Options {
        bytes_max: section.value(
            "journal_max",
            show_size(limits::JOURNAL_BYTES_MAX),
            size(limits::JOURNAL_BYTES_MIN..=1 << 40),
        ) as u64,
        sync: section.value("journal_sync", "tick", choice(&syncs)),
        ..journal::Options::default()
    };
    let hold_ms = section.value(
        "journal_hold",
        show_duration(limits::JOURNAL_HOLD_MS),
        duration(0..=limits::AMEND_WINDOW_MS),
    );
    let own = || state.map_or_else(|| PathBuf::from(FOLDER), PathBuf::from);
    let beside = match &url {
        StoreUrl::Memory => None,
        StoreUrl::File(store) => Some(store.join("journal")),
        StoreUrl::Redis(_) => Some(own().join("redis-journal")),
    };
    let written = Some(folder).filter(|folder| !folder.as_os_str().is_empty());
    // Memory forgets what was confirmed, so that a journal in front of it would count twice.
    let journal = beside.map(|beside| Journal { folder: written.unwrap_or(beside), options });
    StoreKeys { url, journal, prefix, partitions, hold_ms: hold_ms as i64 }
}

fn url(url: &str) -> Result<StoreUrl, Reason> {
    let cure = "write \"file:DIRECTORY\", \"redis://HOST:6379\", \"redis+cluster://HOST:6379,HOST:6379\", \
                \"redis+sentinel://HOST:26379,HOST:26379/NAME\" or \"memory:\"; rediss for TLS";
    if let Some(folder) = url.strip_prefix("file:") {
        let folder = folder.strip_prefix("//").unwrap_or(folder);
        if folder.is_empty() {
            return Err(Reason::new("the directory is missing", cure));
        }
        return Ok(StoreUrl::File(PathBuf::from(folder)));
    }
    match url {
        "memory:" => Ok(StoreUrl::Memory),
        url if REDIS.iter().any(|scheme| url.starts_with(scheme)) => {
            let read = crate::store::redis::check_address(url);
            read.map(|()| StoreUrl::Redis(url.to_owned())).map_err(|why| {
                let problem = format!("this is no address of a Redis: {why}");
                Reason::new(problem, "write \"redis://USER:PASSWORD@HOST:PORT/DATABASE\"")
            })
        }
        _ => Err(Reason::new("there is no such store", cure)),
    }
}

fn prefix(text: &str) -> Result<String, Reason> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    if text.is_empty() || !text.chars().all(plain) {
        return Err(Reason::new(
            "keys cannot begin with this",
            "write letters, digits, `_`, `-`, `.` and `:`",
        ));
    }
    Ok(text.to_owned())
}

fn table(steps: &[(&str, &str)]) -> Table {
    steps.iter().map(|(width, keep)| ((*width).to_owned(), Value::from(*keep))).collect()
}

pub(super) fn rollup(section: &mut Section<'_, '_>, url: &StoreUrl) -> Rollup {
    let history = section.list("history", vec![Value::from("*")], |raw| raw.text().map(str::to_owned));
    // In Redis, memory is what a history costs; there Graphite keeps it, unless somebody says otherwise.
    let in_redis = matches!(url, StoreUrl::Redis(_)) && section.is_default("history");
    Rollup {
        keep: section.value("keep", table(&KEEP), steps),
        figures: section.value("figures", table(&FIGURES), steps),
        history: if in_redis { Vec::new() } else { history },
    }
}

/// `{ "1m" = "7d" }`: widths with how long they are kept, the finest first.
fn steps(raw: Raw<'_>) -> Result<Vec<Step>, Reason> {
    let cure = "write widths with how long each is kept, such as { \"1m\" = \"7d\", \"15m\" = \"90d\" }";
    let Raw::File(Value::Table(table)) = raw else {
        return Err(Reason::new("a table is expected here, in the file", cure));
    };
    if table.len() > limits::LADDER_STEPS_MAX {
        let problem = format!("these are {} steps", table.len());
        return Err(Reason::new(problem, format!("write at most {}", limits::LADDER_STEPS_MAX)));
    }
    let mut steps = Vec::new();
    for (width, keep) in table {
        let ms = parse_duration(width)?;
        let keep_ms =
            parse_duration(keep.as_str().ok_or_else(|| Reason::new("a step is kept for a time", cure))?)?;
        if ms == 0 || ms > DAY_MS as u64 {
            return Err(Reason::new(
                format!("\"{width}\" is no width for buckets"),
                "write widths up to \"1d\"",
            ));
        }
        if keep_ms < ms {
            let problem = format!("\"{width}\" is kept for less than one bucket");
            return Err(Reason::new(problem, format!("write \"{width}\" or more behind it")));
        }
        steps.push(Step { width: Width::from_ms(ms), keep_ms: keep_ms as i64 });
    }
    steps.sort_by_key(|step| step.width);
    Ok(steps)
}

/// Whose days and whose money.
pub(super) struct Company {
    pub(super) calendar: Calendar,
    pub(super) currency: String,
    pub(super) holidays: BTreeSet<NaiveDate>,
}

pub(super) fn company(section: &mut Section<'_, '_>) -> Company {
    let zone = section.value("timezone", "UTC", text(zone));
    let starts = section.value("day_starts", "00:00", text(day_starts));
    Company {
        calendar: Calendar::new(&zone, starts).unwrap_or_default(),
        currency: section.value("currency", "EUR", text(currency)),
        holidays: section.list("holidays", Vec::new(), holiday).into_iter().collect(),
    }
}

/// A date, in quotes or as TOML writes it.
fn holiday(raw: Raw<'_>) -> Result<NaiveDate, Reason> {
    let cure = "write dates such as \"2026-12-25\"";
    let text = match raw {
        Raw::File(Value::Datetime(date)) => date.to_string(),
        raw => raw.text()?.to_owned(),
    };
    text.parse().map_err(|_| Reason::new("this is no date", cure))
}

fn zone(name: &str) -> Result<String, Reason> {
    let known = Calendar::new(name, NaiveTime::MIN).is_some();
    known.then(|| name.to_owned()).ok_or_else(|| {
        Reason::new("there is no such time zone", "write its IANA name, such as \"Europe/Berlin\" or \"UTC\"")
    })
}

fn day_starts(text: &str) -> Result<NaiveTime, Reason> {
    let cure = "write hours and minutes, such as \"00:00\" or \"04:00\"";
    NaiveTime::parse_from_str(text, "%H:%M").map_err(|_| Reason::new("this is no time of day", cure))
}

impl Rollup {
    /// The ladder over buckets of width `bucket`, or what is wrong with it in `section`.
    pub(super) fn ladder(
        mut self,
        section: &mut Section<'_, '_>,
        bucket: Width,
        amend_window_ms: i64,
        calendar: Calendar,
        now: i64,
    ) -> (Ladder, Vec<String>) {
        for (key, steps) in [("keep", &mut self.keep), ("figures", &mut self.figures)] {
            if section.is_default(key) {
                // The defaults are made for buckets of ten seconds; of others they take what fits.
                let finest = steps.first().filter(|_| key == "keep").map(|step| step.keep_ms);
                let fits = |step: &Step| step.width > bucket && step.width.ms() % bucket.ms() == 0;
                steps.retain(|step| fits(step) && calendar_fits(bucket, step, &calendar, now));
                if let Some(keep_ms) = finest {
                    steps.insert(0, Step { width: bucket, keep_ms });
                }
            }
            if let Some(reason) = misfit(steps, bucket, &calendar, now) {
                section.mistake(key, reason);
                steps.clear();
            }
        }
        (Ladder::new(bucket, &self.keep, &self.figures, amend_window_ms, calendar), self.history)
    }
}

/// A day straight above the bucket must be made of whole buckets.
fn calendar_fits(finer: Width, step: &Step, calendar: &Calendar, now: i64) -> bool {
    step.width.ms() != DAY_MS || calendar.fits(finer.ms(), now)
}

fn misfit(steps: &[Step], bucket: Width, calendar: &Calendar, now: i64) -> Option<Reason> {
    let mut finer = bucket;
    for step in steps {
        let (wide, narrow) = (show_duration(step.width.ms() as u64), show_duration(finer.ms() as u64));
        if step.width < bucket {
            let problem = format!("\"{wide}\" is narrower than flush.bucket, which is \"{narrow}\"");
            return Some(Reason::new(problem, "remove it"));
        }
        if step.width.ms() % finer.ms() != 0 {
            let problem = format!("\"{wide}\" is no multiple of \"{narrow}\", which it is made of");
            return Some(Reason::new(problem, "write widths that divide each other"));
        }
        if step.width > finer && !calendar_fits(finer, step, calendar, now) {
            let zone = calendar.zone();
            let problem =
                format!("days of {zone} do not begin at multiples of \"{narrow}\", which \"1d\" is made of");
            return Some(Reason::new(problem, "put a step of \"15m\" below \"1d\""));
        }
        finer = step.width;
    }
    None
}
