//! A child process that cannot outlive its test.
//!
//! It runs in a process group of its own, so that its workers end with it, and is killed when the handle is
//! dropped. The kernel kills it too when the thread that started it ends (`setpriv --pdeathsig`), which
//! covers a test run that is itself killed: start servers on the test's own thread, not on a helper's.
//! What it prints goes to a file; a failed start shows the end of it.

use super::time;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

/// So much of a log is shown when something fails.
const LOG_TAIL_BYTES: usize = 4_000;

/// A running child, with the files that take its output.
pub(crate) struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    stdout_before: usize,
}

impl Process {
    /// Starts `command`; its output goes to `NAME.out` and `NAME.err` in `log_dir`, added to what is there.
    pub(crate) fn start(name: &str, command: &Command, log_dir: &Path) -> Self {
        let stdout = log_dir.join(format!("{name}.out"));
        let stderr = log_dir.join(format!("{name}.err"));
        // In bytes of the file: a process that was killed inside a character leaves half of one.
        let stdout_before = std::fs::metadata(&stdout).map_or(0, |file| file.len() as usize);
        let child = bound_to_this_thread(command)
            .stdin(Stdio::null())
            .stdout(append(&stdout))
            .stderr(append(&stderr))
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}; run tests/setup"));
        Self { name: name.to_owned(), child, stdout, stderr, stdout_before }
    }

    /// What it has printed so far, without what an earlier process left in the same file.
    pub(crate) fn stdout(&self) -> String {
        let all = std::fs::read(&self.stdout).unwrap_or_default();
        String::from_utf8_lossy(all.get(self.stdout_before..).unwrap_or_default()).into_owned()
    }

    /// What it has logged so far, and what an earlier process has in the same file.
    pub(crate) fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }

    /// The process's number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("our own child can be waited for").is_none()
    }

    /// Waits until `ready`; panics with the log when the process ends first or `deadline` passes.
    pub(crate) fn wait_ready(&mut self, deadline: Duration, mut ready: impl FnMut(&Self) -> bool) {
        let mut ended = false;
        let reached = time::wait_until(deadline, || {
            ended = !self.is_running();
            ended || ready(self)
        });
        assert!(reached && !ended, "{} did not become ready{}", self.name, self.log_tails());
    }

    /// Sends SIGTERM to the process, then waits for its end; panics with the log when `deadline` passes.
    pub(crate) fn terminate(&mut self, deadline: Duration) -> ExitStatus {
        signal("TERM", &self.child.id().to_string());
        let mut status = None;
        time::wait_until(deadline, || {
            status = self.child.try_wait().expect("our own child can be waited for");
            status.is_some()
        });
        status.unwrap_or_else(|| {
            panic!("{} still runs {deadline:?} after SIGTERM{}", self.name, self.log_tails())
        })
    }

    /// Ends the process and its group with SIGKILL, as a crash would.
    pub(crate) fn kill(&mut self) {
        if self.is_running() {
            signal("KILL", &format!("-{}", self.child.id()));
        }
        self.child.wait().expect("our own child can be waited for");
    }

    fn log_tails(&self) -> String {
        format!(
            "\n--- its stdout ends:\n{}\n--- its stderr ends:\n{}",
            tail(&self.stdout()),
            tail(&self.stderr())
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}{}", self.name, self.log_tails());
        }
    }
}

/// Wraps `command` so that the kernel ends it with this thread, in a process group of its own.
fn bound_to_this_thread(command: &Command) -> Command {
    use std::os::unix::process::CommandExt;
    let mut bound = Command::new("setpriv");
    bound.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => bound.env(key, value),
            None => bound.env_remove(key),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        bound.current_dir(directory);
    }
    bound.process_group(0);
    bound
}

/// Signals a process (`"123"`) or a group (`"-123"`) through the shell's own `kill`: the call itself would
/// need unsafe code.
pub(crate) fn signal(name: &str, target: &str) {
    let script = "kill -s \"$0\" -- \"$1\"";
    let sent = Command::new("/bin/sh").args(["-c", script, name, target]).stderr(Stdio::null()).status();
    sent.expect("the shell runs");
}

fn append(path: &Path) -> std::fs::File {
    std::fs::File::options().create(true).append(true).open(path).expect("a log file opens")
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

fn tail(text: &str) -> &str {
    let mut from = text.len().saturating_sub(LOG_TAIL_BYTES);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

#[test]
fn a_process_is_gone_with_its_group_when_its_handle_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "sleep 600 & echo $! && echo warned >&2 && wait"]);
    let mut process = Process::start("shell", &shell, dir.path());
    process.wait_ready(Duration::from_secs(5), |process| process.stderr() == "warned\n");
    let worker = PathBuf::from(format!("/proc/{}", process.stdout().trim()));
    assert!(worker.exists());
    drop(process);
    assert!(time::wait_until(Duration::from_secs(5), || !worker.exists()));
}
