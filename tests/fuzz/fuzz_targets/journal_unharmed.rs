//! Any bytes as a segment of the journal: no panic, and nothing is found that is not there.

#![no_main]

#[path = "../../it/unharmed.rs"]
#[expect(dead_code, reason = "the other doors have targets of their own")]
mod unharmed;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| unharmed::journal(bytes));
