//! The page as plain text, a paragraph for each figure: for scripts, mails and terminals of another age.

use super::page::Page;
use std::fmt::Write as _;

/// All of it.
pub(super) fn text(page: &Page) -> String {
    let mut text = format!("{}  {} {} {}\n", page.name.title, page.day, page.clock, page.zone);
    if let Some(why) = &page.partial {
        // Writing to a string does not fail.
        writeln!(text, "≈ numbers may be too low: {why}").ok();
    }
    let titles = page.figures.iter().map(|figure| figure.title().chars().count()).max().unwrap_or(0);
    for figure in &page.figures {
        writeln!(text, "{:titles$}  {}", figure.title(), figure.number()).ok();
        let goals = figure.goals.iter().map(super::page::Goal::words);
        for words in figure.comparisons().into_iter().chain(goals).chain(figure.remarks()) {
            writeln!(text, "{:titles$}  {words}", "").ok();
        }
    }
    text
}
