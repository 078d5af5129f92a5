//! The page: figures against slow oracles, on a clock that is set by hand.

mod figures;
mod oracle;
mod silence;
mod world;
