//! One figure over another, in everything that is known of both.

use super::compare::Total;
use super::days::Other;
use super::slow::Slow;
use super::state::Spark;
use super::tile::share;

/// What is known of a share, from what is known of its part and its whole.
pub(super) fn ratio(part: &Slow, whole: &Slow) -> Slow {
    let other = |a: Option<(Other, Total)>, b: Option<(Other, Total)>| {
        let ((day, part), (other, whole)) = (a?, b?);
        (day == other).then(|| share(Some(part), Some(whole)))?.map(|share| (day, share))
    };
    let weekdays = if part.weekdays.len() == whole.weekdays.len() {
        let pairs = part.weekdays.iter().zip(&whole.weekdays);
        pairs.filter_map(|(part, whole)| share(Some(*part), Some(*whole))).collect()
    } else {
        // Which weekday is missing of which is not known.
        Vec::new()
    };
    Slow {
        today: part.today,
        cut: part.cut,
        closed: Vec::new(),
        by_now: share(part.by_now, whole.by_now),
        last_week: other(part.last_week, whole.last_week),
        yesterday: other(part.yesterday, whole.yesterday),
        weekdays,
        spark: part.spark.as_ref().zip(whole.spark.as_ref()).map(|(part, whole)| sparks(part, whole)),
        week: None,
        month: None,
        longer: Vec::new(),
    }
}

fn sparks(part: &Spark, whole: &Spark) -> Spark {
    let coarser = if part.step_ms >= whole.step_ms { part } else { whole };
    let values =
        |spark: &Spark, values: &[Option<f64>]| coarsen(values, (coarser.step_ms / spark.step_ms) as usize);
    let shares = |a: &[Option<f64>], b: &[Option<f64>]| {
        let pairs = values(part, a).into_iter().zip(values(whole, b));
        pairs.map(|(a, b)| Some(a? / b.filter(|b| *b > 0.0)?)).collect()
    };
    Spark {
        today: shares(&part.today, &whole.today),
        last_week: shares(&part.last_week, &whole.last_week),
        ..coarser.clone()
    }
}

/// Sums of so many values each.
fn coarsen(values: &[Option<f64>], of: usize) -> Vec<Option<f64>> {
    let sum = |part: &[Option<f64>]| part.iter().flatten().copied().reduce(|a, b| a + b);
    values.chunks(of.max(1)).map(sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_different_steps_meet_at_the_coarser_one() {
        let spark =
            |step_ms, today: &[Option<f64>]| Spark { step_ms, today: today.to_vec(), ..Spark::default() };
        let part = spark(60, &[Some(1.0), Some(3.0), None]);
        let whole = spark(30, &[Some(2.0), Some(2.0), Some(0.0), Some(0.0), None, None]);
        let both = sparks(&part, &whole);
        assert_eq!((both.step_ms, both.today), (60, vec![Some(0.25), None, None]));
    }
}
