//! What the configuration says of figures and pages.

use super::state::FigureKind;
use crate::query::Stat;
use chrono::NaiveDate;
use std::collections::BTreeSet;

/// All of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// `company.currency`, where a figure names none.
    pub currency: String,
    /// `company.holidays`: days that nothing is compared with.
    pub holidays: BTreeSet<NaiveDate>,
    /// `[[figure]]`
    pub figures: Vec<FigureRules>,
    /// `[[page]]`; without one, all figures stand on one.
    pub pages: Vec<PageRules>,
    /// What our own series begin with: they are not the business's.
    pub own_prefix: String,
    /// What is promised of what is counted, while all is well.
    pub guarantee: String,
    /// Where lines come in, for what is shown to be tried.
    pub udp_port: u16,
}

/// Counters that are deploys, by name.
pub(super) const DEPLOYS: &str = "deploys.";
/// Counters that marks are counted under.
pub(super) const MARKS: &str = "marks.";

impl Options {
    /// Patterns of all series that figures are made of: these keep the ladder `rollup.figures`.
    #[must_use]
    pub fn series(&self) -> Vec<String> {
        let mut patterns = self.metrics();
        if !patterns.is_empty() {
            patterns.extend([DEPLOYS, MARKS].map(|prefix| format!("{prefix}*")));
            patterns.push(self.kernel_drops());
        }
        patterns
    }

    /// Patterns of the metrics that figures name.
    #[must_use]
    pub fn metrics(&self) -> Vec<String> {
        let mut patterns: Vec<String> = Vec::new();
        for figure in self.figures.iter().filter(|figure| !figure.metric.is_empty()) {
            if !patterns.contains(&figure.metric) {
                patterns.push(figure.metric.clone());
            }
        }
        patterns
    }

    /// Our own counter of what the kernel dropped.
    pub(super) fn kernel_drops(&self) -> String {
        format!("{}.kernel_drops", self.own_prefix)
    }
}

/// One `[[figure]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct FigureRules {
    /// What pages call it.
    pub id: String,
    /// Name of the metric, or a pattern with `*` and `?`; empty for a ratio.
    pub metric: String,
    /// What people call it.
    pub label: String,
    /// What it is made of.
    pub kind: FigureKind,
    /// Of money: the currency of all its series. Without one it is the last part of the name or the tag
    /// `currency`, where that is three letters, and else the company's.
    pub currency: Option<String>,
    /// How many digits of the samples' minor unit stand behind the point: 2 makes 4900 to 49.00.
    pub decimals: u32,
    /// Of a ratio: the ids of what is divided by what.
    pub of: Option<(String, String)>,
    /// Of a timer or of several gauges.
    pub stat: Option<Stat>,
    /// The tag that parts are told apart by.
    pub by: Option<String>,
    /// What is to be reached.
    pub goal: Goals,
    /// Whether silence is an alarm.
    pub alarm: bool,
    /// The heading that thirds stand under.
    pub group: Option<String>,
}

/// What is to be reached, in major units.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Goals {
    /// In a day.
    pub day: Option<f64>,
    /// In a week from Monday.
    pub week: Option<f64>,
    /// In a calendar month.
    pub month: Option<f64>,
}

/// One `[[page]]`.
#[derive(Clone, Debug, PartialEq)]
pub struct PageRules {
    /// `/` or `/live/NAME`.
    pub path: String,
    /// What it is called.
    pub title: String,
    /// Id of its largest figure.
    pub hero: String,
    /// Ids of the others, in their order.
    pub show: Vec<String>,
}
