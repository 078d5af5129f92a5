//! `tallyd graphite-rules`, judged by a real carbon: the files it creates under the printed rules have the
//! printed retentions and, by what each figure means, the right way of thinning out.
//!
//! The oracle is a table of meanings by figure (below) that knows no regular expression, and plain addition:
//! what was sent must be the sum of every archive, however coarse.

use super::{printed, tallyd};
use crate::support::{Graphite, Launch, time, wait_until};
use serde_json::Value;
use std::time::Duration;

/// carbon has created the files of some forty names.
const CREATED_DEADLINE: Duration = Duration::from_secs(60);
/// The counter whose samples are spread over so many minutes of the past, one a minute.
const MINUTES: i64 = 45;

/// One series of each kind, with and without tags, under names that try to look like figures.
const LINES: &str = "shop.orders:3|c\nshop.count:3|c\nshop.tagged:3|c|#b:2,a:1\nshop.time:5|ms\nshop.time:7|ms\n\
                     shop.time:11|ms|#b:2,a:1\nshop.upper:7|ms\nshop.stock:4|g\nshop.tagged_stock:4|g|#b:2,a:1\n\
                     shop.visitors:x|s\nshop.tagged_visitors:x|s|#b:2,a:1";

/// How the figure at the end of a path is to be thinned out; the words that a percentile adds are gone.
fn meaning(figure: &str) -> &'static str {
    match figure {
        "count" | "timings" | "sum" | "sum_squares" => "sum",
        "upper" | "uniques" => "max",
        "lower" => "min",
        "rate" | "count_ps" | "timings_ps" | "mean" | "median" | "std" => "average",
        _ => panic!("what is {figure}?"),
    }
}

/// `upper_99_9` is `upper`, `lower_top10` is `lower`.
fn without_percent(figure: &str) -> &str {
    let digits = figure.trim_end_matches(|c: char| c.is_ascii_digit() || c == '_');
    if digits.len() < figure.len() { digits.strip_suffix("_top").unwrap_or(digits) } else { figure }
}

/// What is right for a path of the naming; `None` is a name that tallyd does not make.
fn wanted(naming: &str, path: &str) -> &'static str {
    let figure = without_percent(path.rsplit('.').next().unwrap());
    if path.contains(".histogram.bin_") {
        return "sum";
    }
    if path.starts_with("stats.statsd.") || path == "statsd.numStats" {
        return if naming == "plain" && path.ends_with("_total") { "sum" } else { own(naming, figure) };
    }
    match naming {
        "statsd" if path.starts_with("stats.gauges.") => "last",
        "statsd" if path.starts_with("stats.sets.") => "max",
        "statsd" => meaning(figure),
        "legacy" if path.starts_with("stats_counts.") => "sum",
        "legacy" if path.starts_with("stats.gauges.") => "last",
        "legacy" if path.starts_with("stats.sets.") => "max",
        "legacy" if path.starts_with("stats.timers.") => meaning(figure),
        "legacy" => "average",
        _ if path.ends_with("stock") => "last",
        _ => meaning(figure),
    }
}

/// tallyd's own figures are levels of the last bucket; its own counters (plain: `stats.statsd.x.count`) count.
fn own(naming: &str, figure: &str) -> &'static str {
    match (naming, figure) {
        ("plain", "count") => "sum",
        ("plain", "rate") => "average",
        ("plain", _) => "last",
        _ => "average",
    }
}

/// Where whisper keeps a path: tagged ones stand in `_tagged/xxx/xxx/` with their dots written out.
fn path_of(file: &str) -> String {
    match file.strip_prefix("_tagged/") {
        Some(rest) => {
            let name = rest.rsplit('/').next().unwrap().replace("_DOT_", ".");
            name.split(';').next().unwrap().to_owned()
        }
        None => file.replace('/', "."),
    }
}

fn judged_by_carbon(naming: &str, more: &str) {
    let launch = Launch::native(&format!(
        "[flush]\nbucket = \"1s\"\ngrace = \"200ms\"\n[graphite]\nnaming = \"{naming}\"\n{more}\n[timers]\npercentiles = [90, 99.9, -10]\n\
         histogram = [{{ metric = \"time\", bins = [10, \"inf\"] }}]"
    ));
    let config = launch.dir().join("tallyd.toml");
    let rules = |only: &str| {
        printed(&tallyd(&["graphite-rules", "--config", config.to_str().unwrap(), "--only", only]))
    };
    let graphite = Graphite::start_with(&rules("schemas"), &rules("aggregation"));
    let tallyd = launch.env("TALLYD_GRAPHITE_ADDRESS", &graphite.plaintext_addr()).start();
    tallyd.send_udp(LINES.as_bytes());
    let now = time::unix_secs();
    let mut total = 0;
    for minute in 0..MINUTES {
        total += minute + 1;
        tallyd.send_udp(format!("shop.past:{}|c|T{}", minute + 1, now - 60 * minute - 7).as_bytes());
        tallyd.send_udp(format!("shop.past:{}|ms|T{}", minute + 1, now - 60 * minute - 7).as_bytes());
    }
    time::sleep(Duration::from_millis(2_500));
    assert_eq!(tallyd.sigterm(), Some(0), "nothing is left undelivered");

    let mut files = Value::Null;
    let mut wrong = Vec::new();
    let right = wait_until(CREATED_DEADLINE, || {
        files = graphite.whisper_files();
        wrong = misjudged(naming, &files, total);
        wrong.is_empty()
    });
    assert!(right, "{naming}: {wrong:#?}");
    let count = files.as_object().unwrap().len();
    println!("{naming}: {count} files are as printed");
    assert!(count > 60, "only {count} files");
}

/// What is not as it should be, in words.
fn misjudged(naming: &str, files: &Value, total: i64) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut pasts = 0;
    for (file, info) in files.as_object().unwrap() {
        let path = path_of(file);
        let path = path.strip_suffix(".eu1").unwrap_or(&path);
        let archives = info["archives"].as_array().unwrap();
        let ladder: Vec<_> = archives
            .iter()
            .map(|each| (each["width"].as_i64().unwrap(), each["keep"].as_i64().unwrap()))
            .collect();
        if ladder != [(1, 86_400), (60, 30 * 86_400), (900, 5 * 365 * 86_400)] {
            wrong.push(format!("{path} has the archives {ladder:?}"));
        }
        if info["method"] != wanted(naming, path) || info["x_files_factor"] != 0.0 {
            wrong.push(format!("{path} is thinned out by {}, not {}", info["method"], wanted(naming, path)));
        }
        let all = |what: &str| archives.iter().map(|each| each[what].as_f64()).collect::<Vec<_>>();
        let counts =
            path.ends_with("shop.past.count") && !path.contains("timers") || path == "stats_counts.shop.past";
        if counts || path.ends_with("shop.past.sum") {
            pasts += 1;
            if all("sum") != [Some(total as f64); 3] {
                wrong.push(format!("{path} adds up to {:?}, not {total}", all("sum")));
            }
        }
        if path.ends_with("shop.past.upper") && all("largest") != [Some(MINUTES as f64); 3] {
            wrong.push(format!("{path}: the largest are {:?}", all("largest")));
        }
        if path.ends_with("shop.past.lower") && all("least") != [Some(1.0); 3] {
            wrong.push(format!("{path}: the least are {:?}", all("least")));
        }
    }
    if pasts != 2 {
        wrong.push(format!("{pasts} files of shop.past that add up"));
    }
    wrong
}

#[test]
fn sums_stay_sums_at_every_retention_in_the_statsd_naming() {
    judged_by_carbon("statsd", "suffix = \"eu1\"");
}

#[test]
fn sums_stay_sums_at_every_retention_in_the_legacy_naming() {
    judged_by_carbon("legacy", "");
}

#[test]
fn sums_stay_sums_at_every_retention_in_the_plain_naming() {
    judged_by_carbon("plain", "");
}

#[test]
fn both_files_are_printed_unless_one_is_asked_for() {
    let both = printed(&tallyd(&["graphite-rules"]));
    let one = |only| printed(&tallyd(&["graphite-rules", "--only", only]));
    assert_eq!(both, format!("{}\n{}", one("schemas"), one("aggregation")));
    let wide = printed(&tallyd(&["graphite-rules", "--set", "flush.bucket=1m", "--only", "schemas"]));
    assert!(wide.contains("retentions = 1m:30d,15m:5y\n"), "{wide}");
    let own = ["graphite-rules", "--set", "graphite.prefix=a.b", "--set", "graphite.prefix_counter="];
    assert!(printed(&tallyd(&own)).contains(r"pattern = ^a\.b\.(.*\.)?(count)(;|$)"));
}
