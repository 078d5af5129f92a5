//! The page of figures: its numbers against slow oracles on a clock that is set by hand, what a browser shows of
//! them, and how it is kept alive. A suite of its own (see the Makefile).

mod browser;
mod config;
mod cuts;
mod demo;
mod drawn;
mod figures;
mod fixtures;
mod live;
mod oracle;
mod silence;
mod streams;
pub(crate) mod world;
