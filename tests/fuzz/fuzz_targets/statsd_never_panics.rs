//! Any bytes, as a datagram in either dialect: no panic, and every line is counted once.

#![no_main]

use libfuzzer_sys::fuzz_target;
use tallyd::health::Refusal;
use tallyd::wire::Dialect;
use tallyd::wire::statsd::{self, Grammar, Sample, UnknownType, Visitor};

/// Looks at what it is told, so that no bound is left unchecked.
#[derive(Default)]
struct Look {
    told: u64,
}

impl Visitor for Look {
    fn sample(&mut self, sample: &Sample<'_>) {
        assert!(sample.weight.is_finite() && sample.weight > 0.0, "{sample:?}");
        assert!(!sample.name.contains(&b'\n') && !sample.tags.contains(&b'\n'), "{sample:?}");
        self.told += 1;
    }

    fn refused(&mut self, _reason: Refusal) {
        self.told += 1;
    }

    fn event(&mut self) {
        self.told += 1;
    }

    fn service_check(&mut self) {
        self.told += 1;
    }
}

fuzz_target!(|packet: &[u8]| {
    for dialect in [Dialect::Native, Dialect::Statsd] {
        for unknown_type in [UnknownType::Refuse, UnknownType::Counter] {
            let grammar = Grammar { dialect, unknown_type };
            for line in packet.split(|byte| *byte == b'\n') {
                let mut look = Look::default();
                let counts = statsd::line(grammar, line, &mut look);
                assert!(look.told > 0 || !counts, "{grammar:?}: a line left no trace: {}", line.escape_ascii());
            }
        }
    }
});
