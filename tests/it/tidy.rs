//! Rules about the source, read from the source: which module may look at which, and where things may be
//! named. A rule that a machine checks need not be remembered.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules by layer, from the bottom. A module may look at layers below its own, and not at its neighbours.
const LAYERS: [&[&str]; 11] = [
    &["limits", "clock", "calendar", "health", "panics", "sys", "tls", "fetch"],
    &["metric"],
    &["wire"],
    &["aggregate", "journal", "store"],
    &["query"],
    &["figures"],
    &["ingest", "flush", "forward", "serve", "console", "notify"],
    &["config"],
    &["run"],
    &["cli"],
    &["main"],
];
/// Lines of a file, tests in it included.
const FILE_LINES_MAX: usize = 500;

fn sources() -> BTreeMap<PathBuf, String> {
    fn walk(folder: &Path, into: &mut BTreeMap<PathBuf, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, into);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                into.insert(path.clone(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    walk(&src, &mut found);
    found.into_iter().map(|(path, text)| (path.strip_prefix(&src).unwrap().to_owned(), text)).collect()
}

/// The top module a file belongs to.
fn module(path: &Path) -> String {
    let first = path.components().next().unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The top modules that a text names, outside comments and doc links.
fn looks_at(text: &str) -> Vec<String> {
    let code: String =
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut names = Vec::new();
    for root in ["crate::", "tallyd::"] {
        for part in code.split(root).skip(1) {
            if let Some(group) = part.strip_prefix('{') {
                let mut depth = 0;
                let mut name = String::new();
                for c in group.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => names.push(std::mem::take(&mut name)),
                        c if depth == 0 && !c.is_whitespace() => name.push(c),
                        _ => {}
                    }
                }
                names.push(name);
            } else {
                names.push(part.to_owned());
            }
        }
    }
    let first =
        |name: String| name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    names.into_iter().map(first).filter(|name| !name.is_empty()).collect()
}

#[test]
fn modules_look_only_downwards() {
    for (path, text) in sources() {
        let own = module(&path);
        if own == "lib" {
            continue;
        }
        let own_layer = layer(&own).unwrap_or_else(|| panic!("{} is in no layer", path.display()));
        for other in looks_at(&text) {
            let Some(other_layer) = layer(&other) else {
                panic!("{} looks at `{other}`, which is in no layer", path.display());
            };
            assert!(
                other == own || other_layer < own_layer || own_layer == 0,
                "{} looks at `{other}`, which is not below `{own}`",
                path.display()
            );
        }
    }
}

#[test]
fn the_reader_of_imports_sees_groups_and_paths() {
    let text = "use crate::metric::Sum;\nuse crate::{wire, store::{Store, Batch}, clock};\n// crate::cli\nlet x = crate::run::start();";
    assert_eq!(looks_at(text), ["metric", "wire", "store", "clock", "run"]);
}

#[test]
fn what_has_one_place_is_named_only_there() {
    let places: [(&str, &[&str]); 7] = [
        ("axum", &["serve"]),
        ("hyper::", &["fetch", "serve"]),
        // Also `unsafe fn`, `unsafe impl` and whatever else there is of it.
        ("unsafe ", &["sys.rs"]),
        ("SystemTime::now", &["clock.rs"]),
        ("Instant::now", &["clock.rs"]),
        ("recvmmsg(", &["ingest/udp.rs"]),
        ("SIOCOUTQ", &["sys.rs", "forward/carbon.rs"]),
    ];
    for (path, text) in sources() {
        for (word, allowed) in places {
            let named = text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains(word));
            assert!(
                !named || allowed.iter().any(|place| path.starts_with(place)),
                "{} names {word}, which belongs to {allowed:?}",
                path.display()
            );
        }
    }
}

/// clippy asks for the comment too; this says that there is no way around it, and that the blocks are few.
#[test]
fn every_unsafe_block_says_what_it_relies_on() {
    let mut blocks = 0;
    for (path, text) in sources() {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.contains("unsafe {")) {
            // Comments stand above the statement, and attributes of it.
            let said =
                lines[..at].iter().rev().take_while(|above| !above.is_empty() && !above.ends_with(';'));
            let promise = said.take(8).any(|above| above.starts_with("// SAFETY: "));
            assert!(promise, "{}, line {}: {line} says nothing of its promise", path.display(), at + 1);
            blocks += 1;
        }
    }
    assert!((1..=8).contains(&blocks), "{blocks} blocks: is each of them worth it?");
    let lints = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    for lint in ["unsafe_code = \"deny\"", "undocumented_unsafe_blocks = \"deny\""] {
        assert!(lints.contains(lint), "{lint} is gone from Cargo.toml");
    }
}

#[test]
fn wire_and_metric_know_no_sockets_no_storage_and_no_clock() {
    for (path, text) in sources() {
        if ["wire", "metric"].contains(&module(&path).as_str()) {
            for word in
                ["std::net", "std::fs", "std::io", "std::time::Instant", "SystemTime", "tokio", "monotonic"]
            {
                assert!(!text.contains(word), "{} names {word}", path.display());
            }
        }
    }
}

#[test]
fn every_file_says_what_it_is_and_is_one_idea() {
    for (path, text) in sources() {
        assert!(text.starts_with("//! "), "{} has no header", path.display());
        let lines = text.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{} has {lines} lines", path.display());
    }
}

#[test]
fn nothing_is_unfinished_or_skipped() {
    // Written in two parts, so that this file does not find itself.
    let words = [["TO", "DO"], ["FIX", "ME"], ["todo", "!("], ["unimplemented", "!("], ["#[ig", "nore"]];
    let mut all = sources();
    for name in ["tests/it", "benches"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_file() {
                all.insert(path.clone(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    for (path, text) in all {
        for word in words {
            assert!(!text.contains(&word.concat()), "{} says {}", path.display(), word.concat());
        }
    }
}

/// What a dependency asks of Rust is no more than what `Cargo.toml` says we ask. `make msrv` compiles with it.
#[test]
fn no_dependency_needs_a_newer_rust_than_we_name() {
    let arguments = ["metadata", "--locked", "--offline", "--format-version", "1", "--filter-platform"];
    let cargo = std::process::Command::new(env!("CARGO"))
        .args(arguments)
        .arg("x86_64-unknown-linux-gnu")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&cargo.stdout).unwrap();
    let version = |text: &str| -> Vec<u32> { text.split('.').map(|part| part.parse().unwrap()).collect() };
    let ours = version(env!("CARGO_PKG_RUST_VERSION"));
    let packages = metadata["packages"].as_array().unwrap();
    assert!(packages.len() > 100, "only {} packages", packages.len());
    for package in packages {
        let theirs = package["rust_version"].as_str().unwrap_or("0");
        assert!(version(theirs) <= ours, "{} {} needs Rust {theirs}", package["name"], package["version"]);
    }
}

#[test]
fn dependencies_say_why_they_are_there() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml")).unwrap();
    let mut inside = false;
    let mut count = 0;
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.contains("dependencies");
        } else if inside && !line.trim().is_empty() {
            assert!(line.contains(" # "), "no reason: {line}");
            count += 1;
        }
    }
    assert!(count > 20, "only {count} dependencies were found");
}

/// docs/security.md names the test of each claim: none may be renamed or go without it.
#[test]
fn the_tests_that_the_security_document_names_are_there() {
    fn read(folder: &Path, all: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with(".cache") {
                read(&path, all);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                all.push_str(&fs::read_to_string(&path).unwrap());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut source = String::new();
    for folder in ["src", "tests/it"] {
        read(&root.join(folder), &mut source);
    }
    let text = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let (_, table) = text.split_once("## What is tested").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let claims: Vec<&str> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    assert!(claims.len() >= 15, "{claims:#?}");
    for claim in claims {
        let named = claim.rsplit('|').nth(1).unwrap().split('`').skip(1).step_by(2);
        let words = |name: &&str| name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        let tests: Vec<&str> = named.filter(words).collect();
        assert!(!tests.is_empty() || claim.contains("`make "), "no test is named: {claim}");
        for test in tests {
            assert!(
                source.contains(&format!("fn {test}()")),
                "docs/security.md names {test}, which is not there"
            );
        }
    }
}
