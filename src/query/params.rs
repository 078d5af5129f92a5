//! From parameters to a question: every one is checked here, and what is wrong is said with its cure.

use super::select::Selector;
use super::span::{moment, span_ms};
use super::stat::Stat;
use super::{Problem, span};
use crate::calendar::Calendar;
use crate::clock::WallMs;
use crate::limits;
use crate::metric::Kind;

/// How far back a question goes where it does not say, in milliseconds.
const RANGE_MS: i64 = 3_600_000;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON.
    Json,
    /// CSV.
    Csv,
}

/// A question about points.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Which series: those that any of these means.
    pub names: Vec<Selector>,
    /// Only series of this kind.
    pub kind: Option<Kind>,
    /// The first moment.
    pub from: WallMs,
    /// The first moment after it, not later than now.
    pub to: WallMs,
    /// Milliseconds between points; `None` leaves the choice to us.
    pub step_ms: Option<i64>,
    /// The figure; `None` is the kind's own.
    pub stat: Option<Stat>,
    /// Tags to group by; no tags are one group, `None` is every series by itself.
    pub by: Option<Vec<String>>,
    /// Whether steps without samples are 0, for figures that count.
    pub fill_zero: bool,
    /// At most so many series or groups, the first by name.
    pub limit: Option<usize>,
    /// As which it was asked for by name.
    pub format: Option<Format>,
}

/// A question about which series there are.
#[derive(Clone, Debug, PartialEq)]
pub struct ListAsked {
    /// Which.
    pub names: Vec<Selector>,
    /// Only series of this kind.
    pub kind: Option<Kind>,
    /// At most so many.
    pub limit: usize,
    /// As which it was asked for by name.
    pub format: Option<Format>,
}

impl Asked {
    /// Reads decoded parameters.
    pub fn read(pairs: &[(String, String)], now: WallMs, calendar: &Calendar) -> Result<Self, Problem> {
        const KNOWN: [&str; 10] =
            ["name", "kind", "from", "to", "step", "stat", "by", "fill", "limit", "format"];
        let given = Given::new(pairs, &KNOWN)?;
        let names = given.selectors("name")?;
        if names.is_empty() {
            return Err(Problem::new("name", "no name is given", "name=signups, or name=** for everything"));
        }
        let (from, to) = range(&given, now, calendar)?;
        let step_ms = match given.once("step")? {
            None => None,
            Some(text) => Some(span_ms(text).filter(|ms| *ms > 0).ok_or_else(|| {
                let error = format!("`{text}` is not a span of time");
                Problem::new("step", error, "10s, 1m, 15m, 1h, 1d or a number of seconds")
            })?),
        };
        let stat = match given.once("stat")? {
            None => None,
            Some(word) => Some(Stat::parse(word).ok_or_else(|| {
                Problem::new(
                    "stat",
                    format!("`{word}` is not a figure"),
                    "count, rate, sum, min, max, mean, last, uniques, median, std, or a percentile from p0 to p100",
                )
            })?),
        };
        let fill_zero = match given.once("fill")? {
            None | Some("null") => false,
            Some("zero") => true,
            Some(other) => {
                let error = format!("`{other}` is not a way to fill steps without samples");
                return Err(Problem::new("fill", error, "null or zero"));
            }
        };
        Ok(Self {
            names,
            kind: given.kind()?,
            from,
            to,
            step_ms,
            stat,
            by: by(&given)?,
            fill_zero,
            limit: given.limit(limits::QUERY_SERIES_MAX)?,
            format: given.format()?,
        })
    }
}

impl ListAsked {
    /// Reads decoded parameters.
    pub fn read(pairs: &[(String, String)]) -> Result<Self, Problem> {
        let given = Given::new(pairs, &["match", "kind", "limit", "format"])?;
        let mut names = given.selectors("match")?;
        if names.is_empty() {
            names.push(Selector::new("match", "**")?);
        }
        Ok(Self {
            names,
            kind: given.kind()?,
            limit: given.limit(limits::SERIES_LISTED_MAX)?.unwrap_or(limits::SERIES_LISTED),
            format: given.format()?,
        })
    }
}

/// `[from, to)`, cut at now: nothing is known of the future.
fn range(given: &Given<'_>, now: WallMs, calendar: &Calendar) -> Result<(WallMs, WallMs), Problem> {
    const CURE: &str = "seconds since 1970, RFC 3339 (2026-11-23T12:00:00Z), a date, -1h, -90s, -7d, now, today or \
                        yesterday";
    let read = |parameter| match given.once(parameter)? {
        None => Ok(None),
        Some(text) => {
            moment(text, now, calendar).map(Some).map_err(|error| Problem::new(parameter, error, CURE))
        }
    };
    let (from, to) = (read("from")?, read("to")?.unwrap_or(now).min(now + 1));
    let from = from.unwrap_or(to.saturating_sub(RANGE_MS).max(0));
    if from >= to {
        let error = format!(
            "the range is empty: it is from {} to {} and ends now at the latest",
            span::written(from),
            span::written(to)
        );
        return Err(Problem::new("from", error, "a time before `to` and before now, such as -1h"));
    }
    Ok((from, to))
}

fn by(given: &Given<'_>) -> Result<Option<Vec<String>>, Problem> {
    let Some((_, text)) = given.pair("by")? else {
        return Ok(None);
    };
    if text.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let tags: Vec<String> = text.split(',').map(str::to_owned).collect();
    if tags.len() > limits::QUERY_TAGS_MAX || tags.iter().any(String::is_empty) {
        let error = format!("`{text}` is not one to {} tags", limits::QUERY_TAGS_MAX);
        return Err(Problem::new(
            "by",
            error,
            "by=plan, by=plan,country, or by= to merge everything into one",
        ));
    }
    Ok(Some(tags))
}

/// Parameters as they were given, none of them unknown.
struct Given<'a> {
    pairs: &'a [(String, String)],
}

impl<'a> Given<'a> {
    fn new(pairs: &'a [(String, String)], known: &[&str]) -> Result<Self, Problem> {
        match pairs.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(Self { pairs }),
            Some((name, _)) => Err(Problem::new(
                name,
                format!("there is no parameter `{name}`"),
                format!("one of {}", known.join(", ")),
            )),
        }
    }

    fn pair(&self, parameter: &str) -> Result<Option<&'a (String, String)>, Problem> {
        let mut all = self.pairs.iter().filter(|(name, _)| name == parameter);
        let first = all.next();
        if all.next().is_some() {
            let error = format!("`{parameter}` is given more than once");
            return Err(Problem::new(parameter, error, "give it once"));
        }
        Ok(first)
    }

    fn once(&self, parameter: &str) -> Result<Option<&'a str>, Problem> {
        match self.pair(parameter)? {
            Some((_, text)) if text.is_empty() => Err(Problem::new(
                parameter,
                format!("`{parameter}` has no value"),
                "give it one, or leave it out",
            )),
            pair => Ok(pair.map(|(_, text)| text.as_str())),
        }
    }

    fn selectors(&self, parameter: &str) -> Result<Vec<Selector>, Problem> {
        let patterns: Vec<_> = self.pairs.iter().filter(|(name, _)| name == parameter).collect();
        if patterns.len() > limits::QUERY_PATTERNS_MAX {
            let error = format!("`{parameter}` is given more than {} times", limits::QUERY_PATTERNS_MAX);
            return Err(Problem::new(parameter, error, "patterns such as {a,b} or shop.* say more at once"));
        }
        patterns.into_iter().map(|(_, pattern)| Selector::new(parameter, pattern)).collect()
    }

    fn kind(&self) -> Result<Option<Kind>, Problem> {
        let Some(word) = self.once("kind")? else {
            return Ok(None);
        };
        let kind = Kind::ALL.into_iter().find(|kind| kind.word() == word);
        kind.map(Some).ok_or_else(|| {
            Problem::new("kind", format!("`{word}` is not a kind"), "counter, timer, gauge or set")
        })
    }

    fn limit(&self, max: usize) -> Result<Option<usize>, Problem> {
        let Some(text) = self.once("limit")? else {
            return Ok(None);
        };
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        let limit = text.parse().ok().filter(|limit| digits && (1..=max).contains(limit));
        limit.map(Some).ok_or_else(|| {
            Problem::new("limit", format!("`{text}` is not a number from 1 to {max}"), "limit=100")
        })
    }

    fn format(&self) -> Result<Option<Format>, Problem> {
        match self.once("format")? {
            None => Ok(None),
            Some("json") => Ok(Some(Format::Json)),
            Some("csv") => Ok(Some(Format::Csv)),
            Some(other) => {
                let error = format!("`{other}` is not a format");
                Err(Problem::new("format", error, "json or csv; or send Accept: text/csv"))
            }
        }
    }
}
