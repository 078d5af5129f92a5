//! Any line, in either dialect: the fast parser finds what the naive one finds.

#![no_main]

#[path = "../../it/naive.rs"]
mod naive;

use libfuzzer_sys::fuzz_target;
use tallyd::wire::Dialect;
use tallyd::wire::statsd::{Grammar, UnknownType};

fuzz_target!(|text: &[u8]| {
    let line = text.split(|&byte| byte == b'\n').next().unwrap_or(b"");
    for dialect in [Dialect::Native, Dialect::Statsd] {
        for unknown_type in [UnknownType::Refuse, UnknownType::Counter] {
            let grammar = Grammar { dialect, unknown_type };
            assert_eq!(naive::fast(grammar, line), naive::naive(grammar, line), "{grammar:?}");
        }
    }
});
