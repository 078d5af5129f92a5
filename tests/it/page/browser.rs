//! Chromium, driven by the scripts in tests/page with playwright-core.

use crate::support::{client_node, repository};
use serde_json::Value;
use std::process::Stdio;

/// Runs `tests/page/NAME` with `input`; panics with what it printed if it fails. What a script has measured it
/// prints as one line of JSON, the last one.
pub(crate) fn run(name: &str, input: &Value) -> Value {
    let script = repository("tests/page").join(name);
    let mut node = client_node();
    node.arg(script).arg(input.to_string()).stdin(Stdio::null());
    let output = node.output().expect("node starts");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}:\n{stdout}\n{stderr}");
    println!("{stdout}");
    stdout.lines().last().and_then(|line| serde_json::from_str(line).ok()).unwrap_or(Value::Null)
}
