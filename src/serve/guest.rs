//! What the holder of a share link may ask `/api/v1/query`: the figures of its page, and no part of them that the page
//! does not show.
//!
//! In come the parameters of a question and what the link shows; out come the parameters that are answered, or nothing.
//! A name has to be a figure's own, as the page has it in its links to CSV and JSON. Series are merged by name, so that
//! no tag is told, and only those of the figure's kind are meant.

use super::links::Link;
use crate::figures::PageState;
use crate::figures::state::FigureKind;
use crate::query::Answer;
use std::sync::Arc;

/// Said to whoever asks for more.
pub(super) const REFUSED: &str =
    "a share link shows the figures of its page: ask for one of them by its name on the page";

type Pairs = Vec<(String, String)>;

/// The question that is answered in place of the one that was asked; `None` if it may not be.
pub(super) fn restricted(asked: Pairs, links: &[Arc<Link>], states: &[Arc<PageState>]) -> Option<Pairs> {
    let views: Vec<PageState> = links
        .iter()
        .flat_map(|link| {
            states.iter().filter(|state| link.is_of(&state.page.path)).map(|state| link.view(state))
        })
        .collect();
    let figures = || views.iter().flat_map(|view| &view.figures);
    let mut kinds = asked.iter().filter(|(key, _)| key == "name").map(|(_, name)| {
        figures().find(|figure| figure.query.contains(name)).and_then(|figure| kind(figure.kind))
    });
    // Without a name the question is answered with what is wrong with it.
    let Some(first) = kinds.next() else { return Some(asked) };
    let (kind, by) = first?;
    if kinds.any(|other| other != first) {
        return None;
    }
    let plain = |(key, value): &(String, String)| match key.as_str() {
        "by" => value.is_empty() || value == by,
        "kind" => value == kind,
        _ => true,
    };
    if !asked.iter().all(plain) {
        return None;
    }
    let mut answered: Pairs = asked.into_iter().filter(|(key, _)| key != "kind").collect();
    answered.push(("kind".to_owned(), kind.to_owned()));
    if answered.iter().all(|(key, _)| key != "by") {
        answered.push(("by".to_owned(), by.to_owned()));
    }
    Some(answered)
}

/// The kind of series, and what they may be told apart by: the page has parts by name of what is counted alone.
fn kind(kind: FigureKind) -> Option<(&'static str, &'static str)> {
    match kind {
        FigureKind::Count | FigureKind::Money => Some(("counter", "name")),
        FigureKind::Unique => Some(("set", "")),
        FigureKind::Gauge => Some(("gauge", "")),
        FigureKind::Timer => Some(("timer", "")),
        FigureKind::Ratio => None,
    }
}

/// The answer without how many series there are behind it.
pub(super) fn plain(mut answer: Answer) -> Answer {
    answer.matched = answer.series.len();
    answer.left_out = 0;
    for line in &mut answer.series {
        line.merged = 1;
    }
    answer
}
