//! As much of JavaScript as is needed to know how the original reads a number.
//!
//! In comes text, out goes what `Number(text)` gives, or `None` where that is not a number. Written from
//! the language's rules, not from either program, since it judges between the two.

/// What JavaScript takes for white space.
pub(super) fn is_space(c: char) -> bool {
    matches!(c, '\t'..='\r' | ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'..='\u{200a}' | '\u{2028}' | '\u{2029}')
        || matches!(c, '\u{202f}' | '\u{205f}' | '\u{3000}' | '\u{feff}')
}

/// `Number(text)` where the original calls it: never for the empty text, which it takes for no number.
pub(super) fn number(text: &str) -> Option<f64> {
    if text.is_empty() {
        return None;
    }
    let trimmed = text.trim_matches(is_space);
    let unsigned = trimmed.strip_prefix(['+', '-']).unwrap_or(trimmed);
    if trimmed.is_empty() {
        Some(0.0)
    } else if unsigned == "Infinity" {
        Some(if trimmed.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY })
    } else if let Some((digits, radix)) = radix(trimmed) {
        u64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+')).map(|value| value as f64)
    } else {
        trimmed.parse().ok().filter(|_| is_decimal_text(trimmed))
    }
}

/// Whether a number is written in the decimal notation that every program reads, blanks aside.
pub(super) fn is_decimal(text: &str) -> bool {
    let trimmed = text.trim_matches(is_space);
    trimmed.is_empty() || is_decimal_text(trimmed)
}

/// Rust reads the same decimals as JavaScript, and words besides, which have letters that these lack.
fn is_decimal_text(text: &str) -> bool {
    text.chars().all(|c| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E'))
}

fn radix(text: &str) -> Option<(&str, u32)> {
    let digits = text.strip_prefix('0')?;
    [('x', 16), ('o', 8), ('b', 2)].into_iter().find_map(|(mark, radix)| {
        digits.strip_prefix([mark, mark.to_ascii_uppercase()]).map(|digits| (digits, radix))
    })
}

#[test]
fn numbers_are_read_as_javascript_reads_them() {
    for (text, value) in [
        ("1", 1.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("+1e3", 1000.0),
        (" 7\u{a0}", 7.0),
        ("  ", 0.0),
        ("0x10", 16.0),
        ("0B11", 3.0),
        ("0o17", 15.0),
        ("Infinity", f64::INFINITY),
        ("-Infinity", f64::NEG_INFINITY),
        ("1e400", f64::INFINITY),
        ("\u{feff}2\r", 2.0),
    ] {
        assert_eq!(number(text), Some(value), "{text:?}");
    }
    for text in [
        "", "x", "NaN", "nan", "inf", "infinity", ".", "1e", "e5", "1,5", "--1", "-0x10", "0x", "0x+1",
        "1_0", "1 2", "\0", "\u{85}1",
    ] {
        assert_eq!(number(text), None, "{text:?}");
    }
}
