//! `make chaos`: every fault of the scoreboard, against the built program and real servers.
//!
//! ```text
//!   rows/ ─▶ Outcome ─▶ a line on the terminal ─▶ docs/reliability.md
//! ```
//!
//! `chaos run` plays all rows, `chaos run 1 5` some; rows that were not played keep their line in the document. A row
//! that panics has missed its target, and says what it said. Without arguments, as `make test` starts it, it only
//! checks that the document has a line for every row. Fixtures are those of tests/it.

#[cfg(test)]
mod board;
#[cfg(test)]
mod feed;
#[cfg(test)]
mod held;
#[cfg(test)]
mod judge;
#[cfg(test)]
mod rows;

// What benches/live measures, row 19 judges.
#[cfg(test)]
#[path = "../../benches/live/readers.rs"]
#[expect(dead_code, reason = "its other user is the bench")]
mod readers;
#[cfg(test)]
#[path = "../../benches/live/subject.rs"]
mod subject;

#[cfg(test)]
#[path = "../it/books.rs"]
#[expect(dead_code, reason = "its other users are in tests/it")]
mod books;
/// Disks that are not real, for the simulation.
#[cfg(test)]
#[path = "../it/journal"]
mod journal {
    #[expect(dead_code, reason = "its other users are in tests/it")]
    pub(crate) mod disk;
}
#[cfg(test)]
#[path = "../it/store_oracle"]
mod store_oracle {
    #[expect(dead_code, reason = "its other users are in tests/it")]
    pub(crate) mod file;
}
#[cfg(test)]
#[path = "../it/support/mod.rs"]
#[expect(dead_code, unused_imports, reason = "its other users are in tests/it")]
mod support;

#[cfg(test)]
fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() != Some("run") {
        board::check();
        return;
    }
    let wanted: Vec<usize> = arguments.map(|text| text.parse().expect("a row's number")).collect();
    let descriptors = tallyd::sys::raise_descriptor_limit();
    assert!(descriptors.is_none_or(|most| most > 12_000), "`ulimit -n` is too low: {descriptors:?}");
    board::play(&wanted);
}
