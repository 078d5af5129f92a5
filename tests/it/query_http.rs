//! Questions to the built program over HTTP: answers in both forms, what is refused, and who may ask.

use crate::support::{Launch, Tallyd, http, wait_until};
use serde_json::Value;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_secs(10);

fn json(tallyd: &Tallyd, path: &str) -> Value {
    let reply = tallyd.http_get(path);
    assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    serde_json::from_str(&reply.body).unwrap_or_else(|error| panic!("{path}: {error}: {}", reply.body))
}

/// The sum of all points of one series of an answer.
fn total(answer: &Value, series: usize) -> f64 {
    let points = answer["series"][series]["points"].as_array();
    points.into_iter().flatten().filter_map(|point| point[1].as_f64()).sum()
}

/// A program that has counted these lines, as the last query says.
fn counted(launch: &Launch, lines: &[&str], last: &str) -> Tallyd {
    let tallyd = launch.start();
    for line in lines {
        tallyd.send_udp(line.as_bytes());
    }
    tallyd.send_udp(b"last:1|c");
    let path = format!("/api/v1/query?name={last}");
    assert!(wait_until(DEADLINE, || total(&json(&tallyd, &path), 0) == 1.0), "the open bucket is included");
    tallyd
}

#[test]
fn questions_are_answered_while_the_bucket_is_open() {
    let lines = [
        "signups:3|c|#plan:pro",
        "signups:0.1|c|#plan:free",
        "signups:0.2|c|#plan:free",
        "took:10:20:30:40|ms",
        "carts:7|g",
        "visitors:ada|s",
        "visitors:bob|s",
        "visitors:ada|s",
    ];
    let tallyd = counted(&Launch::native("[flush]\nbucket = \"1h\"\n"), &lines, "last");
    let answer = json(&tallyd, "/api/v1/query?name=signups&from=-2m");
    assert_eq!(
        (&answer["step"], &answer["resolution"], &answer["stat"]),
        (&3_600.into(), &3_600.into(), &Value::Null)
    );
    assert!(answer["open"]["start"].is_i64(), "{answer}");
    assert_eq!(answer["series"][0]["tags"]["plan"], "free");
    assert_eq!((total(&answer, 0), total(&answer, 1)), (0.3, 3.0));
    assert_eq!(answer["to"].as_i64().unwrap() - answer["from"].as_i64().unwrap(), {
        answer["series"][0]["points"].as_array().unwrap().len() as i64 * 3_600
    });
    let one = |query: &str| {
        let answer = json(&tallyd, &format!("/api/v1/query?from=-2m&{query}"));
        // An hour may have begun anew while this ran; then it is in the one before.
        let points = answer["series"][0]["points"].as_array().unwrap().clone();
        points.iter().find_map(|point| point[1].as_f64()).unwrap_or_else(|| panic!("{query}: {answer}"))
    };
    assert_eq!(one("name=sign*&by="), 3.3);
    assert_eq!(one("name=signups;plan!=pro"), 0.3);
    assert_eq!(one("name=took"), 25.0);
    assert_eq!(one("name=took&stat=p75"), 30.0);
    assert_eq!(one("name=took&stat=max"), 40.0);
    assert_eq!(one("name=carts"), 7.0);
    assert_eq!(one("name=visitors"), 2.0);
    let series = json(&tallyd, "/api/v1/series?match=signups");
    assert_eq!(series["matched"], 2);
    assert_eq!(series["series"][1]["tags"]["plan"], "pro");
    assert_eq!(series["series"][0]["levels"][0]["width"], 3_600);
    assert_eq!(json(&tallyd, "/api/v1/series?kind=gauge&match=**")["matched"], 1);
    let csv =
        http::request(tallyd.ports.http, "GET", "/api/v1/query?name=carts", &[("Accept", "text/csv")], "");
    let csv = csv.unwrap();
    assert!(csv.head.to_ascii_lowercase().contains("content-type: text/csv"), "{}", csv.head);
    assert!(csv.body.starts_with("time,seconds,name,tags,kind,stat,value,open\n"), "{}", csv.body);
    let last = csv.body.lines().last().unwrap();
    assert!(last.ends_with(",carts,,gauge,last,7,open"), "{last}");
    let series = tallyd.http_get("/api/v1/series?match=took&format=csv");
    assert!(series.body.starts_with("name,tags,kind,levels\ntook,,timer,1h:"), "{}", series.body);
    assert_eq!(json(&tallyd, "/api/v1/query?name=nothing")["series"], Value::Array(Vec::new()));
}

#[test]
fn what_cannot_be_answered_is_refused_with_its_parameter() {
    let tallyd = counted(&Launch::native(""), &["took:10|ms"], "last");
    let long = format!("name={}", "x".repeat(1_025));
    let braces = format!("name={}", "{a,b}".repeat(8));
    let names = "name=a&".repeat(33);
    for (query, parameter) in [
        ("", "name"),
        ("name=", "name"),
        ("name=a,b", "name"),
        ("name=%7Ba", "name"),
        ("name=a;b", "name"),
        (&long, "name"),
        (&braces, "name"),
        (&names, "name"),
        ("names=a", "names"),
        ("name=last&from=soon", "from"),
        ("name=last&from=1795437000000", "from"),
        ("name=last&from=now", "from"),
        ("name=last&from=-1h&from=-2h", "from"),
        ("name=last&from=", "from"),
        ("name=last&from=-1h&to=-2h", "from"),
        ("name=last&to=never", "to"),
        ("name=last&step=0", "step"),
        ("name=last&step=-5", "step"),
        ("name=last&step=fast", "step"),
        ("name=last&step=1s&from=-200d", "step"),
        ("name=last&stat=p101", "stat"),
        ("name=last&stat=mean", "stat"),
        ("name=took&stat=uniques", "stat"),
        ("name=last&kind=counters", "kind"),
        ("name=last&by=a,,b", "by"),
        ("name=last&fill=0", "fill"),
        ("name=last&limit=0", "limit"),
        ("name=last&limit=1001", "limit"),
        ("name=last&limit=%2B5", "limit"),
        ("name=last&format=xml", "format"),
        ("name=%ff", "name"),
        ("name=last&x%=1", "x%"),
    ] {
        let reply = tallyd.http_get(&format!("/api/v1/query?{query}"));
        assert_eq!(reply.status, 400, "{query}: {}", reply.body);
        let problem: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(problem["parameter"], parameter, "{query}: {problem}");
        assert!(problem["error"].as_str().is_some_and(|error| !error.is_empty()), "{problem}");
        assert!(problem["cure"].as_str().is_some_and(|cure| !cure.is_empty()), "{problem}");
    }
    for (query, parameter) in [("match=[", "match"), ("name=a", "name"), ("limit=100001", "limit")] {
        let reply = tallyd.http_get(&format!("/api/v1/series?{query}"));
        let problem: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!((reply.status, &problem["parameter"]), (400, &parameter.into()), "{query}");
    }
}

#[test]
fn hostile_names_break_neither_json_nor_csv() {
    let launch = Launch::native("[names]\nsanitize = false\n");
    let names = ["=1+2\",x", "-cmd", "@a\"b", "q\\\"\u{1}\r'", "<script>", "\u{202e}rtl"];
    let lines: Vec<String> = names.iter().map(|name| format!("{name}:1|c|#t:=2+3\"")).collect();
    let tallyd = counted(&launch, &lines.iter().map(String::as_str).collect::<Vec<_>>(), "last");
    let listed = json(&tallyd, "/api/v1/series?match=**;t=*");
    let mut shown: Vec<&str> =
        listed["series"].as_array().unwrap().iter().map(|series| series["name"].as_str().unwrap()).collect();
    shown.sort_unstable();
    let mut sent = names;
    sent.sort_unstable();
    assert_eq!(shown, sent);
    assert_eq!(listed["series"][0]["tags"]["t"], "=2+3\"");
    let answer = json(&tallyd, "/api/v1/query?name=**;t=*&from=-1m&step=1m");
    assert_eq!(answer["series"].as_array().unwrap().len(), names.len());
    for path in
        ["/api/v1/query?name=**;t=*&format=csv&from=-1m&step=1m", "/api/v1/series?match=**;t=*&format=csv"]
    {
        let reply = tallyd.http_get(path);
        assert!(
            reply.head.to_ascii_lowercase().contains("x-content-type-options: nosniff"),
            "{}",
            reply.head
        );
        for row in rows(&reply.body) {
            for cell in &row {
                assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{path}: {row:?}");
            }
            assert_eq!(row.len(), rows(&reply.body)[0].len(), "{row:?}");
        }
        let cells: Vec<String> = rows(&reply.body).into_iter().flatten().collect();
        for name in names {
            let shown = if name.starts_with(['=', '-', '@']) { format!("'{name}") } else { name.to_owned() };
            assert!(cells.contains(&shown), "{path}: {shown:?}");
        }
    }
}

/// A small reader of RFC 4180.
fn rows(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => cell.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut cell)),
            '\n' if !quoted => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            c => cell.push(c),
        }
    }
    rows
}

#[test]
fn strangers_show_a_token_and_other_hosts_are_not_served() {
    let launch = Launch::native("[http]\ntokens = [\"open-sesame\"]\n");
    let tallyd = launch.start();
    for path in ["/api/v1/query?name=**", "/api/v1/series"] {
        let ask = |headers: &[(&str, &str)]| {
            http::request(tallyd.ports.http, "GET", path, headers, "").unwrap().status
        };
        assert_eq!(ask(&[]), 200);
        assert_eq!(ask(&[("Origin", "https://evil.example")]), 421);
        assert_eq!(ask(&[("X-Forwarded-For", "10.0.0.1")]), 401);
        assert_eq!(ask(&[("X-Forwarded-For", "10.0.0.1"), ("Authorization", "Bearer open-sesame")]), 200);
    }
}
