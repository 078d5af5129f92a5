//! Numbers, money and times as people read them.

use super::state::Value;
use crate::clock::WallMs;

/// Symbols of currencies; others are called by their code.
const SYMBOLS: [(&str, &str); 12] = [
    ("EUR", "€"),
    ("USD", "$"),
    ("GBP", "£"),
    ("JPY", "¥"),
    ("INR", "₹"),
    ("KRW", "₩"),
    ("UAH", "₴"),
    ("TRY", "₺"),
    ("ILS", "₪"),
    ("VND", "₫"),
    ("NGN", "₦"),
    ("PHP", "₱"),
];
/// Currencies that are not written with two digits behind the point.
const DIGITS: [(&str, usize); 14] = [
    ("JPY", 0),
    ("KRW", 0),
    ("VND", 0),
    ("CLP", 0),
    ("ISK", 0),
    ("PYG", 0),
    ("UGX", 0),
    ("XAF", 0),
    ("XOF", 0),
    ("BHD", 3),
    ("JOD", 3),
    ("KWD", 3),
    ("OMR", 3),
    ("TND", 3),
];

/// Nobody compares cents of amounts from here on.
const ROUGH_FROM: f64 = 1_000.0;

/// What a number is a number of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Things.
    Plain,
    /// Things of which there may be halves, such as what a gauge says or a timer took.
    Measured(&'static str),
    /// Money of a currency, by its code.
    Money(String),
    /// Parts of a whole, from 0 to 1.
    Share,
}

impl Unit {
    fn digits(&self, number: f64) -> usize {
        match self {
            Self::Plain => usize::from(number.fract() != 0.0) * 2,
            Self::Money(code) => DIGITS.iter().find(|(own, _)| own == code).map_or(2, |(_, digits)| *digits),
            Self::Share => 1,
            Self::Measured(_) if number.fract() == 0.0 || number.abs() >= 100.0 => 0,
            Self::Measured(_) if number.abs() >= 10.0 => 1,
            Self::Measured(_) => 2,
        }
    }

    fn sign(&self) -> (&str, bool) {
        match self {
            Self::Plain => ("", false),
            Self::Measured(unit) => (unit, false),
            Self::Money(code) => (
                SYMBOLS.iter().find(|(own, _)| own == code).map_or(code.as_str(), |(_, symbol)| symbol),
                true,
            ),
            Self::Share => ("%", false),
        }
    }

    /// The number and its unit apart.
    pub(super) fn value(&self, number: f64) -> Value {
        let (unit, unit_first) = self.sign();
        let shown = if *self == Self::Share { number * 100.0 } else { number };
        Value { unit: unit.to_owned(), unit_first, text: grouped(shown, self.digits(shown)), number }
    }

    /// The number with its unit.
    pub(super) fn text(&self, number: f64) -> String {
        with_unit(number, self.value(number.abs()))
    }

    /// The same for reading at a glance: money without its minor units where they are none, or hide what matters.
    pub(super) fn rough(&self, number: f64) -> String {
        let mut value = self.value(number.abs());
        if matches!(self, Self::Money(_))
            && ((number.fract() == 0.0 && number != 0.0) || number.abs() >= ROUGH_FROM)
        {
            value.text = grouped(value.number, 0);
        }
        with_unit(number, value)
    }

    /// The same of a difference, which has a sign in front.
    pub(super) fn difference(&self, number: f64) -> String {
        self.signed(number, |number| self.text(number))
    }

    /// The same at a glance.
    pub(super) fn rough_difference(&self, number: f64) -> String {
        self.signed(number, |number| self.rough(number))
    }

    fn signed(&self, number: f64, text: impl Fn(f64) -> String) -> String {
        let points = |number: f64| format!("{} pt", grouped(number.abs() * 100.0, 1));
        let plain = |number: f64| if *self == Self::Share { points(number) } else { text(number.abs()) };
        let shown = plain(number);
        let nothing = plain(0.0);
        // What rounds to nothing has no direction.
        let sign = if shown == nothing { "±" } else { sign(number) };
        format!("{sign}{shown}")
    }
}

/// A value with its unit, and the sign of `number`.
fn with_unit(number: f64, value: Value) -> String {
    let Value { unit, unit_first, text, .. } = value;
    let minus = if number < 0.0 { "−" } else { "" };
    let space = if unit.chars().count() > 1 || unit == "%" { " " } else { "" };
    if unit_first { format!("{minus}{unit}{space}{text}") } else { format!("{minus}{text}{space}{unit}") }
}

/// `+` or a minus that is as wide.
pub(super) fn sign(number: f64) -> &'static str {
    if number < 0.0 { "−" } else { "+" }
}

/// `3,412.00`
pub(super) fn grouped(number: f64, digits: usize) -> String {
    let text = format!("{:.digits$}", number.abs());
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(a, b)| (a, Some(b)));
    let mut out = String::with_capacity(text.len() + text.len() / 3 + 1);
    if number < 0.0 && text.bytes().any(|byte| (b'1'..=b'9').contains(&byte)) {
        out.push('−');
    }
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out.push_str(fraction);
    }
    out
}

/// A span as one says it: `40 min`, `2 h 10`, `3 days`.
pub(super) fn ago(ms: WallMs) -> String {
    let minutes = ms / 60_000;
    match minutes {
        ..=0 => format!("{} s", (ms / 1_000).max(0)),
        1..=89 => format!("{minutes} min"),
        90..=2_879 if minutes % 60 == 0 => format!("{} h", minutes / 60),
        90..=2_879 => format!("{} h {:02}", minutes / 60, minutes % 60),
        _ => format!("{} days", minutes / 1_440),
    }
}

/// What an id or a metric's name is called where nobody says: `page_views` is `Page views`.
pub(crate) fn label_of(name: &str) -> String {
    let words: String =
        name.chars().map(|c| if matches!(c, '_' | '-' | '.' | '*' | '?') { ' ' } else { c }).collect();
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut letters = words.chars();
    letters.next().map_or_else(|| name.to_owned(), |first| first.to_uppercase().chain(letters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_and_money_has_its_digits() {
        assert_eq!(grouped(1_234_567.891, 2), "1,234,567.89");
        assert_eq!((grouped(999.0, 0), grouped(-1_000.0, 0)), ("999".to_owned(), "−1,000".to_owned()));
        assert_eq!(grouped(-0.001, 2), "0.00");
        let euro = Unit::Money("EUR".to_owned());
        assert_eq!((euro.text(3_412.0), euro.text(-5.5)), ("€3,412.00".to_owned(), "−€5.50".to_owned()));
        assert_eq!((euro.rough(90_000.0), euro.rough(3_412.36)), ("€90,000".to_owned(), "€3,412".to_owned()));
        assert_eq!((euro.rough(214.5), euro.rough(-214.0)), ("€214.50".to_owned(), "−€214".to_owned()));
        assert_eq!(euro.rough_difference(-4_986.33), "−€4,986");
        assert_eq!(
            (euro.rough_difference(0.0), euro.rough_difference(0.001)),
            ("±€0.00".into(), "±€0.00".into())
        );
        assert_eq!(Unit::Money("JPY".to_owned()).text(1_200.0), "¥1,200");
        assert_eq!(Unit::Money("CHF".to_owned()).text(12.5), "CHF 12.50");
        assert_eq!(
            (Unit::Share.text(0.0412), Unit::Share.difference(0.003)),
            ("4.1 %".into(), "+0.3 pt".into())
        );
        assert_eq!(Unit::Measured("ms").text(412.4), "412 ms");
        assert_eq!((Unit::Plain.difference(-21.0), Unit::Plain.difference(0.0)), ("−21".into(), "±0".into()));
    }

    #[test]
    fn spans_and_labels_are_said() {
        let said = [(40, "40 min"), (89, "89 min"), (90, "1 h 30"), (120, "2 h"), (2_880, "2 days")];
        for (minutes, words) in said {
            assert_eq!(ago(minutes * 60_000), words);
        }
        assert_eq!((label_of("page_views"), label_of("revenue.*")), ("Page views".into(), "Revenue".into()));
        assert_eq!(label_of("***"), "***");
    }
}
