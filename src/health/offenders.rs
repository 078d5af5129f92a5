//! Who sends most, as the status shows it. `flush/offenders.rs` finds it out.

use serde::Serialize;

/// Who sends most, in the last one or two hours: prefixes of names, and addresses. First who has most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Offenders {
    /// Under which prefixes.
    pub prefixes: OffendingPrefixes,
    /// From which addresses.
    pub senders: OffendingSenders,
}

/// Prefixes of names, up to three components, each with what stands below it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OffendingPrefixes {
    /// New series.
    pub new_series: Vec<Offender>,
    /// Values counted in overflow series.
    pub overflow: Vec<Offender>,
}

/// Addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OffendingSenders {
    /// Values counted.
    pub samples: Vec<Offender>,
    /// Values, lines or datagrams refused.
    pub refused: Vec<Offender>,
    /// Series that were new when they came from there.
    pub new_series: Vec<Offender>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Offender {
    /// Which.
    pub name: String,
    /// So many, or fewer.
    pub count: u64,
    /// So many, or more.
    pub at_least: u64,
}
