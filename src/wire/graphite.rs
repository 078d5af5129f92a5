//! Points to carbon's bytes: plaintext lines and pickle frames.
//!
//! ```text
//!   plaintext   path SP value SP seconds LF
//!   pickle      length (4 bytes, big-endian) · protocol 0: (l (S'path'\n (L<seconds>L\n S'value'\n t t a … .
//! ```
//!
//! Values are written in JavaScript's shortest form, as statsd writes them. What carbon would choke on does
//! not get through.

use crate::limits;

/// One value for Graphite. The path is borrowed: a bucket has many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point<'a> {
    /// Name and tags.
    pub path: &'a str,
    /// The value, finite.
    pub value: f64,
    /// Seconds since 1970.
    pub seconds: i64,
}

/// Whether carbon takes the path in a line without harm: no blanks or control characters, no longer than a
/// line, no part longer than a file name. Carbon closes the connection on lines over 16 KiB and loses what
/// follows; a blank makes a line of four fields, which it drops. Names that are not UTF-8 cannot get here.
fn fits_line(path: &str) -> bool {
    let short = |part: &str| part.len() <= limits::CARBON_COMPONENT_BYTES_MAX;
    !path.is_empty()
        && path.len() + 64 <= limits::CARBON_LINE_BYTES_MAX
        && (path.bytes().all(|byte| byte.is_ascii_graphic())
            || !path.chars().any(|c| c.is_whitespace() || c.is_control()))
        && path.split(';').next().unwrap_or("").split('.').all(short)
}

/// The same for a pickle, whose strings are ASCII in single quotes.
fn fits_pickle(path: &str) -> bool {
    fits_line(path) && path.bytes().all(|byte| byte.is_ascii() && !matches!(byte, b'\'' | b'\\'))
}

/// Appends a number in JavaScript's shortest form: `0.1`, `100000`, `1e-7`, `1e+21`.
pub fn push_number(out: &mut Vec<u8>, value: f64) {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        // Most figures are whole; this is the same text without the search for the shortest digits.
        push_integer(out, value as i64);
    } else {
        out.extend_from_slice(ryu_js::Buffer::new().format_finite(value).as_bytes());
    }
}

/// Appends a whole number in decimal.
pub fn push_integer(out: &mut Vec<u8>, value: i64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    let mut rest = value.unsigned_abs();
    loop {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = b'0' + (rest % 10) as u8;
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(digits.get(at..).unwrap_or(b""));
}

/// Appends a plaintext line; `false` if carbon would choke on it, and it was left out.
pub fn push_line(out: &mut Vec<u8>, point: &Point<'_>) -> bool {
    if !fits_line(point.path) {
        return false;
    }
    out.extend_from_slice(point.path.as_bytes());
    out.push(b' ');
    push_number(out, point.value);
    out.push(b' ');
    push_integer(out, point.seconds);
    out.push(b'\n');
    true
}

/// Builds pickle frames no larger than carbon takes.
#[derive(Debug, Default)]
pub struct Pickler {
    out: Vec<u8>,
    /// Where the open frame's length stands, if a frame is open.
    frame: Option<usize>,
}

impl Pickler {
    /// Appends a point, in a new frame if the open one is full; `false` if it was left out.
    pub fn push(&mut self, point: &Point<'_>) -> bool {
        if !fits_pickle(point.path) {
            return false;
        }
        let start = match self.frame {
            Some(start)
                if self.out.len() - start + point.path.len() + 128 < limits::CARBON_PICKLE_BYTES_MAX =>
            {
                start
            }
            _ => self.open_frame(),
        };
        self.frame = Some(start);
        self.out.extend_from_slice(b"(S'");
        self.out.extend_from_slice(point.path.as_bytes());
        self.out.extend_from_slice(b"'\n(L");
        push_integer(&mut self.out, point.seconds);
        self.out.extend_from_slice(b"L\nS'");
        push_number(&mut self.out, point.value);
        self.out.extend_from_slice(b"'\ntta");
        true
    }

    /// The frames.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.close_frame();
        self.out
    }

    fn open_frame(&mut self) -> usize {
        self.close_frame();
        let start = self.out.len();
        self.out.extend_from_slice(b"\0\0\0\0(l");
        start
    }

    fn close_frame(&mut self) {
        if let Some(start) = self.frame.take() {
            self.out.push(b'.');
            let length = (self.out.len() - start - 4) as u32;
            for (byte, value) in self.out.iter_mut().skip(start).zip(length.to_be_bytes()) {
                *byte = value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(path: &str, value: f64) -> String {
        let mut out = Vec::new();
        assert!(push_line(&mut out, &Point { path, value, seconds: 1_700_000_000 }));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn numbers_are_written_as_javascript_writes_them() {
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (1.0, "1"),
            (-42.0, "-42"),
            (0.1, "0.1"),
            (1e-7, "1e-7"),
            (1e21, "1e+21"),
            (123_456_789_012_345_680.0, "123456789012345680"),
            (0.1 + 0.2, "0.30000000000000004"),
        ] {
            assert_eq!(line("a", value), format!("a {text} 1700000000\n"));
        }
    }

    #[test]
    fn a_pickle_frame_is_what_statsd_sends() {
        let mut pickler = Pickler::default();
        assert!(pickler.push(&Point { path: "a.b", value: 1.5, seconds: 1_700_000_000 }));
        let frame = pickler.finish();
        assert_eq!(&frame[4..], b"(l(S'a.b'\n(L1700000000L\nS'1.5'\ntta.");
        assert_eq!(frame[..4], (frame.len() as u32 - 4).to_be_bytes());
    }

    #[test]
    fn frames_stay_below_what_carbon_takes() {
        let path = "x".repeat(249) + "." + &"y".repeat(250);
        let mut pickler = Pickler::default();
        for seconds in 0..5_000 {
            assert!(pickler.push(&Point { path: &path, value: 1.0, seconds }));
        }
        let bytes = pickler.finish();
        let (mut at, mut frames) = (0, 0);
        while at < bytes.len() {
            let length = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
            assert!(length <= limits::CARBON_PICKLE_BYTES_MAX);
            assert_eq!(bytes[at + 3 + length], b'.');
            at += 4 + length;
            frames += 1;
        }
        assert_eq!((at, frames), (bytes.len(), 3));
    }

    #[test]
    fn what_carbon_chokes_on_is_known() {
        assert!(fits_pickle("stats.counters.a.count;k=v"));
        for path in ["", "a b", "a\nb", "a\u{a0}b", "a\0", &"x".repeat(251), &"x.".repeat(9_000)] {
            assert!(!fits_line(path), "{path:?}");
        }
        for path in ["é", "it's", "a\\b"] {
            assert!(fits_line(path) && !fits_pickle(path), "{path:?}");
        }
    }
}
