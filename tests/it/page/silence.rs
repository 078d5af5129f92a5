//! The alarm for silence, on 26 simulated weeks: nights, weekends, and days that differ by a fifth.
//!
//! What is usual is learnt from the four weeks before, as at work. False alarms are silences that were chance;
//! detection is how long after a total stop the alarm comes. `TALLYD_TEST_LONG=N` plays N times as many.

use super::world::{DAY, HOUR, MINUTE, arrivals, long};
use chrono::NaiveDate;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeSet, VecDeque};
use tallyd::calendar::Calendar;
use tallyd::figures::Days;
use tallyd::figures::stalled::{Profile, Silence, silence};

/// Percent of an average day that an hour of a weekday brings.
const WEEKDAY: [f64; 24] = [
    1.3, 0.9, 0.6, 0.6, 0.6, 0.7, 1.4, 3.4, 5.8, 7.9, 8.4, 8.4, 7.9, 7.9, 7.9, 7.9, 7.6, 7.1, 6.3, 5.8, 5.3,
    4.4, 3.4, 2.1,
];
/// What a day of the weekend is of a weekday.
const WEEKEND: f64 = 0.6;
/// Days that what is usual is learnt from, and days that are played.
const LEARNT: usize = 28;
const PLAYED: usize = 26 * 7;
/// Monday, 1 June 2026, 00:00 UTC.
const START: i64 = 1_780_272_000_000;

/// Events of a day, in order.
fn day(random: &mut StdRng, number: i64, a_day: f64) -> Vec<i64> {
    // Twelve dice are a bell: days differ by a fifth.
    let bell: f64 = (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
    let swing = (1.0 + 0.2 * bell).max(0.2);
    let weekend = if number % 7 >= 5 { WEEKEND } else { 1.0 };
    let mut events = Vec::new();
    for (hour, percent) in WEEKDAY.iter().enumerate() {
        let begins = START + number * DAY + hour as i64 * HOUR;
        let count = arrivals(random, a_day * percent / 100.0 * swing * weekend);
        events.extend((0..count).map(|_| begins + random.random_range(0..HOUR)));
    }
    events.sort_unstable();
    events
}

fn profile(days: &VecDeque<(NaiveDate, [f64; 24])>) -> Profile {
    let mut profile = Profile::default();
    for (date, hours) in days {
        profile.add(*date, hours, hours);
    }
    profile
}

/// When an alarm comes after the last event, to the minute. Expectation only grows, so that halving finds it.
fn alarm_at(profile: &Profile, days: &Days, last: i64) -> i64 {
    let (mut early, mut late) = (0, 4 * DAY / MINUTE);
    while early < late {
        let between = i64::midpoint(early, late);
        let expected = profile.expected(days, last, last + between * MINUTE);
        if silence(expected, profile.events_a_day()) == Some(Silence::Alarm) {
            late = between;
        } else {
            early = between + 1;
        }
    }
    last + late * MINUTE
}

struct Played {
    false_alarms: usize,
    /// Minutes from a stop at 11:00 and at 03:00 of a weekday to the alarm, on average.
    detected: [f64; 2],
}

fn play(seed: u64, a_day: f64) -> Played {
    let mut random = StdRng::seed_from_u64(seed);
    let days = Days::new(Calendar::default(), BTreeSet::new());
    let first: NaiveDate = "2026-06-01".parse().unwrap();
    let mut learnt = VecDeque::new();
    let (mut last, mut false_alarms) = (None, 0);
    let mut delays = [Vec::new(), Vec::new()];
    for number in 0..LEARNT + PLAYED {
        let events = day(&mut random, number as i64, a_day);
        if number >= LEARNT {
            let profile = profile(&learnt);
            for (at, stopped_at) in [11, 3].into_iter().enumerate().filter(|_| number % 7 < 5) {
                let stop = START + number as i64 * DAY + stopped_at * HOUR;
                let before = events.iter().copied().rfind(|event| *event < stop).or(last).unwrap();
                delays[at].push((alarm_at(&profile, &days, before) - stop) as f64 / MINUTE as f64);
            }
            for event in &events {
                // Expectation grows until the next event comes: it is worst just before.
                let expected = profile.expected(&days, last.unwrap_or(*event), *event);
                false_alarms +=
                    usize::from(silence(expected, profile.events_a_day()) == Some(Silence::Alarm));
                last = Some(*event);
            }
        }
        last = events.last().copied().or(last);
        let mut hours = [0.0; 24];
        for event in &events {
            hours[((event - START).rem_euclid(DAY) / HOUR) as usize] += 1.0;
        }
        learnt.push_back((first + chrono::Days::new(number as u64), hours));
        if learnt.len() > LEARNT {
            learnt.pop_front();
        }
    }
    let mean = |delays: &Vec<f64>| delays.iter().sum::<f64>() / delays.len() as f64;
    Played { false_alarms, detected: [mean(&delays[0]), mean(&delays[1])] }
}

#[test]
fn silence_is_seen_in_time_and_chance_hardly_ever_taken_for_it() {
    // Events a day, and the most minutes until a stop at 11:00 and at 03:00 is seen.
    let table = [(20.0, [300.0, 580.0], 8), (200.0, [63.0, 310.0], 4), (2_000.0, [6.0, 103.0], 1)];
    for (a_day, table, rounds) in table {
        let rounds = rounds * long() as u64;
        let played: Vec<Played> = (0..rounds).map(|round| play(1_000 + round, a_day)).collect();
        let quarters = rounds as f64 * PLAYED as f64 / 91.0;
        let false_alarms = played.iter().map(|played| played.false_alarms).sum::<usize>() as f64 / quarters;
        let detected =
            [0, 1].map(|at| played.iter().map(|played| played.detected[at]).sum::<f64>() / rounds as f64);
        println!("{a_day}: {false_alarms:.2} false alarms a quarter, seen after {detected:.1?} min");
        assert!(false_alarms <= 1.0, "{a_day} a day: {false_alarms} false alarms a quarter");
        for (seen, most) in detected.into_iter().zip(table) {
            assert!(seen <= most, "{a_day} a day: seen after {seen} min, and not within {most}");
        }
    }
}
