//! Any bytes as a batch: refused, or the same when written and read again.

#![no_main]

#[path = "../../it/unharmed.rs"]
#[expect(dead_code, reason = "the other doors have targets of their own")]
mod unharmed;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| unharmed::batch(bytes));
