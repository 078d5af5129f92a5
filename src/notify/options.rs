//! What `[[notify]]` means: whom to tell, what, and when.

use crate::calendar::Calendar;
use crate::clock::WallMs;
use crate::fetch::Target;
use chrono::{Datelike as _, Days, NaiveDate, NaiveTime, Weekday};
use std::fmt;
use std::path::{Path, PathBuf};

use super::message::Style;

/// Largest file with an address in bytes.
const ADDRESS_BYTES_MAX: usize = 4_096;
/// Days that are searched for the next digest: a week and a day.
const SEARCH_DAYS: u64 = 8;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// One for each `[[notify]]`.
    pub rules: Vec<Rule>,
    /// The company's days and zone.
    pub calendar: Calendar,
    /// Where the queue is kept; `None` is in memory alone.
    pub folder: Option<PathBuf>,
}

/// One `[[notify]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Whom.
    pub webhook: Webhook,
    /// In which form.
    pub style: Style,
    /// When the digest comes, if it does.
    pub digest: Option<Digest>,
    /// Whether stalled figures are told, and their all clear.
    pub alarms: bool,
    /// Whether goals and record days are told.
    pub goals: bool,
    /// Whether marks are told, as they are to Graphite (`graphite.events`).
    pub marks: bool,
}

/// Where a webhook's address stands. The address is a secret: whoever has it can write there.
#[derive(Clone, PartialEq, Eq)]
pub enum Webhook {
    /// In an environment variable.
    Env(String),
    /// In a file.
    File(PathBuf),
    /// In the configuration itself.
    Written(Target),
}

impl Webhook {
    /// The address as it is now; a file is read each time, so that it can be replaced.
    pub fn resolve(&self) -> Result<Target, String> {
        let (text, from) = match self {
            Self::Written(target) => return Ok(target.clone()),
            Self::Env(name) => (std::env::var(name).map_err(|_| format!("{name} is not set"))?, name.clone()),
            Self::File(path) => (read(path)?, path.display().to_string()),
        };
        Target::parse(text.trim()).map_err(|problem| format!("{from}: {problem}"))
    }

    /// What tells one receiver from another, over restarts; no secret is in it.
    #[must_use]
    pub fn id(&self) -> String {
        match self {
            Self::Env(name) => format!("env:{name}"),
            Self::File(path) => format!("file:{}", path.display()),
            Self::Written(target) => {
                let whole = format!("{target} {}", target.path());
                format!("{}#{:08x}", target.host(), crc32fast::hash(whole.as_bytes()))
            }
        }
    }
}

fn read(path: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    if text.len() > ADDRESS_BYTES_MAX {
        return Err(format!("{} is no address: it is too long", path.display()));
    }
    Ok(text)
}

impl fmt::Display for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Written(target) => write!(f, "{target}"),
        }
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Days of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weekdays([bool; 7]);

impl Weekdays {
    const NAMES: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

    /// Reads `mon-fri`, `mon,thu`, `sat-mon`; nothing is every day.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let day =
            |name: &str| Self::NAMES.iter().position(|known| *known == name.trim().to_ascii_lowercase());
        let mut days = [text.trim().is_empty(); 7];
        for part in text.split(',').filter(|part| !part.trim().is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (day(first)?, day(last)?);
            let count = (last + 7 - first) % 7;
            for at in 0..=count {
                *days.get_mut((first + at) % 7)? = true;
            }
        }
        Some(Self(days))
    }

    /// Whether a day is one of them.
    #[must_use]
    pub fn holds(self, day: Weekday) -> bool {
        self.0.get(day.num_days_from_monday() as usize).copied().unwrap_or(false)
    }
}

impl fmt::Display for Weekdays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == [true; 7] {
            return f.write_str("every day");
        }
        let held = Self::NAMES.iter().zip(self.0).filter(|(_, held)| *held).map(|(name, _)| *name);
        f.write_str(&held.collect::<Vec<_>>().join(" "))
    }
}

/// When a digest comes, in the company's zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Time on the wall.
    pub at: NaiveTime,
    /// On these days.
    pub days: Weekdays,
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at {}, {}", self.at.format("%H:%M"), self.days)
    }
}

impl Digest {
    /// Reads `08:30 mon-fri`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (at, days) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let at = NaiveTime::parse_from_str(at, "%H:%M").ok()?;
        Some(Self { at, days: Weekdays::parse(days)? })
    }

    /// The date whose digest is due and since when, if one is: its time has come and the day is not over.
    #[must_use]
    pub fn due(&self, calendar: &Calendar, now: WallMs) -> Option<(NaiveDate, WallMs)> {
        let date = calendar.local(now).date();
        let at = calendar.moment(date.and_time(self.at));
        (self.days.holds(date.weekday()) && now >= at).then_some((date, at))
    }

    /// When the next one comes.
    #[must_use]
    pub fn next(&self, calendar: &Calendar, now: WallMs) -> Option<WallMs> {
        let today = calendar.local(now).date();
        let dates = (0..SEARCH_DAYS).filter_map(|days| today.checked_add_days(Days::new(days)));
        let moments = dates.filter(|date| self.days.holds(date.weekday()));
        moments.map(|date| calendar.moment(date.and_time(self.at))).find(|at| *at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_of_the_week_are_read_as_people_write_them() {
        use Weekday::{Fri, Mon, Sat, Sun, Thu, Tue, Wed};
        let all = [Mon, Tue, Wed, Thu, Fri, Sat, Sun];
        for (text, expected) in [
            ("", &all[..]),
            ("mon-fri", &[Mon, Tue, Wed, Thu, Fri]),
            ("Mon, thu", &[Mon, Thu]),
            ("sat-mon", &[Mon, Sat, Sun]),
            ("sun", &[Sun]),
        ] {
            let days = Weekdays::parse(text).unwrap();
            let held: Vec<Weekday> = all.into_iter().filter(|day| days.holds(*day)).collect();
            assert_eq!(held, expected, "{text}");
        }
        assert_eq!(Weekdays::parse("mon-fry"), None);
        assert_eq!(Digest::parse("25:00"), None);
        assert_eq!(Digest::parse("08:30 someday"), None);
    }

    #[test]
    fn a_digest_comes_on_the_companys_clock() {
        let calendar = Calendar::new("Europe/Paris", NaiveTime::MIN).unwrap();
        let digest = Digest::parse("08:30 mon-fri").unwrap();
        // Friday 2026-10-23 09:00 in Paris; on Sunday the clocks go back.
        let friday = 1_792_738_800_000;
        let due = NaiveDate::from_ymd_opt(2026, 10, 23).unwrap();
        assert_eq!(digest.due(&calendar, friday), Some((due, friday - 30 * 60_000)));
        let next = digest.next(&calendar, friday).unwrap();
        assert_eq!(calendar.local(next).to_string(), "2026-10-26 08:30:00");
        assert_eq!(next - friday, (3 * 24 * 60 - 30 + 60) * 60_000, "an hour longer");
        assert_eq!(digest.due(&calendar, next - 1), None);
    }

    #[test]
    fn nothing_that_is_shown_holds_the_secret() {
        let target = Target::parse("https://hooks.slack.com/services/T0/B0/secret").unwrap();
        let webhook = Webhook::Written(target);
        assert!(!format!("{webhook} {webhook:?} {}", webhook.id()).contains("secret"));
        assert_eq!(webhook.to_string(), "https://hooks.slack.com/…");
        let of = |text: &str| Webhook::Written(Target::parse(text).unwrap()).id();
        assert_ne!(of("http://a:1/x"), of("http://a:2/x"), "another port is another receiver");
        assert_ne!(of("http://a:1/x"), of("http://a:1/y"));
        let missing = Webhook::Env("TALLYD_TEST_NO_SUCH_VARIABLE".to_owned());
        assert_eq!(missing.resolve().unwrap_err(), "TALLYD_TEST_NO_SUCH_VARIABLE is not set");
    }
}
