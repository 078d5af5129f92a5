//! What a question may not ask for, and what an answer marks as not over or not kept.

use super::{BUCKETS, START, WIDTH, ask, feed, points, stores};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tallyd::metric::{Kind, Number, Series, Sum, Tally};
use tallyd::store::{Batch, Store};

/// `count` counters with a 1 in the bucket at [`START`].
fn many(store: &dyn Store, count: usize) {
    let entries = (0..count).map(|n| {
        let mut sum = Sum::ZERO;
        sum.add(Number::Decimal { mantissa: 1, places: 0 });
        (Series::new(Kind::Counter, &format!("many.n{n};half={}", n % 2)), Tally::Counter(sum))
    });
    let batch = Batch { producer: 1, number: 1, bucket: START, entries: entries.collect() };
    store.apply(batch, START + 1_000).unwrap();
}

#[test]
fn too_much_is_refused_with_its_limit_and_a_cure() {
    // What is kept decides what is asked for too much; here that is one level.
    for (_, store) in stores().into_iter().take(1) {
        many(&*store, 1_001);
        let now = START + 5_000;
        let asked = |parameters: &[(&str, &str)]| ask(&*store, now, parameters);
        let problem = asked(&[("name", "many.*")]).unwrap_err();
        assert_eq!(problem.parameter, "name");
        assert!(problem.error.contains("1001") && problem.error.contains("1000"), "{problem:?}");
        assert!(problem.cure.contains("limit="), "{problem:?}");
        assert_eq!(asked(&[("name", "many.*"), ("limit", "3")]).unwrap().series.len(), 3);
        let halves = asked(&[("name", "many.*"), ("by", "half"), ("from", "-10s")]).unwrap();
        let sums: Vec<_> =
            halves.series.iter().map(|line| (line.merged, points(line)[1].1.unwrap().0)).collect();
        assert_eq!(sums, [(501, 501.0), (500, 500.0)]);
        let problem = asked(&[("name", "many.*"), ("by", "name")]).unwrap_err();
        assert_eq!(problem.parameter, "by");
        assert_eq!(asked(&[("name", "many.*"), ("by", "name"), ("limit", "2")]).unwrap().series.len(), 2);
        let problem = asked(&[("name", "many.n1"), ("from", "-3d"), ("step", "10s")]).unwrap_err();
        assert_eq!(
            (problem.parameter.as_str(), problem.cure.contains("step=5m")),
            ("step", true),
            "{problem:?}"
        );
        let problem =
            asked(&[("name", "many.*"), ("limit", "1000"), ("from", "-3h"), ("step", "10s")]).unwrap_err();
        assert_eq!((problem.parameter.as_str(), problem.error.contains("1000000")), ("step", true));
    }
}

#[test]
fn what_is_not_over_and_what_is_not_kept_is_marked() {
    // What is kept decides what is asked for too much; here that is one level.
    for (_, store) in stores().into_iter().take(1) {
        many(&*store, 1);
        let now = START + 5_000;
        let answer = ask(&*store, now, &[("name", "many.n0"), ("stat", "rate"), ("from", "-2h")]).unwrap();
        let line = &answer.series[0];
        let open = answer.open.unwrap();
        assert_eq!((answer.step.0, open.start.0, open.seconds.0), (10.0, START as f64 / 1e3, 5.0));
        // Five of its ten seconds are over.
        assert_eq!(points(line).last().unwrap().1.unwrap().0, 0.2);
        // An hour and a margin is kept; before that not even zeros are certain.
        let filled = ask(&*store, now, &[("name", "many.n0"), ("fill", "zero"), ("from", "-2h")]).unwrap();
        let line = &filled.series[0];
        assert!(line.kept_from.0 <= (now - 3_600_000) as f64 / 1e3);
        for (time, value) in points(line) {
            assert_eq!(value.is_some(), time.0 >= line.kept_from.0, "{time:?}");
        }
        // A day of which an hour is kept is not a day.
        let day = ask(&*store, now, &[("name", "many.n0"), ("step", "1d")]).unwrap();
        assert_eq!((day.days_of, day.step.0), (Some("UTC"), 86_400.0));
        assert!(points(&day.series[0]).iter().rev().skip(1).all(|(_, value)| value.is_none()));
        let over =
            ask(&*store, now + 20_000, &[("name", "many.n0"), ("stat", "rate"), ("to", "-5s")]).unwrap();
        assert!(points(&over.series[0]).iter().any(|(_, value)| value.is_some_and(|value| value.0 == 0.1)));
    }
}

#[test]
fn a_figure_that_none_of_the_series_has_is_refused_and_others_are_left_out() {
    for (_, store) in stores() {
        feed(&*store, &mut StdRng::seed_from_u64(1));
        let now = START + BUCKETS * WIDTH;
        let problem = ask(&*store, now, &[("name", "web.visitors"), ("stat", "p99")]).unwrap_err();
        assert_eq!(
            (problem.parameter.as_str(), problem.cure.as_str()),
            ("stat", "sets have uniques and count")
        );
        let problem = ask(&*store, now, &[("name", "carts"), ("stat", "last"), ("by", "plan")]).unwrap_err();
        assert!(problem.cure.contains("mean"), "{problem:?}");
        let answer = ask(&*store, now, &[("name", "**"), ("stat", "p99")]).unwrap();
        assert!(answer.series.iter().all(|line| line.kind == "timer") && !answer.series.is_empty());
        assert_eq!(answer.matched, answer.left_out + answer.series.len());
        let both = ask(&*store, now, &[("name", "carts"), ("kind", "gauge"), ("by", "")]).unwrap();
        assert_eq!((both.series.len(), both.series[0].kind, both.series[0].merged), (1, "gauge", 6));
        // Two patterns are two groups; a series is shown once.
        let twice = ask(&*store, now, &[("name", "shop.*"), ("name", "shop.signups"), ("by", "")]).unwrap();
        assert_eq!(twice.series.len(), 2);
        let once = ask(&*store, now, &[("name", "shop.*"), ("name", "shop.signups")]).unwrap();
        assert_eq!(once.series.len(), 6);
    }
}
