//! What is said of bytes, or of parts of them, that no tally of ours could have given.

use thiserror::Error;

/// Why something that was read cannot be what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("malformed: {0}")]
pub struct Malformed(pub &'static str);
