//! Datagrams drawn from a seed: well-formed lines, odd ones that statsd takes, and malformed ones.
//!
//! Nothing here knows what is excluded: lines that a row of docs/differences-from-statsd.md covers are
//! generated as well and taken out afterwards, so that the classifiers are exercised. Values stay small
//! where signs mix, so that rounding errors stay far below the tolerance; very large ones are positive.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

const NAMES: &[&str] = &[
    "a",
    "app.requests",
    "app.time",
    "time.render",
    "UPPER-case_1",
    "123",
    "app..double",
    ".lead",
    "trail.",
    "",
    "with blank",
    "two  blanks\tand a tab",
    "path/to/it",
    "café",
    "☕",
    "no\u{a0}break",
    "bom\u{feff}s",
    "nel\u{85}x",
    "dollar$%&",
    "inline;k=v",
    "inline;;",
    "eq=ual",
    "a b;k=v",
    "nul\0byte",
    "quote's",
    "back\\slash",
    "a|b",
    "x",
];
const TAGS: &[&str] = &[
    "k:v",
    "env:prod",
    "bare",
    "",
    "a:b:c",
    "x;y:z;w",
    "k:",
    ":v",
    "k:v w",
    "region:eu/west",
    "é:ü",
    "n=1",
    "k:v\r",
];
const NUMBERS: &[&str] = &[
    "0",
    "1",
    "2",
    "10",
    "99.9",
    "0.1",
    "0.25",
    "+5",
    "-3",
    "-0.5",
    ".5",
    "5.",
    "1e2",
    "25E-1",
    "-0",
    "007",
    " 7",
    "7 ",
    "\t4\u{a0}",
    "1.125",
    "320",
];
const HUGE: &[&str] =
    &["1e21", "123456789012345680000", "9007199254740993", "4503599627370497", "1000000000000000"];
const TYPES: &[&str] = &[
    "h", "d", "m", "C", "MS", "G", "S", "kv", "", " c", "c ", "ms ", "g\r", " s", "s\r", "s ", "ms\u{a0}",
    "#", "c\0",
];
const RATES: &[&str] = &[
    "|@0.1",
    "|@0.5",
    "|@0.25",
    "|@1",
    "|@1.0",
    "|@2",
    "|@2e-1",
    "|@1e-1",
    "|@.5",
    "|@5.",
    "|@0.5 ",
    "|@0.333",
    "|@0.1\r",
    "|@0.5|ignored",
    "|@0.5|",
    "|@1e1",
];
const BAD_RATES: &[&str] = &[
    "|", "|@", "|0.5", "|@-1", "|@x", "|@.", "|@0.5.1", "|@1,5", "|@@1", "||@0.5", "|x|@0.5", "|@-0",
    "|@0.5x",
];
/// What rows of the table cover, so that their classifiers have something to find.
const EXCLUDED: &[&str] = &[
    "a:0x10|c",
    "a:0b11|g",
    "a:0o17|ms",
    "a:Infinity|g",
    "a:-Infinity|c",
    "a:1e400|c",
    "a:1|c|@0",
    "a:1|c|@0x1",
    "a:1|c|@+0.5",
    "a:1|c|@ 0.5",
    "a:1|c|@Infinity",
    "a:1|c|@\r",
    "constructor:1|c",
    "__proto__:1|ms",
    "a:__proto__|s",
    "a:1|c|T1700000000",
    "a:1|c|@0.5|T1700000000",
    "a:1|c|c:abc",
    "a:1|c|#k:v|c:abc",
    "a:1|g|e:it",
    "a:1|ms|card:low",
];
const MALFORMED: &[&[u8]] = &[
    b"nothing",
    b":",
    b"::",
    b"|",
    b"||",
    b"a:",
    b"a:|c",
    b"a:|ms",
    b"a:|g",
    b"a:x|c",
    b"a:1",
    b"a:1|",
    b"a:NaN|c",
    b"a:NaN|g",
    b"a:nan|ms",
    b"a:inf|c",
    b"a:1,5|c",
    b"a:-5|ms",
    b"a:-0|ms",
    b"a:-5|ms ",
    b"a:b:c|s",
    b"a:1:2:3|c",
    b"a:1|c|",
    b"a:\0|c",
    b"a:1\0|c",
    b"a:+|c",
    b"a:-|g",
    b"a:--1|g",
    b"a:1e|c",
    b"a:e1|c",
    b"a:.|c",
    b"a:1 2|c",
    b"a:1_000|c",
    b" ",
    b"\r",
    b"\t",
    b"a:1|#k:v|c",
    b"a|#k:1|c",
    b"|#k:v",
    b"_e{5,4}:title|text",
    b"_sc|db|0",
    b"a:1|c|Tomorrow",
    b"a:1|c|c:5",
    b"a:1|c:x",
    b"a\xff:1|c",
    b"\xc3\x28:1|g",
    b"inv:\xff|s\ninv:\xfe|s",
    b"inv:\xe2\x98|s",
    b"a:\xff|c",
    b"a:1|\xff",
    b"a:1|c|#k:\xff",
    b"a: |c",
    b"a:  |g",
    b"a:\r|ms",
    b"a:\x0b1\x0c|c",
    b"a:1|c|@0.1:2|ms|@0.5:x|s",
    b"a:1|c:2|ms:3|g:4|s",
    b"a:1|c:oops|ms:-3|g",
    b"members:|s\nmembers:0|s\nmembers:1|s:1.0|s",
    b"blank:3|g\nblank: +5|g\nblank: -1|g",
    b"zero:0|g\nzero:-5|g\nzero:+2|g\nzero:-0|g",
    b"A:\xe2\x80\x83\x31|c",
];

/// A source of datagrams that only its seed decides.
pub(super) struct Generator {
    rng: StdRng,
}

impl Generator {
    pub(super) fn new(seed: u64) -> Self {
        Self { rng: StdRng::seed_from_u64(seed) }
    }

    /// Datagrams of a few lines each; `keep` says which lines may be sent.
    pub(super) fn datagrams(&mut self, count: usize, mut keep: impl FnMut(&[u8]) -> bool) -> Vec<Vec<u8>> {
        (0..count).map(|_| self.datagram(&mut keep)).collect()
    }

    fn datagram(&mut self, keep: &mut impl FnMut(&[u8]) -> bool) -> Vec<u8> {
        let mut datagram = Vec::new();
        for _ in 0..self.rng.random_range(0..6) {
            let mut line = self.line();
            if self.rng.random_bool(0.1) {
                line.push(b'\r');
            }
            if line.split(|byte| *byte == b'\n').all(&mut *keep) {
                datagram.extend_from_slice(&line);
                datagram.extend_from_slice(self.pick(&[&b"\n"[..], b"\n", b"\n", b"\n\n"]));
            }
        }
        if self.rng.random_bool(0.6) {
            datagram.pop();
        }
        datagram
    }

    fn line(&mut self) -> Vec<u8> {
        match self.rng.random_range(0..100) {
            0..50 => self.ordinary(),
            50..78 => self.odd(),
            78..97 => self.pick(MALFORMED).to_vec(),
            _ => self.pick(EXCLUDED).as_bytes().to_vec(),
        }
    }

    /// What clients send: one value, a known type, perhaps a rate and tags.
    fn ordinary(&mut self) -> Vec<u8> {
        let name = self.pick(&["a", "app.requests", "app.time", "time.render", "users", "b.c.d"]);
        let rate = if self.rng.random_bool(0.2) { self.pick(&["|@0.1", "|@0.5", "|@0.25"]) } else { "" };
        let tags =
            if self.rng.random_bool(0.2) { self.pick(&["|#k:v", "|#a:1,b:2", "|#b:2,a:1"]) } else { "" };
        let small = self.rng.random_range(0..1_000);
        let line = match self.rng.random_range(0..5) {
            0 => format!("{name}:{small}|c{rate}{tags}"),
            1 => format!("{name}:{}.{small:03}|ms{rate}{tags}", small % 7),
            2 => format!("{name}:{}{small}|g{tags}", self.pick(&["", "+", "-", ""])),
            3 => format!("{name}:user{}|s{tags}", small % 20),
            _ => format!("{name}:{small}|ms{rate}{tags}"),
        };
        line.into_bytes()
    }

    /// What the grammar allows and few people send.
    fn odd(&mut self) -> Vec<u8> {
        if self.rng.random_bool(0.05) {
            return format!("huge{}:{}|c|@0.5", self.rng.random_range(0..3), self.pick(HUGE)).into_bytes();
        }
        let mut line = (self.pick(NAMES)).to_owned();
        for _ in 0..self.pick(&[1, 1, 1, 1, 2, 3]) {
            line.push(':');
            line.push_str(&self.value());
        }
        if self.rng.random_bool(0.35) {
            line.push_str(&self.tag_list());
        }
        line.into_bytes()
    }

    fn value(&mut self) -> String {
        let number = self.pick(NUMBERS);
        let ty = if self.rng.random_bool(0.7) { self.pick(&["c", "ms", "g", "s"]) } else { self.pick(TYPES) };
        let rate = match self.rng.random_range(0..10) {
            0..3 => self.pick(RATES),
            3 => self.pick(BAD_RATES),
            _ => "",
        };
        let number = if ty.trim() == "s" && self.rng.random_bool(0.5) {
            self.pick(&["", "user 1", "ünï", "0", "a/b", "toString", "\0", "-1"])
        } else {
            number
        };
        format!("{number}|{ty}{rate}")
    }

    fn tag_list(&mut self) -> String {
        let count = self.rng.random_range(0..4);
        let tags: Vec<&str> = (0..count).map(|_| self.pick(TAGS)).collect();
        let tail = self.pick(&["", "", "", "", "|@0.5", "|#second:1", "\r", "|x"]);
        format!("|#{}{tail}", tags.join(","))
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        *choices.choose(&mut self.rng).expect("there is a choice")
    }
}
