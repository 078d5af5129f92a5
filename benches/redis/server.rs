//! A redis-server of the bench's own, and stores on it.

use redis::Connection;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tallyd::calendar::Calendar;
use tallyd::clock::{self, Clock};
use tallyd::metric::{Bounds, Kind, Ladder, Series, Sum, Tally, Width};
use tallyd::store::redis::{RedisStore, Settings};
use tallyd::store::{Idle, IdleRules};

pub(crate) const BUCKET_MS: i64 = 1_000;
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A redis-server on a Unix socket, which no other process can have.
pub(crate) struct Server {
    child: Child,
    folder: tempfile::TempDir,
}

impl Server {
    /// With an append-only file, synced each second, or with nothing on disk.
    pub(crate) fn start(appends: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--unixsocket", "redis.sock"]);
        command.args(["--appendonly", if appends { "yes" } else { "no" }, "--appendfsync", "everysec"]);
        let child = command.current_dir(folder.path()).stdout(Stdio::null()).spawn();
        let server = Self { child: child.expect("redis-server starts; run tests/setup"), folder };
        let started = clock::monotonic_now();
        while redis::Client::open(server.url()).unwrap().get_connection().is_err() {
            assert!(clock::elapsed(started) < PATIENCE, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.folder.path().join("redis.sock").display())
    }

    pub(crate) fn connection(&self) -> Connection {
        redis::Client::open(self.url()).unwrap().get_connection().unwrap()
    }

    /// Seconds of a processor that it has used.
    pub(crate) fn used(&self) -> f64 {
        let info: String = redis::cmd("INFO").arg("cpu").query(&mut self.connection()).unwrap();
        let field = |name: &str| -> f64 {
            info.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap()
        };
        field("used_cpu_user:") + field("used_cpu_sys:")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Of a series.
pub(crate) fn name(n: usize) -> String {
    format!("app.web{:02}.requests.route{n:05}", n % 20)
}

/// A node's store on it.
pub(crate) fn open(server: &Server, prefix: &str, partitions: usize) -> RedisStore {
    let settings = Settings {
        url: server.url(),
        prefix: prefix.to_owned(),
        partitions,
        ladder: Ladder::new(Width::from_ms(BUCKET_MS as u64), &[], &[], 3_600_000, Calendar::default()),
        bounds: Bounds { timer_exact_max: 512, set_exact_max: 256 },
        history: Vec::new(),
        figures: Vec::new(),
        destinations: Vec::new(),
        resend_ms: 0,
        grace_ms: 0,
        hold_ms: 0,
        idle: IdleRules {
            counters: Idle::Zero,
            timers: Idle::Zero,
            sets: Idle::Zero,
            gauges: Idle::Keep,
            gauges_ttl: 1,
            after_ms: None,
        },
    };
    RedisStore::open(settings, &Clock::system(), &std::sync::Arc::default(), None).unwrap()
}

/// Counters, each of another value.
pub(crate) fn entries(series: usize, value: i64) -> Vec<(Series, Tally)> {
    let entry =
        |n| (Series::new(Kind::Counter, &name(n)), Tally::Counter(Sum::from_whole(value + n as i64 % 100)));
    (0..series).map(entry).collect()
}
