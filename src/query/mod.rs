//! Questions about what is stored: any series, any range, at the best resolution there is.
//!
//! In come the parameters of a question and the time, out comes an answer, as JSON or CSV. Buckets are merged into
//! steps, and across the series of a group, before a figure is taken, so that percentiles and distinct members of
//! an hour or of a group are right. Knows nothing of HTTP. docs/queries.md is the reference.

mod answer;
mod glob;
mod listing;
mod params;
mod plan;
mod render;
mod select;
mod span;
mod stat;

pub use answer::{Answer, Line, Open, Points, answer};
pub use listing::{Listed, Listing, list};
pub use params::{Asked, Format, ListAsked};
pub use render::{Num, cell};
pub use select::Selector;
pub use span::{moment, span_ms};
pub use stat::Stat;

use crate::store::StoreError;
use serde::Serialize;
use thiserror::Error;

/// What is wrong with a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What is wrong.
    pub error: String,
    /// With which parameter.
    pub parameter: String,
    /// What to write instead.
    pub cure: String,
}

impl Problem {
    fn new(parameter: &str, error: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { error: error.into(), parameter: parameter.to_owned(), cure: cure.into() }
    }
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum QueryError {
    /// The question cannot be answered.
    #[error("{}: {}", .0.parameter, .0.error)]
    Asked(Problem),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<Problem> for QueryError {
    fn from(problem: Problem) -> Self {
        Self::Asked(problem)
    }
}
