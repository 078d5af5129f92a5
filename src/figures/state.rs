//! What a page shows: one document for each page, ready to be shown.
//!
//! Every number stands here twice, as a number and as the text of it, in the company's zone and money; the page
//! formats nothing. What is not known is `None`, and never 0. Names, labels and texts of marks are data: whoever
//! shows them treats them as text. Versions grow with every change and are never the same for two states of a page.

use crate::clock::WallMs;
use serde::Serialize;

/// All that a page shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PageState {
    /// Grows with every change of anything below.
    pub version: u64,
    /// When this was looked at, in milliseconds since 1970.
    pub at_ms: WallMs,
    /// Version of the program; a page of another one reloads itself.
    pub build: &'static str,
    /// Which page.
    pub page: PageName,
    /// The company's time zone.
    pub zone: &'static str,
    /// The company's day, `2026-11-23`.
    pub day: String,
    /// Local time, `14:05`: up to here comparisons are cut, in whole minutes.
    pub clock: String,
    /// What is unusual about today, such as a change of clocks.
    pub note: Option<String>,
    /// What is promised of what is counted, in words.
    pub guarantee: String,
    /// Why numbers may be too low; `None` while they are exact.
    pub partial: Option<String>,
    /// The hero first, then seconds, then thirds, in the order of the configuration.
    pub figures: Vec<Figure>,
    /// The newest events first.
    pub ticker: Vec<Event>,
    /// Marks of today and of the day that is compared with, oldest first.
    pub marks: Vec<Mark>,
    /// What comes in and is on no page.
    pub unplaced: Vec<Unplaced>,
    /// All pages, this one included.
    pub pages: Vec<PageName>,
    /// Whether the page was guessed from what comes in, since nothing is configured.
    pub guessed: bool,
    /// For a shell: sends the first event, where there is no figure yet.
    pub snippet: Option<String>,
}

/// A page's name and place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PageName {
    /// `/` or `/live/NAME`.
    pub path: String,
    /// What it is called.
    pub title: String,
}

/// What a figure is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FigureKind {
    /// A counter's sum of today.
    Count,
    /// The same with a currency; currencies are never added.
    Money,
    /// Distinct members.
    Unique,
    /// Of two figures.
    Ratio,
    /// What stands now.
    Gauge,
    /// A statistic of today's values.
    Timer,
}

/// How large a figure is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Slot {
    /// The one that the company lives by.
    Hero,
    /// Up to two beside it.
    Second,
    /// Up to six below.
    Third,
}

/// What [`Figure::record`] begins with when it is the day's.
pub const BEST_DAY: &str = "best day so far";

/// What is known of a figure. Late and stale are the page's own judgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum FigureState {
    /// There was no event, ever.
    Never,
    /// There was none today.
    Zero,
    /// There was one today.
    Live,
    /// The number may be too low; [`PageState::partial`] says why.
    Partial,
}

/// One tile.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// From the configuration; unique.
    pub id: String,
    /// The page's version when this last changed.
    pub version: u64,
    /// What it is called.
    pub label: String,
    /// What it is made of.
    pub kind: FigureKind,
    /// How large it is shown.
    pub slot: Slot,
    /// Thirds with the same group stand together under its name.
    pub group: Option<String>,
    /// What is known.
    pub state: FigureState,
    /// Less is better: a timer.
    pub lower_is_better: bool,
    /// One line for each currency, else one; none while nothing is known.
    pub values: Vec<Value>,
    /// What the values cover: `today` or `now`.
    pub period: &'static str,
    /// Longer periods of uniques.
    pub also: Vec<Also>,
    /// When the last event was seen, in milliseconds since 1970.
    pub last_ms: Option<WallMs>,
    /// That in words that do not age: `last one today 13:41`.
    pub last_words: Option<String>,
    /// Of the first value: the same weekday of last week first, then yesterday; empty when there is no base.
    pub compare: Vec<Compare>,
    /// Said in place of comparisons when there are none.
    pub compare_words: Option<String>,
    /// The usual by now, from four weeks: `usual by now 2,950`.
    pub usual: Option<String>,
    /// Today over last week, of the first value.
    pub spark: Option<Spark>,
    /// How far today, this week and this month are.
    pub goals: Vec<Goal>,
    /// No event for longer than usual.
    pub quiet: Option<Quiet>,
    /// Something to be glad of: `best day so far`.
    pub record: Option<String>,
    /// A number that was shown has changed since: `+14 arrived late`.
    pub corrected: Option<String>,
    /// The largest parts, by tag or by name.
    pub breakdown: Vec<Slice>,
    /// What to run to see the first event; only while there was none.
    pub snippet: Option<String>,
    /// Names of the series, as a pattern for `/api/v1/query?name=`.
    pub query: Vec<String>,
}

/// A number with its text.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Value {
    /// `€`, `%`, `ms` or nothing.
    pub unit: String,
    /// Whether the unit stands before the number.
    pub unit_first: bool,
    /// `3,412.00`
    pub text: String,
    /// The same as a number, of money in major units.
    pub number: f64,
}

/// A longer period.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Also {
    /// `7 days`
    pub label: String,
    /// `1,204`
    pub text: String,
    /// The same as a number.
    pub number: f64,
}

/// Whether a difference means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tone {
    /// More than usual differences are.
    Up,
    /// Less.
    Down,
    /// As usual.
    Usual,
    /// There is too little history to say.
    None,
}

/// A comparison with an earlier day, both cut at the same local minute.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compare {
    /// `vs last Mon by 14:05`
    pub label: String,
    /// `+21`
    pub delta: String,
    /// `+13 %`; none where the base is small.
    pub percent: Option<String>,
    /// `163`
    pub base: String,
    /// What is compared with it: today, cut at the last closed minute.
    pub by_now_number: f64,
    /// The base as a number.
    pub base_number: f64,
    /// The day that is compared with.
    pub day: String,
    /// Whether the difference means something.
    pub tone: Tone,
}

/// Two lines by local time of day; the same index is the same time on the wall.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Spark {
    /// From one value to the next.
    pub step_ms: i64,
    /// Where the day begins, in milliseconds since 1970.
    pub from_ms: WallMs,
    /// Local time of the first value in minutes after midnight.
    pub from_minute: u32,
    /// Today, as far as it has come; what does not exist or is not known is null.
    pub today: Vec<Option<f64>>,
    /// The day that is compared with, whole.
    pub last_week: Vec<Option<f64>>,
    /// Which value is not over yet.
    pub now_index: usize,
}

/// A period of a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// The company's day.
    Day,
    /// From Monday.
    Week,
    /// The calendar month.
    Month,
}

/// How far a goal is reached.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Goal {
    /// Of what.
    pub period: Period,
    /// `300`
    pub target: String,
    /// `184`: what there is in the period.
    pub text: String,
    /// The same as a number.
    pub number: f64,
    /// Part of the target, 0.61; may be more than 1.
    pub done: f64,
    /// Where it usually is by now; none without history.
    pub pace: Option<f64>,
    /// `on pace`
    pub words: String,
}

/// No event for longer than usual.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quiet {
    /// Since when, in milliseconds since 1970.
    pub since_ms: WallMs,
    /// `quiet: none for 40 min, usually 6`
    pub words: String,
    /// So long that it is no chance.
    pub alarm: bool,
}

/// A part of a figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Slice {
    /// Value of the tag, or the part of the name that the pattern leaves open.
    pub name: String,
    /// `120`
    pub text: String,
    /// Part of the whole, 0.65.
    pub share: f64,
}

/// Something happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Event {
    /// When it was seen, in milliseconds since 1970.
    pub at_ms: WallMs,
    /// `14:05:07`
    pub clock: String,
    /// Whose id.
    pub figure: String,
    /// `Revenue +€49.00`
    pub text: String,
}

/// A deploy or anything else worth a line.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mark {
    /// When, in milliseconds since 1970.
    pub at_ms: WallMs,
    /// `13:20`
    pub clock: String,
    /// `deploy web`
    pub text: String,
}

/// A series that is on no page.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unplaced {
    /// Its name without tags.
    pub name: String,
    /// `counter`, `timer`, `gauge` or `set`.
    pub kind: &'static str,
    /// What to paste into the configuration.
    pub toml: String,
}
