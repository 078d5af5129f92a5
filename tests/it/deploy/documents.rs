//! The documents: every block of commands or code in docs/ is run against a tallyd of its own, or says why not;
//! links lead somewhere; the configuration reference is what config.example.toml says.
//!
//! A comment before each block says what to do with it: `run`, `run: counts NAME VALUE, …`, `run: on a store`, with
//! tallyd's own store and address in the environment, or `not run: WHY`.
//! With `TALLYD_TEST_DOCS` set, docs/configuration.md is written anew.

use crate::support::{Launch, Tallyd, client_node, client_python, repository, wait_until};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const COUNTED_DEADLINE: Duration = Duration::from_secs(20);

/// A block of a document.
struct Block {
    place: String,
    order: String,
    language: String,
    text: String,
}

fn documents() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(repository("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "md"))
        .collect();
    found.sort();
    found
}

fn blocks(path: &Path) -> Vec<Block> {
    let text = fs::read_to_string(path).unwrap();
    let mut blocks = Vec::new();
    let mut order = String::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(comment) = line.strip_prefix("<!-- ").and_then(|line| line.strip_suffix(" -->")) {
            comment.clone_into(&mut order);
        } else if let Some(language) = line.strip_prefix("```") {
            let inside: Vec<&str> =
                lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```").collect();
            let place = format!("{}:{}", path.file_name().unwrap().display(), number + 1);
            let order = std::mem::take(&mut order);
            blocks.push(Block {
                place,
                order,
                language: language.to_owned(),
                text: inside.join("\n") + "\n",
            });
        }
    }
    blocks
}

/// What runs a file in this language.
fn interpreter(language: &str) -> Command {
    match language {
        "sh" => Command::new("bash"),
        "php" => Command::new("php"),
        "ruby" => Command::new("ruby"),
        "python" => client_python(),
        "js" => client_node(),
        _ => panic!("who runs {language}?"),
    }
}

fn run(block: &Block, tallyd: &Tallyd, environment: &[(&str, String)]) {
    let dir = tempfile::tempdir().unwrap();
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_tallyd"), bin.join("tallyd")).unwrap();
    let text = block.text.replace("/8125", &format!("/{}", tallyd.ports.statsd)).replace(
        "8125",
        // Files of configuration keep the usual port; what is sent goes to the one that listens.
        &if block.text.contains("cat >") { "8125".to_owned() } else { tallyd.ports.statsd.to_string() },
    );
    let script = dir.path().join("snippet");
    fs::write(&script, if block.language == "sh" { format!("set -eo pipefail\n{text}") } else { text })
        .unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = interpreter(&block.language);
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    let output = command.arg(&script).current_dir(dir.path()).env("PATH", path).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}; run tests/setup", block.place));
    assert!(output.status.success(), "{}: {}", block.place, String::from_utf8_lossy(&output.stderr));
}

/// `counts signups 2, orders 1`, as the console has it.
fn assert_counts(block: &Block, tallyd: &Tallyd, wanted: &str) {
    for part in wanted.trim_start_matches("counts ").split(", ") {
        let (name, value) = part.split_once(' ').unwrap();
        let quoted = if name.contains(['.', ';']) { format!("'{name}'") } else { name.to_owned() };
        let shown = |text: &str| {
            text.split([',', '{', '}', '\n']).any(|entry| entry.trim() == format!("{quoted}: {value}"))
        };
        let counted = wait_until(COUNTED_DEADLINE, || shown(&tallyd.console("counters")));
        assert!(counted, "{}: {part} is not in {}", block.place, tallyd.console("counters"));
    }
}

#[test]
fn every_snippet_of_the_documents_runs_or_says_why_not() {
    let (mut ran, mut left) = (0, 0);
    for block in documents().iter().flat_map(|path| blocks(path)) {
        match block.order.split_once(": ").unwrap_or((&block.order, "")) {
            ("not run", why) if !why.is_empty() => left += 1,
            ("run", wanted) => {
                ran += 1;
                // One bucket for the whole block, so that the console still shows what was counted.
                let launch = Launch::native("[flush]\nbucket = \"24h\"\n[graphite]\naddress = []");
                let store = format!("file:{}", launch.dir().join("store").display());
                let launch = launch.env("TALLYD_STORE_URL", &store);
                let tallyd = launch.start();
                let listen = format!("127.0.0.1:{}", tallyd.ports.http);
                if wanted == "on a store" {
                    run(&block, &tallyd, &[("TALLYD_STORE_URL", store), ("TALLYD_HTTP_LISTEN", listen)]);
                    continue;
                }
                run(&block, &tallyd, &[]);
                if !wanted.is_empty() {
                    assert_counts(&block, &tallyd, wanted);
                }
            }
            (order, _) => panic!("{}: is it run? It says {order:?}", block.place),
        }
    }
    println!("{ran} blocks ran, {left} say why not");
    assert!(ran >= 10, "only {ran} blocks ran");
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let mut count = 0;
    for path in documents().into_iter().chain([repository("README.md"), repository("CONTRIBUTING.md")]) {
        let text = fs::read_to_string(&path).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.starts_with("http") {
                continue;
            }
            count += 1;
            let (file, heading) = target.split_once('#').unwrap_or((target, ""));
            let whole = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(whole.exists(), "{}: {target} leads nowhere", path.display());
            if !heading.is_empty() {
                let headings = fs::read_to_string(&whole).unwrap();
                let slug = |line: &str| {
                    line.trim_start_matches('#')
                        .trim()
                        .to_lowercase()
                        .replace([',', '\''], "")
                        .replace(' ', "-")
                };
                let there = headings.lines().any(|line| line.starts_with('#') && slug(line) == heading);
                assert!(there, "{}: there is no heading for {target}", path.display());
            }
        }
    }
    assert!(count > 30, "only {count} links were found");
}

#[test]
fn every_document_is_in_the_readme() {
    let readme = fs::read_to_string(repository("README.md")).unwrap();
    for path in documents() {
        let name = format!("docs/{}", path.file_name().unwrap().display());
        assert!(readme.contains(&format!("]({name})")), "README.md does not lead to {name}");
    }
}

/// docs/configuration.md as config.example.toml has it, which a test of its own compares with the code.
fn reference() -> String {
    let mut text = "# Configuration\n\nEvery key with its default, made of [config.example.toml](../config.example.toml), which a test compares with the\n\
                    code. A key is set in the file, as environment variable, or as `--set SECTION.KEY=VALUE`, which wins.\n"
        .to_owned();
    let example = fs::read_to_string(repository("config.example.toml")).unwrap();
    let mut section = "";
    let mut meaning: Vec<&str> = Vec::new();
    for line in example.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            meaning.push(comment);
        } else if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            section = name;
            meaning.clear();
            write!(text, "\n## {section}\n\n| key | default | environment | |\n|---|---|---|---|\n").unwrap();
        } else if let Some((key, value)) = line.split_once(" = ") {
            let variable = format!("TALLYD_{section}_{key}").to_uppercase();
            let meaning = std::mem::take(&mut meaning).join(" ").replace('|', "\\|");
            writeln!(text, "| `{key}` | `{value}` | `{variable}` | {meaning} |").unwrap();
        }
    }
    text
}

#[test]
fn the_configuration_reference_is_what_the_example_says() {
    let path = repository("docs/configuration.md");
    if std::env::var_os("TALLYD_TEST_DOCS").is_some() {
        fs::write(&path, reference()).unwrap();
    }
    let written = fs::read_to_string(path).unwrap();
    assert!(written == reference(), "docs/configuration.md is old: run this test with TALLYD_TEST_DOCS=1");
    for (section, key) in tallyd::config::keys() {
        assert!(
            written.contains(&format!("| `{key}` |")) && written.contains(&format!("## {section}\n")),
            "{key}"
        );
    }
}
