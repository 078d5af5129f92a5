//! Any bytes at the console: it answers or hangs up, goes on, and changes nothing but by its commands.

#![no_main]

#[path = "../../it/unharmed.rs"]
#[expect(dead_code, reason = "the other doors have targets of their own")]
mod unharmed;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| unharmed::console(bytes));
