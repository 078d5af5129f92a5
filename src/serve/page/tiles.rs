//! A page's state as elements. Draws what dashboards/live/view.js does; a test holds them against each other.
//!
//! All numbers come as text from the figures. Only ages are worked out here, since they grow while nothing comes.

use super::element::{Element, Node, h};
use super::spark::{axis, bar, drawing, hours, of_today};
use super::url;
use crate::clock::WallMs;
use crate::figures::PageState;
use crate::figures::state::{
    Compare, Figure, FigureKind, FigureState, Goal, PageName, Period, Slot, Tone, Value,
};

/// Marks whose texts are written out: a screen on the wall has nobody to point at the others.
const MARKS: usize = 3;

/// What a drawing needs beside the state.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) state: &'a PageState,
    pub(super) now: WallMs,
    /// `http.grafana`.
    pub(super) grafana: Option<&'a str>,
}

/// `40 s`, `12 min`, `3 h`: a whole number of the largest unit that fits.
pub(super) fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1_000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3_600),
    }
}

fn sentence(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or(String::new(), |first| first.to_uppercase().chain(rest).collect())
}

impl Scene<'_> {
    /// What `main` holds.
    pub(super) fn figures(&self) -> Vec<Node> {
        let (thirds, lead): (Vec<&Figure>, Vec<&Figure>) =
            self.state.figures.iter().partition(|figure| figure.slot == Slot::Third);
        let mut nodes: Vec<Node> = Vec::new();
        if !lead.is_empty() {
            let section = h(&format!("section.lead.n{}", lead.len())).with("aria-labelledby", "lead");
            let heading = h("h2.hush").with("id", "lead").add("Main figures");
            let tiles = lead.iter().map(|figure| self.tile(figure));
            nodes.push(section.add(heading).add(h("ul").all(tiles)).into());
        }
        if !thirds.is_empty() {
            nodes.push(self.groups(&thirds).into());
        }
        if self.state.figures.is_empty() {
            nodes.push(empty(self.state).into());
        }
        if !self.state.unplaced.is_empty() {
            nodes.push(self.unplaced().into());
        }
        nodes
    }

    fn groups(&self, thirds: &[&Figure]) -> Element {
        let mut groups: Vec<(&str, Vec<&Figure>)> = Vec::new();
        for figure in thirds {
            let name = figure.group.as_deref().unwrap_or("");
            match groups.iter_mut().find(|(known, _)| *known == name) {
                Some((_, figures)) => figures.push(figure),
                None => groups.push((name, vec![figure])),
            }
        }
        let sections = groups.into_iter().enumerate().map(|(index, (name, figures))| {
            let id = format!("group-{index}");
            let heading = if name.is_empty() {
                h("h2.hush").with("id", id.clone()).add("More figures")
            } else {
                h("h2").with("id", id.clone()).add(name)
            };
            h(&format!("section.group.n{}", figures.len()))
                .with("aria-labelledby", id)
                .add(heading)
                .add(h("ul").all(figures.iter().map(|figure| self.tile(figure))))
        });
        h(&format!("div.groups.n{}", thirds.len())).all(sections)
    }

    fn tile(&self, figure: &Figure) -> Element {
        let quiet = match &figure.quiet {
            Some(quiet) if quiet.alarm => ".quiet.alarm",
            Some(_) => ".quiet",
            None => "",
        };
        let never = figure.state == FigureState::Never;
        let name =
            format!("li.tile.{}.{}.is-{}{quiet}", slot(figure.slot), kind(figure.kind), known(figure.state));
        let mut label = h("h3").add(figure.label.as_str());
        if !figure.period.is_empty() {
            label = label.add(" ").add(h("small").add(figure.period));
        }
        let record = figure.record.as_deref().map(|record| h("p.record").add(record));
        let compared = (!never).then(|| comparisons(figure));
        let tile = h(&name)
            .key(figure.id.as_str())
            .add(h("div.head").add(label).all(record))
            .add(h("div.now").add(numbers(figure)).all(compared));
        if never {
            return tile.all(waiting(figure));
        }
        tile.all(self.notes(figure))
            .all(self.picture(figure))
            .all(figure.goals.iter().map(target))
            .add(h("p.last").add(last_one(figure, self.now)))
            .add(self.more(figure))
    }

    fn notes(&self, figure: &Figure) -> Vec<Node> {
        let why = self.state.partial.as_deref().filter(|_| figure.state == FigureState::Partial);
        let partly = why.map(|why| h("p.note.partly").add(format!("approximate: {why}")));
        let silent = figure.quiet.as_ref().map(|quiet| h("p.note.silent").add(sentence(&quiet.words)));
        let corrected = figure.corrected.as_deref().map(|words| h("p.note").add(words));
        [partly, silent, corrected].into_iter().flatten().map(Node::from).collect()
    }

    fn picture(&self, figure: &Figure) -> Vec<Node> {
        let Some(spark) = figure.spark.as_ref() else { return Vec::new() };
        let lines = h("div.spark").add(drawing(figure, spark, &self.state.marks));
        if figure.slot != Slot::Hero {
            return vec![lines.into()];
        }
        let marks = of_today(spark, &self.state.marks);
        let named = marks.iter().skip(marks.len().saturating_sub(MARKS)).map(|mark| {
            h("span")
                .key(format!("{} {}", mark.at_ms, mark.text))
                .add(format!("{} {}", mark.clock, mark.text))
        });
        let list = (!marks.is_empty()).then(|| h("p.marks").all(named).into());
        [Some(lines.add(axis(spark)).into()), list].into_iter().flatten().collect()
    }

    /// What stands behind a figure: its parts, its hours as a table, and where to take it along.
    fn more(&self, figure: &Figure) -> Element {
        let rows = figure.breakdown.iter().map(|slice| {
            h("tr")
                .key(slice.name.as_str())
                .add(h("th").with("scope", "row").add(slice.name.as_str()))
                .add(h("td").add(slice.text.as_str()))
                .add(h("td").add(bar(slice.share, None)))
        });
        let parts = (!figure.breakdown.is_empty())
            .then(|| h("table.parts").add(h("caption").add("Largest parts")).add(h("tbody").all(rows)));
        let hours = figure.spark.as_ref().map(|spark| hours(figure, spark));
        let links = self
            .links(figure)
            .into_iter()
            .map(|(words, href)| h("a").key(words).with("href", href).add(words));
        h("details.more")
            .add(h("summary").add(h("span.hush").add(format!("More on {}", figure.label))))
            .add(h("div.panel").all(parts).all(hours).add(h("p.links").all(links)))
    }

    /// Where a figure's history can be had: by day, for the last month.
    fn links(&self, figure: &Figure) -> Vec<(&'static str, String)> {
        if figure.query.is_empty() {
            return Vec::new();
        }
        let names: Vec<String> =
            figure.query.iter().map(|name| format!("name={}", url::component(name))).collect();
        let query = format!("/api/v1/query?{}&from=-30d&step=1d", names.join("&"));
        let mut links =
            vec![("CSV", format!("{query}&format=csv")), ("JSON", format!("{query}&format=json"))];
        if let Some(grafana) = self.grafana {
            let from = figure.spark.as_ref().map_or("now-24h".to_owned(), |spark| spark.from_ms.to_string());
            let join = if grafana.contains('?') { '&' } else { '?' };
            links.push(("Open in Grafana", format!("{grafana}{join}from={from}&to=now")));
        }
        links
    }

    fn unplaced(&self) -> Element {
        let (heading, words) = if self.state.guessed {
            (
                "Not configured yet",
                "The figures above are a guess from what comes in. Paste what you want to keep into tallyd.toml.",
            )
        } else {
            (
                "Seen, not placed",
                "These come in and stand on no page. Paste what you want to see into tallyd.toml.",
            )
        };
        let series = self.state.unplaced.iter().map(|series| {
            let summary = h("summary")
                .add(h("code").add(series.name.as_str()))
                .add(" ")
                .add(h("small").add(series.kind));
            let toml = h("pre").add(h("code").add(series.toml.as_str()));
            h("li").key(format!("{} {}", series.kind, series.name)).add(h("details").add(summary).add(toml))
        });
        h("section.unplaced")
            .with("aria-labelledby", "unplaced")
            .add(h("h2").with("id", "unplaced").add(heading))
            .add(h("p").add(words))
            .add(h("ul").all(series))
    }

    /// The last events, the newest first.
    pub(super) fn ticker(&self) -> Vec<Node> {
        let event = |event: &crate::figures::state::Event| {
            let time = h("time").add(event.clock.as_str());
            let line = h("li").key(format!("{} {}", event.at_ms, event.text));
            Node::from(line.add(time).add(" ").add(event.text.as_str()))
        };
        self.state.ticker.iter().map(event).collect()
    }

    /// The footer: zone, promise, and what is unusual.
    pub(super) fn about(&self) -> Vec<Node> {
        let said =
            [self.state.zone, self.state.guarantee.as_str()].into_iter().filter(|words| !words.is_empty());
        let said = said.map(|words| h("span").add(words));
        let partly = self.state.partial.as_deref();
        let partly = partly.map(|why| h("span.partly").add(format!("approximate: {why}")));
        let note = self.state.note.as_deref().map(|note| h("span").add(note));
        said.chain(partly).chain(note).map(Node::from).collect()
    }

    /// The links to all pages; none where there is one alone. `query` is what this page was asked with.
    pub(super) fn pages(&self, query: &str) -> Vec<Node> {
        if self.state.pages.len() < 2 {
            return Vec::new();
        }
        let link = |page: &PageName| {
            let link = h("a").key(page.path.as_str()).with("href", format!("{}{query}", page.path));
            let here = page.path == self.state.page.path;
            let link = if here { link.with("aria-current", "page") } else { link };
            Node::from(link.add(page.title.as_str()))
        };
        self.state.pages.iter().map(link).collect()
    }
}

fn empty(state: &PageState) -> Element {
    if state.version == 0 {
        let words = "What is known is being read: it will stand here in a moment.";
        return h("section.empty").add(h("h2").add("Starting")).add(h("p").add(words));
    }
    let words = "Send the first event, and it will stand here within a second:";
    let snippet = state
        .snippet
        .as_deref()
        .map(|snippet| [h("p").add(words), h("p.snippet").add(h("code").add(snippet))]);
    h("section.empty").add(h("h2").add("Nothing has come in yet")).all(snippet.into_iter().flatten())
}

fn numbers(figure: &Figure) -> Element {
    if figure.values.is_empty() {
        return h("p.num.none").add(h("span.val").add("–")).add(h("span.hush").add("not known"));
    }
    let number = |value: &Value| {
        let unit = (!value.unit.is_empty()).then(|| h("span.unit").add(value.unit.as_str()));
        let approx = (figure.state == FigureState::Partial).then(|| h("span.approx").add("≈"));
        let (before, after) = if value.unit_first { (unit, None) } else { (None, unit) };
        h("p.num")
            .key(if value.unit.is_empty() { "one" } else { &value.unit })
            .all(approx)
            .all(before)
            .add(h("span.val").add(value.text.as_str()))
            .all(after)
    };
    // How long the longest is: long numbers are set smaller.
    let length = |value: &Value| value.unit.chars().count() + value.text.chars().count();
    let long = figure.values.iter().map(length).max().unwrap_or(0).min(12);
    h(&format!("div.nums.n{}.l{long}", figure.values.len())).all(figure.values.iter().map(number))
}

/// The word, the sign and the arrow say it; the colour only repeats it.
fn verdict(figure: &Figure, compare: &Compare) -> &'static str {
    match (compare.tone, figure.lower_is_better) {
        (Tone::Usual, _) => "usual",
        (Tone::None, _) => "none",
        (Tone::Up, false) | (Tone::Down, true) => "good",
        (Tone::Down, false) | (Tone::Up, true) => "bad",
    }
}

fn comparisons(figure: &Figure) -> Element {
    let row = |compare: &Compare| {
        let kind = verdict(figure, compare);
        let arrow = if compare.delta.starts_with('+') { "▲" } else { "▼" };
        let coloured = kind == "good" || kind == "bad";
        let arrow = coloured.then(|| h("i").with("aria-hidden", "true").add(arrow));
        let label = h("span").add(compare.label.as_str());
        h(&format!("p.delta.{kind}"))
            .key(compare.label.as_str())
            .add(h("b").all(arrow).add(compare.delta.as_str()))
            .all(compare.percent.as_deref().map(|percent| h("em").add(percent)))
            .add(label.all((kind == "usual").then_some(", as usual")))
    };
    let words = figure.compare_words.as_deref();
    let also = figure.also.iter().map(|also| {
        let text = h("b").add(also.text.as_str());
        h("span").key(also.label.as_str()).add(text).add(" ").add(also.label.as_str())
    });
    h("div.compare")
        .all(figure.compare.iter().map(row))
        .all(words.map(|words| h("p.delta.none").add(h("span").add(words))))
        .all(figure.usual.as_deref().map(|usual| h("p.typical").add(usual)))
        .all((!figure.also.is_empty()).then(|| h("p.also").all(also)))
}

fn waiting(figure: &Figure) -> Vec<Node> {
    let first = h("p.wait").add("waiting for the first ").add(h("code").add(figure.id.as_str()));
    let snippet = figure.snippet.as_deref().map(|snippet| h("p.snippet").add(h("code").add(snippet)));
    [Some(first), snippet].into_iter().flatten().map(Node::from).collect()
}

fn target(goal: &Goal) -> Element {
    let period = match goal.period {
        Period::Day => ("day", "today"),
        Period::Week => ("week", "this week"),
        Period::Month => ("month", "this month"),
    };
    let words = (!goal.words.is_empty()).then(|| h("span").add(format!(" · {}", goal.words)));
    let done = h("b").add(format!("{} %", (goal.done * 100.0).floor()));
    let line = h("p").add(done).add(format!(" of {} {}", goal.target, period.1)).all(words);
    h("div.goal").key(period.0).add(bar(goal.done, goal.pace)).add(line)
}

fn last_one(figure: &Figure, now: WallMs) -> String {
    let words = figure.last_words.clone();
    let Some(last) = figure.last_ms else { return words.unwrap_or("no event today".to_owned()) };
    let age = now - last;
    if figure.state != FigureState::Zero && age < 12 * 3_600_000 {
        format!("last one {} ago", span(age))
    } else {
        words.unwrap_or_default()
    }
}

fn slot(slot: Slot) -> &'static str {
    match slot {
        Slot::Hero => "hero",
        Slot::Second => "second",
        Slot::Third => "third",
    }
}

fn kind(kind: FigureKind) -> &'static str {
    match kind {
        FigureKind::Count => "count",
        FigureKind::Money => "money",
        FigureKind::Unique => "unique",
        FigureKind::Ratio => "ratio",
        FigureKind::Gauge => "gauge",
        FigureKind::Timer => "timer",
    }
}

fn known(state: FigureState) -> &'static str {
    match state {
        FigureState::Never => "never",
        FigureState::Zero => "zero",
        FigureState::Live => "live",
        FigureState::Partial => "partial",
    }
}
