//! A page as a share link shows it: its figures less those that are hidden, and nothing of the rest of the house.
//!
//! Hidden is hidden: a figure that counts anything of a hidden one is hidden too, and so is a ratio of one, since
//! either would tell what the hidden one is. What a page says besides its figures, such as marks, names of other pages
//! and reasons that name machines, is for those who run tallyd.

use super::options::FigureRules;
use super::state::{FigureKind, PageState};
use super::watched::kind_of;
use super::work::slot;
use crate::metric::glob;
use std::collections::BTreeSet;

/// Said in place of a reason, which may name machines and paths.
const PARTIAL: &str = "something was lost on the way, or comes late";
/// Said in place of the promise.
const GUARANTEE: &str = "shared by link, to be looked at";

/// All figures that a link does not show, where these ids are hidden.
#[must_use]
pub fn hidden(figures: &[FigureRules], hide: &[String]) -> BTreeSet<String> {
    let plain: Vec<&FigureRules> =
        figures.iter().filter(|figure| hide.contains(&figure.id) && figure.of.is_none()).collect();
    let counts_hidden = |figure: &FigureRules| {
        parts(figure, figures).iter().any(|part| plain.iter().any(|hidden| overlap(part, hidden)))
    };
    let ids = figures.iter().filter(|figure| hide.contains(&figure.id) || counts_hidden(figure));
    ids.map(|figure| figure.id.clone()).chain(hide.iter().cloned()).collect()
}

/// What a figure is made of: of a ratio both parts, else the figure itself.
fn parts<'a>(figure: &'a FigureRules, figures: &'a [FigureRules]) -> Vec<&'a FigureRules> {
    match &figure.of {
        None => vec![figure],
        Some((part, whole)) => {
            figures.iter().filter(|other| other.id == *part || other.id == *whole).collect()
        }
    }
}

/// Whether any series could belong to both.
fn overlap(one: &FigureRules, other: &FigureRules) -> bool {
    kind_of(one.kind) == kind_of(other.kind) && glob::meet(&one.metric, &other.metric)
}

/// The state of a page without what is hidden, and without versions.
#[must_use]
pub fn shared(state: &PageState, hidden: &BTreeSet<String>) -> PageState {
    let shown = state.figures.iter().filter(|figure| !hidden.contains(&figure.id));
    let figures: Vec<_> = shown
        .cloned()
        .enumerate()
        .map(|(at, mut figure)| {
            figure.slot = slot(at);
            figure.version = 0;
            figure.snippet = None;
            if figure.kind == FigureKind::Ratio {
                // The share is shown, and what it is a share of may not be.
                figure.query.clear();
            }
            figure
        })
        .collect();
    let is_shown = |id: &str| figures.iter().any(|figure| figure.id == id);
    let ticker = state.ticker.iter().filter(|event| is_shown(&event.figure)).cloned().collect();
    PageState {
        version: 0,
        at_ms: state.at_ms,
        build: state.build,
        page: state.page.clone(),
        zone: state.zone,
        day: state.day.clone(),
        clock: state.clock.clone(),
        note: state.note.clone(),
        guarantee: GUARANTEE.to_owned(),
        partial: state.partial.as_ref().map(|_| PARTIAL.to_owned()),
        ticker,
        marks: Vec::new(),
        unplaced: Vec::new(),
        pages: vec![state.page.clone()],
        guessed: false,
        snippet: None,
        figures,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::options::Goals;
    use crate::figures::state::{Event, Mark, PageName, Unplaced};

    fn figure(id: &str, kind: FigureKind, metric: &str, of: Option<(&str, &str)>) -> FigureRules {
        FigureRules {
            id: id.to_owned(),
            metric: metric.to_owned(),
            label: id.to_owned(),
            kind,
            currency: None,
            decimals: 2,
            of: of.map(|(part, whole)| (part.to_owned(), whole.to_owned())),
            stat: None,
            by: None,
            goal: Goals::default(),
            alarm: false,
            group: None,
        }
    }

    #[test]
    fn what_counts_anything_of_a_hidden_figure_is_hidden() {
        use FigureKind::{Count, Money, Ratio, Timer, Unique};
        let figures = [
            figure("revenue", Money, "revenue.*", None),
            figure("euros", Money, "revenue.eur", None),
            figure("all", Count, "*.eur", None),
            figure("signups", Count, "signups", None),
            figure("orders", Count, "orders", None),
            figure("paid", Ratio, "", Some(("orders", "signups"))),
            figure("took", Timer, "revenue.took", None),
            figure("readers", Unique, "readers", None),
        ];
        let hides = |ids: &[&str]| {
            let ids: Vec<String> = ids.iter().map(|id| (*id).to_owned()).collect();
            hidden(&figures, &ids).into_iter().collect::<Vec<_>>()
        };
        assert_eq!(hides(&[]), Vec::<String>::new());
        assert_eq!(hides(&["revenue"]), ["all", "euros", "revenue"]);
        assert_eq!(hides(&["orders"]), ["orders", "paid"]);
        assert_eq!(hides(&["took"]), ["took"], "a timer of the same name is another series");
        assert_eq!(
            hides(&["paid"]),
            ["paid"],
            "whoever shows both parts shows what it could be worked out of"
        );
    }

    #[test]
    fn nothing_of_the_house_is_left_in_a_shared_state() {
        let event = |id: &str| Event {
            at_ms: 1,
            clock: String::new(),
            figure: id.to_owned(),
            text: "secret".to_owned(),
        };
        let name = |path: &str| PageName { path: path.to_owned(), title: "secret".to_owned() };
        let state = PageState {
            guarantee: "secret".to_owned(),
            partial: Some("secret".to_owned()),
            ticker: vec![event("revenue"), event("not on this page")],
            marks: vec![Mark { at_ms: 1, clock: String::new(), text: "secret".to_owned() }],
            unplaced: vec![Unplaced {
                name: "secret".to_owned(),
                kind: "counter",
                toml: "secret".to_owned(),
            }],
            pages: vec![name("/secret")],
            guessed: true,
            snippet: Some("secret".to_owned()),
            version: 77,
            ..PageState::default()
        };
        let shown = serde_json::to_string(&shared(&state, &BTreeSet::from(["revenue".to_owned()]))).unwrap();
        assert!(!shown.contains("secret") && !shown.contains("77"), "{shown}");
    }
}
