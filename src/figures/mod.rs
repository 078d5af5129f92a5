//! Figures: what the business watches, ready to be shown.
//!
//! In come the store and the time, out comes a [`PageState`] for each page. A slow part, once a minute, looks at
//! whole days; a quick part, four times a second, adds what came since. Days are the company's. Comparisons are cut
//! at the same local minute on both days, so that they are fair at any time of day. Knows nothing of HTTP.

mod compare;
mod cover;
mod days;
mod discover;
mod engine;
mod marks;
mod options;
mod plain;
mod ratio;
mod share;
mod slow;
pub mod stalled;
mod standing;
pub mod state;
mod ticker;
mod tile;
mod trust;
mod watched;
mod words;
mod work;

pub use days::Days;
pub use engine::{Count, Engine, MarkRefused, versioned};
pub use marks::mark_key;
pub use options::{FigureRules, Goals, Options, PageRules};
pub use share::{hidden, shared};
pub use state::PageState;
pub(crate) use words::label_of;
