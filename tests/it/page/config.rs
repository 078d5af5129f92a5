//! `[[figure]]` and `[[page]]`: what they mean, and what is said of each mistake.

use tallyd::cli::check;
use tallyd::config;
use tallyd::figures::state::FigureKind;

fn read(text: &str) -> Result<config::Loaded, config::ConfigError> {
    config::native(text, std::iter::empty())
}

/// The example's commented part, with the comments taken away.
fn example() -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.toml");
    let text = std::fs::read_to_string(path).unwrap();
    let part = &text[text.find("# [[figure]]").unwrap()..];
    part.lines().map(|line| line.trim_start_matches('#').to_owned() + "\n").collect()
}

#[test]
fn the_example_of_figures_and_pages_is_read() {
    let orders = "\n[[figure]]\nid = 'orders'\nmetric = 'orders'\n";
    let loaded = read(&(example() + orders)).unwrap_or_else(|error| panic!("{error}"));
    let figures = &loaded.config.figures;
    assert_eq!(figures.figures.len(), 5);
    assert_eq!((figures.pages[0].hero.as_str(), figures.pages[0].show.len()), ("signups", 2));
    assert_eq!(figures.figures[3].stat.unwrap().to_string(), "p95");
    let globs = &loaded.config.store.figures;
    for glob in ["signups", "revenue.*", "checkout.time", "deploys.*", "marks.*", "statsd.kernel_drops"] {
        assert!(globs.iter().any(|own| own == glob), "{glob}: {globs:?}");
    }
    let link = &loaded.config.http.links[0];
    assert_eq!((link.name.as_str(), link.page.as_str()), ("kitchen TV", "/"));
    assert_eq!(link.hidden.iter().collect::<Vec<_>>(), ["revenue"]);
    let notify = &loaded.config.notify.rules;
    assert_eq!((notify.len(), notify[0].alarms, notify[0].goals), (1, true, true));
    assert_eq!(notify[0].digest.unwrap().to_string(), "at 08:30, mon tue wed thu fri");
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn what_the_document_says_of_figures_is_read() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/page.md");
    let text = std::fs::read_to_string(path).unwrap();
    let block = text.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let loaded = read(block).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((loaded.config.figures.figures.len(), loaded.config.figures.pages.len()), (5, 1));
}

#[test]
fn what_is_left_out_is_made_of_what_is_there() {
    let loaded = read(
        "[[figure]]\nmetric = 'page_views'\n[[figure]]\nmetric = 'fees'\nkind = 'money'\ncurrency = 'usd'",
    )
    .unwrap();
    let figures = &loaded.config.figures.figures;
    assert_eq!((figures[0].id.as_str(), figures[0].label.as_str()), ("page_views", "Page views"));
    assert_eq!((figures[0].kind, figures[1].decimals), (FigureKind::Count, 2));
    assert_eq!(figures[1].currency.as_deref(), Some("USD"));
    let pattern = read("[[figure]]\nmetric = 'revenue.*'").unwrap().config.figures.figures;
    assert_eq!((pattern[0].id.as_str(), pattern[0].label.as_str()), ("revenue", "Revenue"));
    assert!(loaded.config.figures.pages.is_empty() && read("").unwrap().config.store.figures.is_empty());
}

#[test]
fn every_mistake_names_its_key_its_value_and_its_cure() {
    let figure = "[[figure]]\nid = 'signups'\nmetric = 'signups'\n";
    let mistakes = [
        ("[[figure]]\nid = 'x'", "figure.x.metric", "write the metric's name"),
        ("[[figure]]\nlabel = 'x'\nmetric = '*.a'", "figure[1].id", "write a short name"),
        ("[[figure]]\nmetric = '*'", "figure[1].metric = \"*\"", "everything that comes in"),
        ("[[figure]]\nmetric = 'a;b=c'", "figure[1].metric", "no blanks and no tags"),
        ("[[figure]]\nmetric = 'a'\nlabels = 'A'", "figure[1].labels", "did you mean \"label\"?"),
        ("[[figure]]\nmetric = 'a'\nkind = 'sum'", "figure[1].kind", "\"unique\""),
        ("[[figure]]\nmetric = 'a'\ncurrency = 'EUR'", "figure[1].currency", "kind = \"money\""),
        (
            "[[figure]]\nmetric = 'a'\nkind = 'money'\ncurrency = 'euro'",
            "figure[1].currency",
            "three letters",
        ),
        ("[[figure]]\nmetric = 'a'\nkind = 'money'\ndecimals = 9", "figure[1].decimals", "write 0 to 6"),
        ("[[figure]]\nmetric = 'a'\nstat = 'p95'", "figure[1].stat", "\"timer\" or \"gauge\""),
        ("[[figure]]\nmetric = 'a'\nkind = 'timer'\nstat = 'last'", "figure[1].stat", "timers have count"),
        ("[[figure]]\nmetric = 'a'\nkind = 'gauge'\nby = 'x'", "figure[1].by", "\"count\" or \"money\""),
        ("[[figure]]\nmetric = 'a'\ngoal = 300", "figure[1].goal = 300", "{ day = 300"),
        ("[[figure]]\nmetric = 'a'\ngoal = { year = 3 }", "figure[1].goal", "write day, week or month"),
        ("[[figure]]\nmetric = 'a'\ngoal = { day = -3 }", "figure[1].goal", "above 0"),
        ("[[figure]]\nmetric = 'a'\nkind = 'unique'\ngoal = { week = 3 }", "figure[1].goal", "a day alone"),
        ("[[figure]]\nmetric = 'a'\nalarm = 'loud'", "figure[1].alarm", "\"stalled\""),
        ("[[figure]]\nmetric = 'a'\nlabel = ''", "figure[1].label", "write 1 to"),
        ("[[figure]]\nid = 'r'\nkind = 'ratio'", "figure.r.of", "ids of two figures"),
        ("[[figure]]\nid = 'r'\nkind = 'ratio'\nof = ['a']", "figure.r.of", "these are 1"),
        (
            "[[figure]]\nid = 'a'\nmetric = 'a'\n[[figure]]\nid = 'a'\nmetric = 'b'",
            "figure.a.id",
            "an id of its own",
        ),
        ("[figure]\nid = 'a'", "figure", "[[figure]], with two brackets"),
        ("[[page]]\npath = '/'", "page./.hero", "the page shows nothing"),
        ("[[page]]\npath = '/x'\nhero = 'signups'", "page./x.path", "\"/live/NAME\""),
        ("[[page]]\nhero = 'signups'", "page[1].path", "it is missing"),
        ("[[page]]\npath = '/'\nhero = 'signup'", "page./.hero", "did you mean \"signups\"?"),
        ("[[page]]\npath = '/'\nhero = 'signups'\nshow = ['signups']", "page./.show", "twice"),
        ("[[page]]\npath = '/'\nhero = 'nothing'", "page./.hero", "id = \"nothing\""),
        ("[company]\ncurrency = '€'", "company.currency", "three letters"),
        ("[company]\nholidays = ['25.12.2026']", "company.holidays", "\"2026-12-25\""),
    ];
    for (text, key, hint) in mistakes {
        let error = read(&format!("{text}\n{figure}")).err().unwrap_or_else(|| panic!("{text}")).to_string();
        let found = error.lines().any(|line| line.starts_with(key) && line.contains(hint));
        assert!(found || text.starts_with("[figure]"), "{text}\n{error}");
    }
    let error = read("[figure]\nid = 'a'").unwrap_err().to_string();
    assert!(error.starts_with("figure: ") && error.contains("[[figure]], with two brackets"), "{error}");
    let ratio = "[[figure]]\nid = 'r'\nkind = 'ratio'\nof = ['m', 'm']\n[[figure]]\nid = 'm'\nmetric = 'm'\nkind = 'money'";
    assert!(read(ratio).unwrap_err().to_string().contains("neither a count nor unique"));
}

#[test]
fn a_tenth_figure_on_a_page_is_a_mistake_with_a_hint() {
    let figures: Vec<String> = (0..10).map(|n| format!("[[figure]]\nmetric = 'm{n}'\n")).collect();
    let figures = figures.concat();
    let error = read(&figures).unwrap_err().to_string();
    assert!(
        error.contains("10 figures are more than one page holds, which is 9") && error.contains("[[page]]"),
        "{error}"
    );
    let ids: Vec<String> = (1..10).map(|n| format!("'m{n}'")).collect();
    let page =
        |ids: &[String]| format!("{figures}[[page]]\npath = '/'\nhero = 'm0'\nshow = [{}]", ids.join(", "));
    let error = read(&page(&ids)).unwrap_err().to_string();
    assert!(error.contains("page./.show") && error.contains("make a second [[page]]"), "{error}");
    assert!(read(&page(&ids[..8])).is_ok());
}

#[test]
fn check_says_what_a_page_shows() {
    let text = "[company]\ntimezone = 'Europe/Paris'\nday_starts = '04:00'\nholidays = [2026-12-25, '2027-01-01']\n\
                [[figure]]\nid = 'signups'\nmetric = 'signups'\nlabel = 'Sign-ups'\nby = 'plan'\n\
                goal = { day = 300, month = 6000 }\nalarm = 'stalled'\n\
                [[figure]]\nid = 'revenue'\nmetric = 'revenue.*'\nkind = 'money'\n\
                [[page]]\npath = '/live/sales'\nhero = 'revenue'\nshow = ['signups']";
    let said = check::describe(&read(text).unwrap());
    for part in [
        "Page:     /live/sales \"Sales\", in days of Europe/Paris from 04:00\n",
        "Revenue: today's revenue.* in the currency that its name or tag says, else EUR; never added together; a sample of 4900 is 49.00\n",
        "Sign-ups: today's count of signups, by plan; goal 300 a day, 6000 a month; silence that is no chance is an alarm\n",
        "nothing is compared with 2 holidays\n",
    ] {
        assert!(said.contains(part), "{part}\n{said}");
    }
}
