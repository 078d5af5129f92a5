//! What a page says of its figures: states, words, currencies, noise, marks, and what is not placed.

use super::world::{DAY, HOUR, MINUTE, Sample, World, figure};
use tallyd::figures::MarkRefused;
use tallyd::figures::state::{FigureState, Tone};

/// Monday, 23 November 2026, 14:05:21 in Paris.
const NOW: i64 = 1_795_439_121_250;
const PARIS: &str = "[company]\ntimezone = 'Europe/Paris'\n";

fn paris(rest: &str) -> String {
    format!("{PARIS}{rest}")
}

#[test]
fn a_figure_is_never_seen_then_live_then_zero() {
    let mut world =
        World::new(&paris("[[figure]]\nid = 'signups'\nmetric = 'signups'\nlabel = 'Sign-ups'"), NOW);
    let state = world.look(NOW);
    let never = figure(&state, "signups");
    assert_eq!((never.state, never.values.len(), never.last_ms), (FigureState::Never, 0, None));
    assert_eq!(never.snippet.as_deref(), Some("printf 'signups:1|c' > /dev/udp/127.0.0.1/8125"));
    world.send(NOW + 1_500, "signups", &Sample::Count(2));
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let state = world.look(NOW + 2_000);
    let live = figure(&state, "signups");
    assert_eq!((live.state, live.values[0].text.as_str()), (FigureState::Live, "2"));
    assert_eq!(live.last_words.as_deref(), Some("last one today 14:05"));
    assert_eq!(live.compare_words.as_deref(), Some("no figure to compare yet"));
    assert_eq!(state.ticker[0].text, "Sign-ups +2");
    assert_eq!(state.ticker[0].clock, "14:05:23");
    let state = world.look(NOW + DAY);
    let zero = figure(&state, "signups");
    assert_eq!((zero.state, zero.values[0].text.as_str()), (FigureState::Zero, "0"));
    assert_eq!(zero.last_words.as_deref(), Some("last one yesterday 14:05"));
}

#[test]
fn nothing_changes_where_nothing_happens() {
    let mut world = World::new(&paris("[[figure]]\nid = 'signups'\nmetric = 'signups'"), NOW);
    world.send(NOW, "signups", &Sample::Count(1));
    let first = world.look(NOW + 10);
    let mut waiting = world.engine.watch("/").unwrap();
    waiting.mark_unchanged();
    let same = world.look(NOW + 260);
    assert_eq!((first.version, same.version), (same.version, same.version));
    assert!(!waiting.has_changed().unwrap());
    assert_eq!(same.at_ms, NOW + 260);
    world.send(NOW + 300, "signups", &Sample::Count(1));
    let next = world.look(NOW + 510);
    assert!(waiting.has_changed().unwrap());
    assert_eq!(next.figures[0].version, next.version);
    assert!(next.version > same.version);
}

#[test]
fn currencies_are_never_added_and_minor_units_are_shown_as_major_ones() {
    let figures = "[[figure]]\nid = 'revenue'\nmetric = 'revenue.*'\nkind = 'money'\n\
                   [[figure]]\nid = 'sales'\nmetric = 'sales'\nkind = 'money'\ndecimals = 0\ncurrency = 'jpy'\n\
                   [[figure]]\nid = 'fees'\nmetric = 'fees'\nkind = 'money'";
    let mut world = World::new(&paris(figures), NOW - HOUR);
    for (name, units) in
        [("revenue.usd", 26_000), ("revenue.eur", 341_200), ("revenue.eur", -200), ("sales", 1_200)]
    {
        world.send(NOW - HOUR, name, &Sample::Count(units));
    }
    world.send(NOW - HOUR, "fees;currency=chf", &Sample::Count(950));
    world.send(NOW - HOUR, "fees", &Sample::Count(50));
    let state = world.look(NOW);
    let lines = |id| -> Vec<(String, String, bool)> {
        let values = figure(&state, id).values.iter();
        values.map(|value| (value.unit.clone(), value.text.clone(), value.unit_first)).collect()
    };
    let line = |unit: &str, text: &str| (unit.to_owned(), text.to_owned(), true);
    assert_eq!(lines("revenue"), [line("€", "3,410.00"), line("$", "260.00")]);
    assert_eq!(lines("sales"), [line("¥", "1,200")]);
    assert_eq!(lines("fees"), [line("€", "0.50"), line("CHF", "9.50")]);
}

/// So many sign-ups at noon of each of the days before, the last one first.
fn noons(world: &mut World, now: i64, counts: &[i64]) {
    for (back, count) in counts.iter().enumerate().rev() {
        let at = now - (back as i64 + 1) * DAY - 2 * HOUR;
        world.send(at, "signups", &Sample::Count(*count));
        world.flush(at + MINUTE);
    }
}

#[test]
fn noise_is_not_coloured_and_small_bases_have_no_percentage() {
    let config = paris("[[figure]]\nid = 'signups'\nmetric = 'signups'");
    // Four weeks of 100 a day that differ by a few, and today 119, which chance makes of 100, or 125.
    for (today, tone, percent) in
        [(119, Tone::Usual, "+19 %"), (125, Tone::Up, "+25 %"), (78, Tone::Down, "−22 %")]
    {
        let mut world = World::new(&config, NOW - 40 * DAY);
        let counts: Vec<i64> = (0..36).map(|day| if day == 6 { 100 } else { 97 + day % 7 }).collect();
        noons(&mut world, NOW, &counts);
        world.send(NOW - HOUR, "signups", &Sample::Count(today));
        let state = world.look(NOW);
        let week = &figure(&state, "signups").compare[0];
        assert_eq!((week.label.as_str(), week.base.as_str()), ("vs last Mon by 14:05", "100"));
        assert_eq!((week.tone, week.percent.as_deref()), (tone, Some(percent)), "{today}");
    }
    let mut world = World::new(&config, NOW - 40 * DAY);
    noons(&mut world, NOW, &[7; 36]);
    world.send(NOW - HOUR, "signups", &Sample::Count(9));
    let state = world.look(NOW);
    let signups = figure(&state, "signups");
    let week = &signups.compare[0];
    assert_eq!((week.percent.as_deref(), week.delta.as_str(), week.tone), (None, "+2", Tone::Usual));
    assert_eq!(signups.usual.as_deref(), Some("usual by now 7"));
    assert_eq!(signups.record.as_deref(), Some("best day so far, before it 7 on Mon 19 Oct"));
}

#[test]
fn holidays_are_skipped_and_named_on_the_page() {
    let config = format!("{PARIS}holidays = ['2026-11-16']\n[[figure]]\nid = 'signups'\nmetric = 'signups'");
    let mut world = World::new(&config, NOW - 40 * DAY);
    noons(&mut world, NOW, &[30; 36]);
    let state = world.look(NOW);
    let week = &figure(&state, "signups").compare[0];
    assert_eq!(week.label, "vs Mon 9 Nov by 14:05, since 16 Nov was a holiday");
}

#[test]
fn goals_know_where_they_should_be_by_now() {
    let figures = "[[figure]]\nid = 'signups'\nmetric = 'signups'\ngoal = { day = 300, month = 3000 }";
    let mut world = World::new(&paris(figures), NOW - 40 * DAY);
    noons(&mut world, NOW, &[100; 36]);
    world.send(NOW - HOUR, "signups", &Sample::Count(184));
    let state = world.look(NOW);
    let goals = &figure(&state, "signups").goals;
    // All that usually comes has come by noon, so that 184 of 300 is behind.
    assert_eq!((goals[0].target.as_str(), goals[0].words.as_str()), ("300", "behind"));
    assert!((goals[0].done - 184.0 / 300.0).abs() < 1e-9 && goals[0].pace == Some(1.0));
    // 22 days of November and today.
    assert_eq!((goals[1].number, goals[1].words.as_str()), (2_384.0, "on pace"));
    assert!((goals[1].pace.unwrap() - 23.0 / 30.0).abs() < 1e-9);
}

#[test]
fn uniques_merge_over_days_and_ratios_divide() {
    let figures = "[[figure]]\nid = 'readers'\nmetric = 'readers'\nkind = 'unique'\n\
                   [[figure]]\nid = 'signups'\nmetric = 'signups'\n\
                   [[figure]]\nid = 'orders'\nmetric = 'orders'\n\
                   [[figure]]\nid = 'paid'\nkind = 'ratio'\nof = ['orders', 'signups']";
    let mut world = World::new(&paris(figures), NOW - 40 * DAY);
    for back in (1..=36).rev() {
        let at = NOW - back * DAY - HOUR;
        world.send(at, "signups", &Sample::Count(100));
        for member in (0..10).filter(|_| back <= 10) {
            world.send(at, "readers", &Sample::Member((back * 5) as u64 + member));
        }
        world.send(at, "orders", &Sample::Count(4));
        world.flush(at + MINUTE);
    }
    world.send(NOW - HOUR, "readers", &Sample::Member(10));
    world.send(NOW - HOUR, "readers", &Sample::Member(9_999));
    world.send(NOW - HOUR, "signups", &Sample::Count(50));
    world.send(NOW - HOUR, "orders", &Sample::Count(3));
    let state = world.look(NOW);
    let readers = figure(&state, "readers");
    assert_eq!(readers.values[0].number, 2.0);
    // Members 5 to 39 in the six days before, 5 to 59 in the ten, and one more today.
    let also: Vec<(&str, f64)> = readers.also.iter().map(|also| (also.label.as_str(), also.number)).collect();
    assert_eq!(also, [("7 days", 36.0), ("30 days", 56.0)]);
    let paid = figure(&state, "paid");
    assert_eq!((paid.values[0].text.as_str(), paid.values[0].unit.as_str()), ("6.0", "%"));
    let week = &paid.compare[0];
    assert_eq!(
        (week.base.as_str(), week.delta.as_str(), week.percent.as_deref()),
        ("4.0 %", "+2.0 pt", None)
    );
}

#[test]
fn gauges_stand_and_timers_have_their_statistic() {
    let figures = "[[figure]]\nid = 'carts'\nmetric = 'carts.open'\nkind = 'gauge'\n\
                   [[figure]]\nid = 'checkout'\nmetric = 'checkout.time'\nkind = 'timer'\nstat = 'p90'";
    let mut world = World::new(&paris(figures), NOW - 9 * DAY);
    for back in (0..9).rev() {
        let at = NOW - back * DAY - 100_000;
        world.send(at, "carts.open", &Sample::Gauge(30.0 + back as f64));
        for value in 1..=100 {
            world.send(at, "checkout.time", &Sample::Timer(f64::from(value * (back as i32 + 1))));
        }
        world.flush(at + 15_000);
        // A sealed bucket without a change says what a gauge stood at.
        for later in 2..9 {
            world.flush(at + later * 10_000);
        }
    }
    let state = world.look(NOW);
    let carts = figure(&state, "carts");
    assert_eq!((carts.values[0].text.as_str(), carts.period), ("30", "now"));
    let checkout = figure(&state, "checkout");
    assert_eq!((checkout.values[0].text.as_str(), checkout.values[0].unit.as_str()), ("90", "ms"));
    assert_eq!((checkout.compare[0].base_number, checkout.lower_is_better), (720.0, true));
}

#[test]
fn parts_are_told_apart_by_tag_or_by_name() {
    let figures = "[[figure]]\nid = 'signups'\nmetric = 'signups'\nby = 'plan'\n\
                   [[figure]]\nid = 'orders'\nmetric = 'shop.*.orders'";
    let mut world = World::new(&paris(figures), NOW);
    for (plan, count) in [("pro", 5), ("free", 9), ("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
        world.send(NOW, &format!("signups;plan={plan}"), &Sample::Count(count));
    }
    world.send(NOW, "signups", &Sample::Count(1));
    world.send(NOW, "shop.de.orders", &Sample::Count(3));
    world.send(NOW, "shop.fr.orders", &Sample::Count(1));
    let state = world.look(NOW + 100);
    let signups = figure(&state, "signups");
    assert_eq!(signups.values[0].number, 25.0);
    let parts: Vec<&str> = signups.breakdown.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(parts, ["free", "pro", "d", "c", "b"]);
    assert_eq!(signups.breakdown[0].share, 0.36);
    let orders: Vec<(&str, f64)> =
        figure(&state, "orders").breakdown.iter().map(|part| (part.name.as_str(), part.share)).collect();
    assert_eq!(orders, [("de", 0.75), ("fr", 0.25)]);
}

#[test]
fn what_arrives_late_is_said() {
    let mut world = World::new(&paris("[[figure]]\nid = 'signups'\nmetric = 'signups'"), NOW - HOUR);
    world.send(NOW - HOUR, "signups", &Sample::Count(100));
    assert_eq!(figure(&world.look(NOW), "signups").corrected, None);
    world.send(NOW - HOUR + 60_000, "signups", &Sample::Count(14));
    world.send(NOW + 20_000, "signups", &Sample::Count(5));
    let state = world.look(NOW + 61_000);
    assert_eq!(figure(&state, "signups").corrected.as_deref(), Some("+14 arrived late"));
    assert_eq!(figure(&world.look(NOW + 17 * MINUTE), "signups").corrected, None);
    // What is no more than a hundredth is not worth a word.
    let mut world = World::new(&paris("[[figure]]\nid = 'signups'\nmetric = 'signups'"), NOW - HOUR);
    world.send(NOW - HOUR, "signups", &Sample::Count(1_000));
    world.look(NOW);
    for (minutes, late, words) in [(1, 10, None), (2, 11, Some("+11 arrived late"))] {
        world.send(NOW - HOUR + minutes * MINUTE, "signups", &Sample::Count(late));
        let state = world.look(NOW + minutes * MINUTE);
        assert_eq!(figure(&state, "signups").corrected.as_deref(), words, "{late}");
    }
}

#[test]
fn what_was_lost_makes_numbers_partial_for_the_day() {
    let mut world = World::new(&paris("[[figure]]\nid = 'signups'\nmetric = 'signups'"), NOW - HOUR);
    world.send(NOW - HOUR, "signups", &Sample::Count(100));
    let state = world.look(NOW);
    assert_eq!((state.partial.as_deref(), figure(&state, "signups").state), (None, FigureState::Live));
    world.books.kernel_drops.fetch_add(24, std::sync::atomic::Ordering::Relaxed);
    let state = world.look(NOW + 18 * MINUTE);
    assert_eq!(state.partial.as_deref(), Some("24 datagrams were dropped by the kernel today"));
    assert_eq!(figure(&state, "signups").state, FigureState::Partial);
    assert_eq!(world.look(NOW + DAY).partial, None);
}

#[test]
fn silence_is_amber_and_nothing_is_said_of_it_by_who_has_just_begun() {
    let figures = "[[figure]]\nid = 'signups'\nmetric = 'signups'\nalarm = 'stalled'";
    for (lives, word) in [(40 * DAY, "quiet: none for 2 h 04, usually 21"), (10 * MINUTE, "cannot tell")] {
        let mut world = World::new(&paris(figures), NOW - lives);
        for back in (1..=30).rev() {
            for hour in 0..24 {
                let at = NOW - back * DAY - NOW % HOUR + hour * HOUR;
                if at < NOW - 2 * HOUR - MINUTE * 5 {
                    world.send(at, "signups", &Sample::Count(10));
                    world.flush(at + MINUTE);
                }
            }
        }
        let last = NOW - NOW % HOUR - 2 * HOUR;
        world.send(last, "signups", &Sample::Count(10));
        let state = world.look(NOW);
        let quiet = figure(&state, "signups").quiet.clone().unwrap();
        assert!(quiet.words.starts_with(word), "{}", quiet.words);
        assert_eq!(quiet.alarm, lives > DAY);
    }
}

/// So many days before, each with these many at noon and at one; then today's, all of the last minutes.
fn record(noon: i64, one: i64, best: i64, today: i64) -> Option<String> {
    let mut world = World::new(&paris("[[figure]]\nid = 'signups'\nmetric = 'signups'"), NOW - 40 * DAY);
    for back in (1..=36).rev() {
        let (noon, one) = if back == 3 { (best, 0) } else { (noon, one) };
        for (hours, count) in [(2, noon), (1, one)] {
            let at = NOW - back * DAY - hours * HOUR;
            world.send(at, "signups", &Sample::Count(count));
            world.flush(at + MINUTE);
        }
    }
    world.send(NOW - 4 * MINUTE, "signups", &Sample::Count(today));
    figure(&world.look(NOW), "signups").record.clone()
}

#[test]
fn records_are_of_days_hours_and_round_numbers() {
    // 35 days of 24 and one of 90 are 930.
    assert_eq!(record(24, 0, 90, 69), None);
    assert_eq!(record(24, 0, 90, 70).as_deref(), Some("the 1,000th came today"));
    assert_eq!(record(24, 0, 90, 91).as_deref(), Some("best day so far, before it 90 on Fri 20 Nov"));
    // No day is better than one of 100, no hour than one of 50.
    assert_eq!(record(50, 50, 50, 50), None);
    assert_eq!(record(50, 50, 50, 51).as_deref(), Some("best hour in four weeks"));
}

#[test]
fn the_ticker_has_the_last_twenty_the_newest_first() {
    let mut world = World::new(&paris("[[figure]]\nid = 'signups'\nmetric = 'signups'"), NOW);
    for number in 0..=25 {
        world.send(NOW + number * 2_000, "signups", &Sample::Count(number + 1));
        world.look(NOW + number * 2_000 + 250);
    }
    let ticker = world.look(NOW + 60_000).ticker.clone();
    let texts: Vec<&str> = ticker.iter().map(|event| event.text.as_str()).collect();
    let expected: Vec<String> = (7..=26).rev().map(|count| format!("Signups +{count}")).collect();
    assert_eq!(texts, expected);
    assert!(ticker.windows(2).all(|two| two[0].at_ms > two[1].at_ms), "{ticker:?}");
}

#[test]
fn marks_come_from_counters_and_from_who_sends_a_text() {
    let mut world = World::new(&paris("[[figure]]\nid = 'signups'\nmetric = 'signups'"), NOW - DAY);
    world.send(NOW - HOUR, "deploys.web", &Sample::Count(1));
    world.look(NOW - 50 * MINUTE);
    let mark = world.engine.mark("<b>Price</b> change", NOW - 1_000, NOW).unwrap();
    assert_eq!((mark.text.as_str(), mark.clock.as_str()), ("<b>Price</b> change", "14:05"));
    let counted = world.asked.lock().unwrap().pop().unwrap();
    assert_eq!(counted.key(), "marks.bPrice-b_change");
    world.send(NOW, counted.key(), &Sample::Count(1));
    let texts = |world: &mut World, now| -> Vec<String> {
        world.look(now).marks.iter().map(|mark| format!("{} {}", mark.clock, mark.text)).collect()
    };
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let both = ["13:05 deploy web", "14:05 <b>Price</b> change"];
    assert_eq!(texts(&mut world, NOW + 2_000), both);
    assert_eq!(texts(&mut world, NOW + 5 * MINUTE), both);
    assert_eq!(texts(&mut world, NOW + DAY), Vec::<String>::new());
    assert_eq!(world.engine.mark(" ", NOW, NOW), Err(MarkRefused::Empty));
}

#[test]
fn without_a_configuration_the_page_guesses_and_says_what_to_paste() {
    let mut world = World::new("", NOW);
    assert!(world.look(NOW).figures.is_empty());
    for name in ["statsd.packets_received", "zeta", "shop.signups", "alpha"] {
        world.send(NOW, name, &Sample::Count(3));
    }
    world.send(NOW, "visitors", &Sample::Member(1));
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    let state = world.look(NOW + 500);
    let labels: Vec<&str> = state.figures.iter().map(|figure| figure.label.as_str()).collect();
    assert_eq!(labels, ["Shop signups", "Visitors", "Alpha", "Zeta"]);
    assert_eq!(state.figures[0].values[0].text, "3");
    // What is guessed can be kept: the lines that show it again stand below it.
    let names: Vec<&str> = state.unplaced.iter().map(|series| series.name.as_str()).collect();
    assert_eq!((state.guessed, names), (true, vec!["shop.signups", "visitors", "alpha", "zeta"]));
    let pasted: String = state.unplaced.iter().map(|series| series.toml.as_str()).collect();
    let kept = tallyd::config::native(&pasted, std::iter::empty()).unwrap().config.figures.figures;
    let kept: Vec<&str> = kept.iter().map(|figure| figure.label.as_str()).collect();
    assert_eq!(kept, labels);

    let mut world = World::new("[[figure]]\nid = 'signups'\nmetric = 'shop.signups'", NOW);
    for name in ["zeta", "shop.signups", "orders.paid;plan=pro"] {
        world.send(NOW, name, &Sample::Count(3));
    }
    let state = world.look(NOW + 500);
    assert!(!state.guessed);
    let unplaced: Vec<&str> = state.unplaced.iter().map(|series| series.name.as_str()).collect();
    assert_eq!(unplaced, ["orders.paid", "zeta"]);
    tallyd::config::native(&state.unplaced[0].toml, std::iter::empty()).unwrap();
}

#[test]
fn a_spark_is_by_time_on_the_wall() {
    let mut world = World::new(&paris("[[figure]]\nid = 'signups'\nmetric = 'signups'"), NOW - 20 * DAY);
    noons(&mut world, NOW, &[50; 18]);
    world.send(NOW - HOUR, "signups", &Sample::Count(7));
    let state = world.look(NOW + 3 * MINUTE);
    let spark = figure(&state, "signups").spark.clone().unwrap();
    assert_eq!(
        (spark.step_ms, spark.today.len(), spark.last_week.len(), spark.now_index),
        (HOUR, 24, 24, 14)
    );
    assert_eq!((spark.today[12], spark.today[13], spark.today[15]), (Some(0.0), Some(7.0), None));
    assert_eq!((spark.last_week[12], spark.last_week[20]), (Some(50.0), Some(0.0)));
}
