//! Whether a difference means something.
//!
//! A percentage of a small base is noise, so there is one from a base of 20 on. A difference has a tone if it is
//! more than twice what the four earlier same weekdays differed by, and of things that come one by one at least
//! twice √n: less than that is chance.

use super::days::{Other, short};
use super::state::{Compare, Tone};
use super::words::{Unit, sign};
use chrono::NaiveDate;

/// The least base that has a percentage.
const PERCENT_BASE: f64 = 20.0;
/// Weekdays without which there is no usual spread.
const WEEKDAYS_MIN: usize = 2;
/// Standard deviations beyond which a difference means something.
const DEVIATIONS: f64 = 2.0;

/// A number with how many events it is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Total {
    pub(super) number: f64,
    pub(super) events: f64,
}

/// What chance alone makes of a number that comes in so many events.
fn chance(base: Total) -> f64 {
    if base.events > 0.0 { base.number.abs() / base.events.sqrt() } else { 0.0 }
}

/// Whether the difference of a number to its base is more than usual. `weekdays` are the same weekdays before.
pub(super) fn tone(by_now: Total, base: Total, weekdays: &[Total]) -> Tone {
    if weekdays.len() < WEEKDAYS_MIN {
        return Tone::None;
    }
    let count = weekdays.len() as f64;
    let mean = weekdays.iter().map(|day| day.number).sum::<f64>() / count;
    let squares: f64 = weekdays.iter().map(|day| (day.number - mean).powi(2)).sum();
    let spread = (squares / (count - 1.0)).sqrt().max(chance(base));
    let difference = by_now.number - base.number;
    match difference {
        difference if difference > DEVIATIONS * spread => Tone::Up,
        difference if difference < -DEVIATIONS * spread => Tone::Down,
        _ => Tone::Usual,
    }
}

/// The percentage by which a number differs from its base, where that says anything.
pub(super) fn percent(by_now: f64, base: f64) -> Option<String> {
    if base < PERCENT_BASE {
        return None;
    }
    let percent = ((by_now - base) / base * 100.0).round();
    let sign = if percent == 0.0 { "±" } else { sign(percent) };
    Some(format!("{sign}{} %", super::words::grouped(percent.abs(), 0)))
}

/// Whose words a comparison has.
pub(super) struct Words<'a> {
    pub(super) unit: &'a Unit,
    pub(super) today: NaiveDate,
    /// `by 14:05`
    pub(super) until: &'a str,
    /// Whether a percentage can be had at all: of shares there are points alone.
    pub(super) percent: bool,
}

/// A comparison with another day.
pub(super) fn compare(
    words: &Words<'_>,
    by_now: Total,
    (other, base): (Other, Total),
    weekdays: &[Total],
) -> Compare {
    Compare {
        label: label(words, other),
        delta: words.unit.rough_difference(by_now.number - base.number),
        percent: percent(by_now.number, base.number).filter(|_| words.percent),
        base: words.unit.text(base.number),
        by_now_number: by_now.number,
        base_number: base.number,
        day: other.date.to_string(),
        tone: tone(by_now, base, weekdays),
    }
}

fn label(words: &Words<'_>, other: Other) -> String {
    let until = words.until;
    let days = (words.today - other.date).num_days();
    match other.instead_of {
        Some(holiday) => {
            format!("vs {} {until}, since {} was a holiday", short(other.date), holiday.format("%-d %b"))
        }
        None if days == 1 => format!("vs yesterday {until}"),
        None => format!("vs last {} {until}", other.date.format("%a")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(numbers: &[f64]) -> Vec<Total> {
        numbers.iter().map(|&number| Total { number, events: number }).collect()
    }

    fn toned(by_now: f64, base: f64, weekdays: &[f64]) -> Tone {
        let total = |number| Total { number, events: number };
        tone(total(by_now), total(base), &counts(weekdays))
    }

    #[test]
    fn small_bases_have_no_percentage() {
        assert_eq!(percent(30.0, 19.0), None);
        assert_eq!(percent(30.0, 20.0), Some("+50 %".to_owned()));
        assert_eq!(percent(184.0, 163.0), Some("+13 %".to_owned()));
        assert_eq!(percent(99.7, 100.0), Some("±0 %".to_owned()));
        assert_eq!(percent(5.0, 0.0), None);
        assert_eq!(percent(-5.0, 100.0), Some("−105 %".to_owned()));
    }

    #[test]
    fn a_difference_has_a_tone_beyond_twice_the_usual_spread() {
        // √100 is 10, and the weekdays hardly differ.
        assert_eq!(toned(119.0, 100.0, &[100.0, 101.0, 99.0, 100.0]), Tone::Usual);
        assert_eq!(toned(121.0, 100.0, &[100.0, 101.0, 99.0, 100.0]), Tone::Up);
        assert_eq!(toned(79.0, 100.0, &[100.0, 101.0, 99.0, 100.0]), Tone::Down);
        // Weekdays that differ by 40 swallow the same difference.
        assert_eq!(toned(170.0, 100.0, &[60.0, 140.0, 100.0, 100.0]), Tone::Up);
        assert_eq!(toned(160.0, 100.0, &[60.0, 140.0, 100.0, 100.0]), Tone::Usual);
        assert_eq!(toned(500.0, 100.0, &[100.0]), Tone::None);
    }

    #[test]
    fn a_few_large_orders_are_chance() {
        // Four orders made 400; one more is no news.
        let base = Total { number: 400.0, events: 4.0 };
        let same = [base; 4];
        assert_eq!(tone(Total { number: 790.0, events: 8.0 }, base, &same), Tone::Usual);
        assert_eq!(tone(Total { number: 810.0, events: 8.0 }, base, &same), Tone::Up);
    }
}
