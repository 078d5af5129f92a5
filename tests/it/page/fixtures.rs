//! States of a page, one for everything that can be seen on it, with the numbers of a made-up publisher.

use serde_json::{Value as Json, json};
use tallyd::figures::PageState;
use tallyd::figures::state::{
    Also, Compare, Event, Figure, FigureKind, FigureState, Goal, Mark, PageName, Period, Quiet, Slice, Slot,
    Spark, Tone, Unplaced, Value,
};

/// 2026-11-23 14:05:07 in Paris.
pub(crate) const NOW: i64 = 1_795_439_107_000;
const DAY_FROM: i64 = 1_795_388_400_000;
const STEP_MS: i64 = 900_000;
const STEPS: usize = 96;
const NOW_INDEX: usize = 56;

/// A state under a name, and words that must be seen when it is shown.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) state: PageState,
    pub(crate) words: Vec<&'static str>,
}

/// A day's course with a morning and an evening, `scale` events at its best quarter of an hour.
fn day(scale: f64, seed: u64, steps: usize) -> Vec<Option<f64>> {
    let mut random = seed;
    let mut dice = || {
        random = random * 16_807 % 2_147_483_647;
        random as f64 / 2_147_483_647.0
    };
    let value = |index: usize| {
        let hour = index as f64 / 4.0;
        let wave = (-(hour - 11.0).powi(2) / 14.0).exp() + 0.8 * (-(hour - 17.5).powi(2) / 18.0).exp();
        Some((wave.max(0.02) * scale * (0.5 + dice())).round())
    };
    (0..steps).map(value).collect()
}

fn spark(today: Vec<Option<f64>>, last_week: Vec<Option<f64>>) -> Spark {
    Spark { step_ms: STEP_MS, from_ms: DAY_FROM, from_minute: 0, today, last_week, now_index: NOW_INDEX }
}

/// A course that adds up to `total` by now, over one of last week that is a little lower.
fn counted(total: f64, seed: u64) -> Spark {
    let (today, before) = (day(100.0, seed, NOW_INDEX + 1), day(90.0, seed + 7, STEPS));
    let factor = total / today.iter().flatten().sum::<f64>();
    let scaled = |course: &[Option<f64>]| {
        let mut sum = 0.0;
        let part = |value: &Option<f64>| {
            let before = (sum * factor).round();
            sum += value.unwrap_or(0.0);
            Some((sum * factor).round() - before)
        };
        course.iter().map(part).collect()
    };
    spark(scaled(&today), scaled(&before))
}

fn standing(level: f64, seed: u64) -> Spark {
    let course = |steps, seed| {
        let noise = day(level / 25.0, seed, steps);
        let at = |(index, value): (usize, &Option<f64>)| {
            value.map(|value| (level + value * 2.0 + (index as f64 / 7.0).sin() * level / 12.0) / 1.0)
        };
        noise.iter().enumerate().map(at).collect()
    };
    spark(course(NOW_INDEX + 1, seed), course(STEPS, seed + 3))
}

fn value(unit: &str, text: &str, number: f64) -> Value {
    Value {
        unit: unit.to_owned(),
        unit_first: "€$£".contains(unit) && !unit.is_empty(),
        text: text.to_owned(),
        number,
    }
}

fn compare(label: &str, delta: &str, percent: Option<&str>, tone: Tone) -> Compare {
    Compare {
        label: label.to_owned(),
        delta: delta.to_owned(),
        percent: percent.map(str::to_owned),
        base: "163".to_owned(),
        by_now_number: 184.0,
        base_number: 163.0,
        day: "2026-11-16".to_owned(),
        tone,
    }
}

fn figure(id: &str, label: &str, kind: FigureKind, slot: Slot) -> Figure {
    Figure {
        id: id.to_owned(),
        version: 1,
        label: label.to_owned(),
        kind,
        slot,
        group: None,
        state: FigureState::Live,
        lower_is_better: kind == FigureKind::Timer,
        values: Vec::new(),
        period: if kind == FigureKind::Gauge { "now" } else { "today" },
        also: Vec::new(),
        last_ms: Some(NOW - 12 * 60_000),
        last_words: Some("last one today 13:53".to_owned()),
        compare: Vec::new(),
        compare_words: None,
        usual: None,
        spark: None,
        goals: Vec::new(),
        quiet: None,
        record: None,
        corrected: None,
        breakdown: Vec::new(),
        snippet: None,
        query: vec![id.to_owned()],
    }
}

fn goal(period: Period, target: &str, done: f64, pace: Option<f64>, words: &str) -> Goal {
    Goal {
        period,
        target: target.to_owned(),
        text: "184".to_owned(),
        number: 184.0,
        done,
        pace,
        words: words.to_owned(),
    }
}

fn signups() -> Figure {
    Figure {
        values: vec![value("", "184", 184.0)],
        spark: Some(counted(184.0, 11)),
        compare: vec![
            compare("vs last Mon by 14:05", "+21", Some("+13 %"), Tone::Up),
            compare("vs yesterday by 14:05", "+12", Some("+7 %"), Tone::Usual),
        ],
        usual: Some("usual by now 171".to_owned()),
        goals: vec![goal(Period::Day, "300", 0.613, Some(0.55), "on pace")],
        breakdown: vec![
            Slice { name: "web".to_owned(), text: "120".to_owned(), share: 0.652 },
            Slice { name: "app".to_owned(), text: "64".to_owned(), share: 0.348 },
        ],
        ..figure("signups", "Sign-ups", FigureKind::Count, Slot::Hero)
    }
}

fn revenue() -> Figure {
    Figure {
        values: vec![value("€", "3,412.00", 3_412.0), value("$", "260.00", 260.0)],
        spark: Some(counted(3_412.0, 21)),
        compare: vec![compare("vs last Mon by 14:05", "−€214.00", Some("−6 %"), Tone::Usual)],
        usual: Some("usual by now € 2,950.00".to_owned()),
        goals: vec![goal(Period::Month, "€ 90,000", 0.712, Some(0.74), "a little behind")],
        query: vec!["revenue.*".to_owned()],
        ..figure("revenue", "Revenue", FigureKind::Money, Slot::Second)
    }
}

fn ratio() -> Figure {
    Figure {
        values: vec![value("%", "4.1", 4.1)],
        spark: Some(standing(4.0, 31)),
        compare: vec![compare("vs last Mon by 14:05", "+0.3", None, Tone::Usual)],
        usual: Some("usual 3.8 %".to_owned()),
        query: vec!["orders".to_owned(), "signups".to_owned()],
        ..figure("paid", "Paid per sign-up", FigureKind::Ratio, Slot::Second)
    }
}

fn third(id: &str, label: &str, kind: FigureKind, group: &str) -> Figure {
    Figure { group: Some(group.to_owned()), ..figure(id, label, kind, Slot::Third) }
}

fn thirds() -> Vec<Figure> {
    let last_monday = "vs last Mon by 14:05";
    let orders = Figure {
        values: vec![value("", "67", 67.0)],
        spark: Some(counted(67.0, 41)),
        compare: vec![compare(last_monday, "−14", Some("−17 %"), Tone::Down)],
        ..third("orders", "Orders", FigureKind::Count, "Money")
    };
    let refunds = Figure {
        state: FigureState::Zero,
        values: vec![value("", "0", 0.0)],
        spark: Some(counted(0.0, 42)),
        last_ms: Some(NOW - 14 * 3_600_000),
        last_words: Some("last one yesterday 23:41".to_owned()),
        compare: vec![compare(last_monday, "−1", None, Tone::None)],
        ..third("refunds", "Refunds", FigureKind::Count, "Money")
    };
    let readers = Figure {
        values: vec![value("", "1,204", 1_204.0)],
        spark: Some(standing(40.0, 51)),
        also: [("7 days", "6,310", 6_310.0), ("30 days", "19,877", 19_877.0)]
            .map(|(label, text, number)| Also { label: label.to_owned(), text: text.to_owned(), number })
            .to_vec(),
        compare: vec![compare(last_monday, "+88", Some("+8 %"), Tone::Up)],
        ..third("readers", "Readers", FigureKind::Unique, "Readers")
    };
    let page_time = Figure {
        values: vec![value("ms", "212", 212.0)],
        spark: Some(standing(200.0, 61)),
        compare: vec![compare(last_monday, "+34", Some("+19 %"), Tone::Up)],
        ..third("page.time", "Page time", FigureKind::Timer, "Readers")
    };
    let submissions = Figure {
        values: vec![value("", "12", 12.0)],
        spark: Some(counted(12.0, 71)),
        compare: vec![compare(last_monday, "+2", None, Tone::Usual)],
        ..third("submissions", "Submissions", FigureKind::Count, "Editors")
    };
    let carts = Figure {
        values: vec![value("", "7", 7.0)],
        spark: Some(standing(7.0, 81)),
        compare: vec![compare(last_monday, "−3", None, Tone::Usual)],
        ..third("reviews.open", "Open reviews", FigureKind::Gauge, "Editors")
    };
    vec![orders, refunds, readers, page_time, submissions, carts]
}

fn ticker() -> Vec<Event> {
    let texts = ["Revenue +€49.00", "Sign-ups +1", "Orders +1", "Submissions +1"];
    let event = |index: i64| {
        let second = 14 * 3_600 + 5 * 60 + 7 - index * 9;
        Event {
            at_ms: NOW - index * 9_000,
            clock: format!("{:02}:{:02}:{:02}", second / 3_600, second / 60 % 60, second % 60),
            figure: "orders".to_owned(),
            text: texts[index as usize % 4].to_owned(),
        }
    };
    (0..20).map(event).collect()
}

/// Everything that a page usually shows.
pub(crate) fn whole() -> PageState {
    let mut figures = vec![signups(), revenue(), ratio()];
    figures.extend(thirds());
    PageState {
        version: 812,
        at_ms: NOW,
        build: "0.1.0",
        page: PageName { path: "/".to_owned(), title: "Live".to_owned() },
        zone: "Europe/Paris",
        day: "2026-11-23".to_owned(),
        clock: "14:05".to_owned(),
        guarantee: "saved to disk every 200 ms".to_owned(),
        figures,
        ticker: ticker(),
        marks: vec![Mark {
            at_ms: DAY_FROM + 34_000_000,
            clock: "09:26".to_owned(),
            text: "deploy web".to_owned(),
        }],
        pages: vec![PageName { path: "/".to_owned(), title: "Live".to_owned() }],
        ..PageState::default()
    }
}

fn with_hero(change: impl FnOnce(&mut Figure)) -> PageState {
    let mut state = whole();
    change(&mut state.figures[0]);
    state
}

/// Long numbers with all that can stand beside them.
fn large() -> PageState {
    let mut state = whole();
    let both = |first: &str, second: &str| {
        vec![
            compare("vs last Mon by 14:05", first, Some("+11 %"), Tone::Up),
            compare("vs yesterday by 14:05", second, Some("+54 %"), Tone::Up),
        ]
    };
    for figure in &mut state.figures {
        figure.usual = Some("usual by now 1,896,543".to_owned());
        figure.compare = both("+1,187,728", "+1,442,110");
        figure.values[0] = value("", "1,970,422", 1_970_422.0);
    }
    state.figures[0].values[0] = value("", "9,834", 9_834.0);
    state.figures[1].values =
        vec![value("€", "1,235,513.32", 1_235_513.32), value("$", "41,620.40", 41_620.4)];
    state
}

/// Texts that must stay texts.
pub(crate) const HOSTILE: [&str; 12] = [
    "<script>window.hacked=1</script>",
    "<img src=x onerror=\"window.hacked=1\">",
    "\"><svg onload=window.hacked=1>",
    "'; window.hacked=1; //",
    "javascript:window.hacked=1",
    "</title><script>window.hacked=1</script>",
    "</main></body><iframe srcdoc=\"<script>parent.hacked=1</script>\">",
    "{{7*7}}${window.hacked=1}`",
    "<!-- --><a href=\"javascript:window.hacked=1\" id=figures>x</a>",
    "\u{202e}gnitsrever\u{202d} \u{0} \u{1b}[31m",
    "a\" onmouseover=\"window.hacked=1\" style=\"position:fixed\" x=\"",
    "&lt;script&gt;&#x3c;img src=x onerror=window.hacked=1&#x3e;",
];

/// Every text of the state that can come from outside is hostile.
pub(crate) fn hostile() -> PageState {
    let mut state = whole();
    let text = |index: usize| HOSTILE[index % HOSTILE.len()].to_owned();
    for (index, figure) in state.figures.iter_mut().enumerate() {
        figure.label = text(index);
        figure.id = format!("{}{index}", text(index + 1));
        figure.query = vec![text(index + 2)];
        figure.breakdown = vec![Slice { name: text(index + 3), text: text(index + 4), share: 0.5 }];
        figure.group = figure.group.as_ref().map(|_| text(index / 2));
    }
    state.marks = (0..HOSTILE.len())
        .map(|index| Mark {
            at_ms: DAY_FROM + index as i64 * 1_000_000,
            clock: "09:00".to_owned(),
            text: text(index),
        })
        .collect();
    state.ticker = (0..HOSTILE.len())
        .map(|index| Event {
            at_ms: NOW,
            clock: "14:05:07".to_owned(),
            figure: text(index),
            text: text(index),
        })
        .collect();
    state.unplaced = (0..HOSTILE.len())
        .map(|index| Unplaced { name: text(index), kind: "counter", toml: text(index) })
        .collect();
    state.page.title = text(5);
    state.pages = vec![state.page.clone(), PageName { path: "/live/x".to_owned(), title: text(6) }];
    state.note = Some(text(0));
    state
}

/// All cases.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = of_the_hero();
    cases.extend(of_the_page());
    cases
}

fn case(name: &'static str, state: PageState, words: &[&'static str]) -> Case {
    Case { name, state, words: words.to_vec() }
}

fn never(figure: &mut Figure) {
    figure.state = FigureState::Never;
    figure.values.clear();
    figure.spark = None;
    figure.last_ms = None;
    figure.snippet = Some("echo 'signups:1|c' | nc -u -w1 127.0.0.1 8125".to_owned());
}

fn gaps(figure: &mut Figure) {
    let spark = figure.spark.as_mut().unwrap();
    for index in [0, 1, 20, 21, 40] {
        spark.today[index] = None;
        spark.last_week[index + 3] = None;
    }
}

/// What one figure can be.
fn of_the_hero() -> Vec<Case> {
    vec![
        case(
            "whole",
            whole(),
            &["184", "+21", "vs last Mon by 14:05", "as usual", "61 %", "on pace", "last one 12 min ago"],
        ),
        case("never", with_hero(never), &["–", "waiting for the first signups", "nc -u"]),
        case(
            "zero",
            with_hero(|figure| {
                figure.state = FigureState::Zero;
                figure.values[0].text = "0".to_owned();
                figure.last_ms = Some(NOW - 15 * 3_600_000);
                figure.last_words = Some("last one yesterday 23:05".to_owned());
            }),
            &["last one yesterday 23:05"],
        ),
        case(
            "corrected",
            with_hero(|figure| figure.corrected = Some("+14 arrived late".to_owned())),
            &["+14 arrived late"],
        ),
        case(
            "quiet",
            with_hero(|figure| {
                figure.quiet = Some(Quiet {
                    since_ms: NOW,
                    words: "quiet: none for 40 min, usually 6".to_owned(),
                    alarm: false,
                });
            }),
            &["Quiet: none for 40 min, usually 6"],
        ),
        case(
            "alarm",
            with_hero(|figure| {
                figure.quiet = Some(Quiet {
                    since_ms: NOW,
                    words: "none for 52 min, usually 11".to_owned(),
                    alarm: true,
                });
            }),
            &["None for 52 min, usually 11"],
        ),
        case(
            "record",
            with_hero(|figure| figure.record = Some("best Monday so far".to_owned())),
            &["best Monday so far"],
        ),
        case(
            "no base",
            with_hero(|figure| {
                figure.compare.clear();
                figure.compare_words = Some("no figure to compare yet".to_owned());
                figure.usual = None;
                figure.goals[0].pace = None;
            }),
            &["no figure to compare yet"],
        ),
        case("unknown", with_hero(|figure| figure.values.clear()), &["not known"]),
        case("gaps", with_hero(gaps), &["184"]),
    ]
}

/// What a page can be.
fn of_the_page() -> Vec<Case> {
    let mut partial = whole();
    partial.partial = Some("24 datagrams dropped by the kernel in the last minute".to_owned());
    for figure in &mut partial.figures {
        figure.state = FigureState::Partial;
    }
    let mut pages = whole();
    pages.pages.push(PageName { path: "/live/sales".to_owned(), title: "Sales".to_owned() });
    pages.note = Some("clocks change today: both days are cut at the same wall time".to_owned());
    let mut guessed = whole();
    guessed.guessed = true;
    guessed.unplaced = ["checkout.time", "carts.open"]
        .map(|name| Unplaced {
            name: name.to_owned(),
            kind: "timer",
            toml: format!("[[figure]]\nid = \"{name}\"\nmetric = \"{name}\"\nkind = \"timer\"\n"),
        })
        .to_vec();
    let snippet = Some("echo 'signups:1|c' | nc -u -w1 127.0.0.1 9125".to_owned());
    let empty = PageState { figures: Vec::new(), ticker: Vec::new(), marks: Vec::new(), snippet, ..whole() };
    let mut lone = whole();
    lone.figures.truncate(1);
    let mut pair = whole();
    pair.figures.truncate(2);
    let mut few = whole();
    few.figures.truncate(5);
    vec![
        case("partial", partial, &["≈", "approximate: 24 datagrams dropped by the kernel"]),
        case("pages", pages, &["Sales", "clocks change today"]),
        case("guessed", guessed, &["Not configured yet", "checkout.time", "a guess"]),
        case("large", large(), &["1,235,513.32", "usual by now 1,896,543"]),
        case("empty", empty.clone(), &["Nothing has come in yet", "127.0.0.1 9125"]),
        case("starting", PageState { version: 0, ..empty }, &["Starting", "What is known is being read"]),
        case("one", lone, &["184"]),
        case("two", pair, &["Revenue"]),
        case("few", few, &["Orders"]),
        case("hostile", hostile(), &["<script>window.hacked=1</script>", "Seen, not placed"]),
    ]
}

/// A state as the stream gives it.
pub(crate) fn as_json(state: &PageState) -> Json {
    json!(state)
}
