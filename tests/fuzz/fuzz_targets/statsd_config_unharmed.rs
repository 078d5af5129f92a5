//! Any text as a file of statsd's, and as one of ours: a configuration, or mistakes that are named.

#![no_main]

#[path = "../../it/unharmed.rs"]
#[expect(dead_code, reason = "the other doors have targets of their own")]
mod unharmed;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    unharmed::statsd_config(bytes);
    unharmed::native_config(bytes);
});
