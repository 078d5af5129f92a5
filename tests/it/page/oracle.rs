//! Every figure of a day, a week and a month against a list of all events, looked through for each answer, through
//! two changes of clocks in five zones.
//!
//! The oracle knows neither days nor buckets: for each event it asks what the clock on the wall shows, and it finds
//! "the same time last week" by walking through that day a minute at a time. `TALLYD_TEST_LONG=N` looks N times as
//! often.

use super::world::{DAY, HOUR, MINUTE, Sample, World, arrivals, figure, long};
use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveDateTime};
use chrono_tz::Tz;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeSet;
use tallyd::figures::PageState;

const ZONES: [(&str, [&str; 2]); 5] = [
    ("Europe/Paris", ["2026-03-29", "2026-10-25"]),
    ("America/New_York", ["2026-03-08", "2026-11-01"]),
    // Half past the hour.
    ("America/St_Johns", ["2026-03-08", "2026-11-01"]),
    // Half an hour of change.
    ("Australia/Lord_Howe", ["2026-04-05", "2026-10-04"]),
    // Midnight itself is missing, or an hour before it is there twice.
    ("America/Santiago", ["2026-04-05", "2026-09-06"]),
];
/// Days of events before the change and after it.
const BEFORE: u64 = 38;
const AFTER: u64 = 16;
/// A minute is closed this long after its end.
const SETTLE: i64 = 2_000;

/// An event as the oracle keeps it.
#[derive(Clone, Debug)]
struct Event {
    at: i64,
    name: &'static str,
    sample: Sample,
}

/// What the wall shows, and the date of the day that this belongs to.
struct Wall {
    zone: Tz,
    starts: i64,
}

impl Wall {
    fn local(&self, at: i64) -> NaiveDateTime {
        DateTime::from_timestamp_millis(at).unwrap().with_timezone(&self.zone).naive_local()
    }

    fn date(&self, at: i64) -> NaiveDate {
        (self.local(at) - chrono::Duration::milliseconds(self.starts)).date()
    }

    /// All minutes of a day, found by looking at every minute around it.
    fn minutes(&self, date: NaiveDate) -> impl Iterator<Item = i64> {
        let noon = date.and_hms_opt(12, 0, 0).unwrap().and_utc().timestamp_millis();
        ((noon - 40 * HOUR) / MINUTE..(noon + 40 * HOUR) / MINUTE)
            .map(|minute| minute * MINUTE)
            .filter(move |at| self.date(*at) == date)
    }

    /// The first moment of a day at which the wall is as far as it is at `cut`, which is in `today`; or its end.
    fn same_time(&self, today: NaiveDate, cut: i64, date: NaiveDate) -> i64 {
        let shift = today.signed_duration_since(date);
        let wanted = self.local(cut) - shift;
        let minutes: Vec<i64> = self.minutes(date).collect();
        minutes
            .iter()
            .copied()
            .find(|at| self.local(*at) >= wanted)
            .unwrap_or(minutes[minutes.len() - 1] + MINUTE)
    }
}

fn generate(random: &mut StdRng, wall: &Wall, first: i64, last: i64) -> Vec<Event> {
    let mut events = Vec::new();
    for hour in first / HOUR..last / HOUR {
        let of_day = wall.local(hour * HOUR).time().signed_duration_since(chrono::NaiveTime::MIN).num_hours();
        let busy = if (7..20).contains(&of_day) { 6.0 } else { 1.5 };
        for (name, often) in [("signups", 1.0), ("revenue.eur", 0.5), ("revenue.usd", 0.3), ("readers", 1.5)]
        {
            for _ in 0..arrivals(random, busy * often) {
                let at = hour * HOUR + random.random_range(0..HOUR);
                let sample = match name {
                    "signups" => Sample::Count(1),
                    "readers" => Sample::Member(random.random_range(0..120)),
                    _ => Sample::Count(random.random_range(-500..9_000)),
                };
                events.push(Event { at, name, sample });
            }
        }
    }
    events.sort_by_key(|event| event.at);
    events
}

/// What events of a name come to.
fn total<'a>(events: impl Iterator<Item = &'a Event>, name: &str) -> f64 {
    let mut members = BTreeSet::new();
    let mut sum = 0;
    for event in events.filter(|event| event.name == name) {
        match event.sample {
            Sample::Count(units) => sum += units,
            Sample::Member(member) => {
                members.insert(member);
            }
            _ => unreachable!(),
        }
    }
    match name {
        "readers" => members.len() as f64,
        "signups" => sum as f64,
        _ => sum as f64 / 100.0,
    }
}

/// How many numbers were compared.
fn check(state: &PageState, wall: &Wall, events: &[Event], now: i64) -> usize {
    let seen: Vec<&Event> = events.iter().filter(|event| event.at <= now).collect();
    let today = wall.date(now);
    let begins = wall.minutes(today).next().unwrap();
    let cut = ((now - SETTLE) / MINUTE * MINUTE).max(begins);
    let place = format!("{} {now} {} {today}", wall.zone, wall.local(now));
    let since = |date: NaiveDate, until: i64| {
        let dates = wall.minutes(date).next().unwrap()..until;
        seen.iter().copied().filter(move |event| dates.contains(&event.at))
    };
    let mut compared = 0;
    let mut same = |what: &str, shown: f64, expected: f64| {
        assert!((shown - expected).abs() < 1e-6, "{place}: {what}: {shown}, and not {expected}");
        compared += 1;
    };
    for (id, name, line) in [
        ("signups", "signups", 0),
        ("revenue", "revenue.eur", 0),
        ("revenue", "revenue.usd", 1),
        ("readers", "readers", 0),
    ] {
        let shown = figure(state, id);
        same(&format!("{name} today"), shown.values[line].number, total(since(today, now + 1), name));
        if line > 0 {
            continue;
        }
        let by_now = total(since(today, cut), name);
        assert_eq!(shown.compare.len(), 2, "{place}: {shown:?}");
        for (compare, back) in shown.compare.iter().zip([7, 1]) {
            let date = today - Days::new(back);
            let until = wall.same_time(today, cut, date);
            same(&format!("{name} by now"), compare.by_now_number, by_now);
            same(
                &format!("{name} {back} days ago by now"),
                compare.base_number,
                total(since(date, until), name),
            );
            assert_eq!(compare.day, date.to_string());
        }
        for goal in &shown.goals {
            let first = match goal.period {
                tallyd::figures::state::Period::Day => today,
                tallyd::figures::state::Period::Week => {
                    today - Days::new(u64::from(today.weekday().num_days_from_monday()))
                }
                tallyd::figures::state::Period::Month => today.with_day(1).unwrap(),
            };
            same(&format!("{name} {:?}", goal.period), goal.number, total(since(first, now + 1), name));
        }
        for (also, back) in shown.also.iter().zip([6, 29]) {
            same(&also.label, also.number, total(since(today - Days::new(back), now + 1), name));
        }
    }
    compared
}

fn month(zone: &str, change: &str, day_starts: &str, random: &mut StdRng) -> usize {
    let config = format!(
        "[company]\ntimezone = '{zone}'\nday_starts = '{day_starts}'\n\
         [[figure]]\nid = 'signups'\nmetric = 'signups'\ngoal = {{ day = 100, week = 500, month = 2000 }}\n\
         [[figure]]\nid = 'revenue'\nmetric = 'revenue.*'\nkind = 'money'\ngoal = {{ week = 500, month = 2000 }}\n\
         [[figure]]\nid = 'readers'\nmetric = 'readers'\nkind = 'unique'\n"
    );
    let hours: i64 = day_starts[..2].parse().unwrap();
    let wall = Wall { zone: zone.parse().unwrap(), starts: hours * HOUR };
    let change: NaiveDate = change.parse().unwrap();
    let noon = |date: NaiveDate| date.and_hms_opt(12, 0, 0).unwrap().and_utc().timestamp_millis();
    let (first, last) = (noon(change - Days::new(BEFORE)), noon(change + Days::new(AFTER)));
    let events = generate(random, &wall, first, last);
    let mut world = World::new(&config, first);
    let looks = 12 * long();
    // Around the change itself, and from a week before it to the end.
    let mut moments: Vec<i64> =
        (0..looks).map(|_| random.random_range(noon(change) - 8 * DAY..last)).collect();
    moments.extend((0..looks).map(|_| random.random_range(noon(change) - DAY..noon(change) + DAY)));
    moments
        .extend((0..looks / 2).map(|_| random.random_range(noon(change) + 6 * DAY..noon(change) + 8 * DAY)));
    moments.extend((0..48).map(|half| noon(change) - DAY + half * HOUR + random.random_range(0..HOUR)));
    moments.sort_unstable();
    let mut sent = 0;
    let mut compared = 0;
    let mut flushed = first;
    for now in moments {
        while flushed < now {
            flushed = (flushed + HOUR).min(now);
            while let Some(event) = events.get(sent).filter(|event| event.at <= flushed) {
                world.send(event.at, event.name, &event.sample);
                sent += 1;
            }
            world.flush(flushed);
        }
        let state = world.look(now);
        compared += check(&state, &wall, &events, now);
    }
    compared
}

#[test]
fn a_month_through_a_change_of_clocks_is_what_a_slow_oracle_says() {
    let mut compared = 0;
    let mut random = StdRng::seed_from_u64(26);
    for (zone, changes) in ZONES {
        for change in changes {
            compared += month(zone, change, "00:00", &mut random);
        }
    }
    compared += month("Europe/Paris", "2026-10-25", "04:00", &mut random);
    assert!(compared > 5_000, "{compared}");
}
