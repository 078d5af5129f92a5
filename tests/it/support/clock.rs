//! A wall clock that a test sets for one tallyd, by tests/tools/jumping.c.

use super::Launch;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// The clock of one tallyd, and how far it is ahead of the machine's.
pub(crate) struct Clock {
    file: File,
    pub(crate) ahead_ms: i64,
}

impl Clock {
    /// A launch whose clock obeys.
    pub(crate) fn of(launch: Launch) -> (Launch, Self) {
        let library = super::library("jumping.c", launch.dir());
        let path = launch.dir().join("ahead");
        let file = File::options().create(true).truncate(true).write(true).open(&path).expect("a file");
        let clock = Self { file, ahead_ms: 0 };
        clock.set();
        let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
        let launch = launch.env("LD_PRELOAD", &text(&library)).env("JUMPING_CLOCK", &text(&path));
        (launch, clock)
    }

    fn set(&self) {
        let nanoseconds = self.ahead_ms * 1_000_000;
        self.file.write_all_at(&nanoseconds.to_ne_bytes(), 0).expect("the clock can be set");
    }

    pub(crate) fn jump(&mut self, milliseconds: i64) {
        self.ahead_ms += milliseconds;
        self.set();
    }
}
