//! Numbers in lines: bytes to [`Number`], or the reason why not.
//!
//! Nearly every value is a short decimal. Those take one loop over their digits and stay exact; everything
//! else goes to a correctly rounded parser. What only JavaScript reads (`0x10`, `Infinity`) is refused.

use crate::health::Refusal;
use crate::metric::{Number, name::is_js_space, sum::MANTISSA_MAX};

/// Most digits and point of a short decimal: 16 characters hold any mantissa that could be exact.
const SHORT_BYTES_MAX: usize = 16;

/// A decimal number, nothing around it.
#[inline]
pub fn number(text: &[u8]) -> Result<Number, Refusal> {
    match short_decimal(text) {
        Some(number) => Ok(number),
        None => long_decimal(text),
    }
}

/// The same as JavaScript's `Number(text)` reads it, but for its own notations: blanks around the number
/// are passed over, and blanks alone are zero.
pub(super) fn number_with_blanks(text: &[u8]) -> Result<Number, Refusal> {
    match number(text) {
        Err(Refusal::BadValue) if !text.is_empty() => match trim(text) {
            b"" => Ok(Number::Decimal { mantissa: 0, places: 0 }),
            inner if inner.len() < text.len() => number(inner),
            _ => Err(Refusal::BadValue),
        },
        result => result,
    }
}

/// Without JavaScript's white space at both ends.
pub(super) fn trim(text: &[u8]) -> &[u8] {
    match std::str::from_utf8(text) {
        Ok(text) => text.trim_matches(is_js_space).as_bytes(),
        Err(_) => text.trim_ascii(),
    }
}

/// A number of at most 16 characters and without an exponent, exactly.
#[inline]
pub(super) fn short_decimal(text: &[u8]) -> Option<Number> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    if digits.len() > SHORT_BYTES_MAX {
        return None;
    }
    let (mut mantissa, mut places, mut point) = (0_u64, 0_u8, 0_u8);
    for &byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit < 10 {
            mantissa = mantissa * 10 + u64::from(digit);
            places += point;
        } else if byte == b'.' && point == 0 {
            point = 1;
        } else {
            return None;
        }
    }
    if digits.len() == usize::from(point) || mantissa > MANTISSA_MAX {
        return None;
    }
    let mantissa = mantissa as i64;
    Some(Number::Decimal { mantissa: if negative { -mantissa } else { mantissa }, places })
}

#[cold]
fn long_decimal(text: &[u8]) -> Result<Number, Refusal> {
    let decimal = |&byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
    if !text.iter().all(decimal) {
        return Err(if is_not_finite(text) { Refusal::NotFinite } else { Refusal::BadValue });
    }
    match fast_float2::parse::<f64, _>(text) {
        Ok(value) if value.is_finite() => Ok(Number::Float(value)),
        Ok(_) => Err(Refusal::NotFinite),
        Err(_) => Err(Refusal::BadValue),
    }
}

fn is_not_finite(text: &[u8]) -> bool {
    let word = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    [&b"inf"[..], b"infinity", b"nan"].iter().any(|name| word.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Result<f64, Refusal> {
        number(text.as_bytes()).map(Number::to_f64)
    }

    #[test]
    fn decimals_are_read_as_std_reads_them() {
        for text in [
            "0",
            "1",
            "-1",
            "+1",
            "0.1",
            ".5",
            "5.",
            "-.5",
            "0.10",
            "123456789.123456",
            "9007199254740993",
            "0.30000000000000004",
            "1e3",
            "1E-7",
            "-2.5e+10",
            "1234567890123456",
            "99999999999999999999",
            "0.000000000000000001",
            "00012",
            "1e-400",
        ] {
            assert_eq!(value(text), Ok(text.parse::<f64>().unwrap()), "{text}");
        }
    }

    #[test]
    fn short_decimals_stay_exact() {
        assert_eq!(number(b"0.10"), Ok(Number::Decimal { mantissa: 10, places: 2 }));
        assert_eq!(number(b"-12.5"), Ok(Number::Decimal { mantissa: -125, places: 1 }));
    }

    #[test]
    fn everything_else_is_refused() {
        for text in
            ["", "-", "+", ".", "-.", "1.2.3", "1e", "e5", "0x10", "1,5", " 1", "1 ", "--1", "1_000", "\0"]
        {
            assert_eq!(value(text), Err(Refusal::BadValue), "{text:?}");
        }
        for text in ["inf", "-Infinity", "NaN", "1e400", "-1e999"] {
            assert_eq!(value(text), Err(Refusal::NotFinite), "{text}");
        }
    }

    #[test]
    fn blanks_as_javascript_sees_them() {
        assert_eq!(number_with_blanks(b" 1\r"), number(b"1"));
        assert_eq!(number_with_blanks(b"  "), number(b"0"));
        assert_eq!(number_with_blanks(b""), Err(Refusal::BadValue));
        assert_eq!(number_with_blanks(b"1 2"), Err(Refusal::BadValue));
        assert_eq!(number_with_blanks("\u{a0}7".as_bytes()), number(b"7"));
    }
}
