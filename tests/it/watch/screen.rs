//! A terminal of a given size, made by a tmux of its own, with a shell in it.

use crate::support::wait_until;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(30);

/// See the module; the tmux ends with it.
pub(crate) struct Screen {
    dir: TempDir,
}

impl Screen {
    pub(crate) fn new(width: u16, height: u16) -> Self {
        let screen = Self { dir: tempfile::tempdir().unwrap() };
        let (width, height) = (width.to_string(), height.to_string());
        screen.tmux(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-x",
            &width,
            "-y",
            &height,
            "env PS1='$ ' sh",
        ]);
        assert!(screen.prompts(), "no shell: {}", screen.text());
        screen
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.dir.path().join("tmux")).args(arguments);
        command.env("LC_ALL", "C.UTF-8").env("TERM", "xterm-256color").env_remove("TMUX");
        let output = command.output().expect("tmux is missing: run tests/setup");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// What is to be seen, without blanks at the ends of lines.
    pub(crate) fn text(&self) -> String {
        let text = self.tmux(&["-u", "capture-pane", "-p"]);
        text.lines().map(|line| line.trim_end().to_owned() + "\n").collect()
    }

    /// The same with colours and the like.
    pub(crate) fn styled(&self) -> String {
        self.tmux(&["-u", "capture-pane", "-p", "-e"])
    }

    pub(crate) fn type_in(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys"], keys].concat());
    }

    /// Runs a line in the shell.
    pub(crate) fn run(&self, line: &str) {
        self.type_in(&["-l", line]);
        self.type_in(&["Enter"]);
    }

    /// Whether some text comes to be seen in time.
    pub(crate) fn shows(&self, text: &str) -> bool {
        wait_until(DEADLINE, || self.text().contains(text))
    }

    /// Whether the shell comes to wait for a line.
    pub(crate) fn prompts(&self) -> bool {
        wait_until(DEADLINE, || self.text().trim_end().lines().next_back() == Some("$"))
    }

    /// What the terminal is set to: its modes, whether the other screen is on and whether the cursor is seen.
    pub(crate) fn settings(&self) -> String {
        let tty = self.tmux(&["display-message", "-p", "#{pane_tty}"]);
        let modes = Command::new("stty").arg("-a").arg("-F").arg(tty.trim()).output().unwrap();
        let modes = String::from_utf8(modes.stdout).unwrap();
        modes + &self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag} #{mouse_any_flag}"])
    }

    /// The number of the process that runs in the shell.
    pub(crate) fn child(&self) -> String {
        let shell = self.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", shell.trim())).unwrap();
        children.split(' ').next().unwrap_or_default().to_owned()
    }
}

impl Screen {
    /// Ends the terminal, whatever runs in it.
    pub(crate) fn close(&self) {
        let mut command = Command::new("tmux");
        command.arg("-S").arg(self.dir.path().join("tmux")).arg("kill-server").output().ok();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.close();
    }
}
