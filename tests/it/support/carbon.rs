//! A real Graphite: carbon-cache and graphite-web of Debian, in a temporary directory on free ports.
//!
//! carbon takes points (plain text and pickle) and tells graphite-web of tagged series; graphite-web reads
//! them back through `/render`. carbon alone can be stopped, killed and started again at the same ports, for
//! outages. Limits on creation and updates are off, so that what carbon accepts it also writes at once.

use super::process::Process;
use super::{free_port, http, time};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// Debian's own Python: Graphite's modules are installed for it alone.
const PYTHON: &str = "/usr/bin/python3";
const CARBON_CACHE: &str = "/usr/bin/carbon-cache";
const GRAPHITE_MANAGE: &str = "/usr/bin/graphite-manage";
const GUNICORN: &str = "/usr/bin/gunicorn";

/// Both need about 3 s alone; the rest is for a busy machine.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// A file that carbon is creating is whole within milliseconds.
const RENDER_DEADLINE: Duration = Duration::from_secs(10);
/// carbon writes its cache out before it ends.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// One series as `/render` gives it: its name, and value (or none) by timestamp.
pub(crate) type Rendered = (String, Vec<(Option<f64>, i64)>);

/// A running carbon-cache with graphite-web; both are killed when it is dropped.
pub(crate) struct Graphite {
    ports: Ports,
    carbon: Option<Process>,
    _web: Process,
    dir: TempDir,
}

#[derive(Clone, Copy)]
struct Ports {
    plaintext: u16,
    pickle: u16,
    query: u16,
    web: u16,
}

/// carbon's `MAX_CREATES_PER_MINUTE` and `MAX_UPDATES_PER_SECOND`.
struct Limits {
    creates: String,
    updates: String,
}

/// Tests that start it so read the finest archive only: how it is rolled up does not matter.
const AGGREGATION: &str = "[all]\npattern = .*\nxFilesFactor = 0\naggregationMethod = last\n";

fn schemas(retentions: &str) -> String {
    format!("[all]\npattern = .*\nretentions = {retentions}\n")
}

impl Graphite {
    /// Starts both with one retention for every series, such as `1s:6h`, and waits until they answer.
    pub(crate) fn start(retentions: &str) -> Self {
        Self::start_with(&schemas(retentions), AGGREGATION)
    }

    /// The same with a carbon that makes so many files a minute, and writes so many a second; the rest stays in its
    /// memory.
    pub(crate) fn start_limited(retentions: &str, creates: u32, updates: u32) -> Self {
        let limits = Limits { creates: creates.to_string(), updates: updates.to_string() };
        Self::start_configured(&schemas(retentions), AGGREGATION, &limits)
    }

    /// Starts both with these storage-schemas.conf and storage-aggregation.conf.
    pub(crate) fn start_with(schemas: &str, aggregation: &str) -> Self {
        Self::start_configured(schemas, aggregation, &Limits { creates: "inf".into(), updates: "inf".into() })
    }

    fn start_configured(schemas: &str, aggregation: &str, limits: &Limits) -> Self {
        for program in [PYTHON, CARBON_CACHE, GRAPHITE_MANAGE, GUNICORN] {
            assert!(Path::new(program).exists(), "{program} is missing: run tests/setup");
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let ports =
            Ports { plaintext: free_port(), pickle: free_port(), query: free_port(), web: free_port() };
        write_configuration(dir.path(), ports, limits);
        write_rules(dir.path(), schemas, aggregation);
        create_tag_database(dir.path());
        let mut web = start_web(dir.path(), ports);
        web.wait_ready(READY_DEADLINE, |_| {
            http::get(ports.web, "/version/").is_ok_and(|reply| reply.status == 200)
        });
        let mut graphite = Self { ports, carbon: None, _web: web, dir };
        graphite.start_again();
        graphite
    }

    /// Where carbon takes lines.
    pub(crate) fn plaintext_addr(&self) -> String {
        format!("127.0.0.1:{}", self.ports.plaintext)
    }

    /// Where carbon takes pickles.
    pub(crate) fn pickle_addr(&self) -> String {
        format!("127.0.0.1:{}", self.ports.pickle)
    }

    /// Ends carbon in order: it writes out what it holds. graphite-web goes on.
    pub(crate) fn stop(&mut self) {
        let mut carbon = self.carbon.take().expect("carbon runs");
        carbon.terminate(STOP_DEADLINE);
    }

    /// Kills carbon: what it holds in memory is lost.
    pub(crate) fn kill9(&mut self) {
        let mut carbon = self.carbon.take().expect("carbon runs");
        carbon.kill();
    }

    /// Starts carbon at its old ports and waits until it listens.
    pub(crate) fn start_again(&mut self) {
        assert!(self.carbon.is_none(), "carbon already runs");
        let mut carbon = start_carbon(self.dir.path());
        let ports = self.ports;
        carbon.wait_ready(READY_DEADLINE, |_| {
            [ports.plaintext, ports.pickle, ports.query].into_iter().all(listens)
        });
        self.carbon = Some(carbon);
    }

    /// What carbon has logged, for messages and for tests of what it refuses.
    pub(crate) fn carbon_log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log/carbon.out")).unwrap_or_default()
    }

    /// The series that `target` (a path, a pattern or a function) names, with their points after `from` and
    /// up to `until`, in Unix seconds. An unknown target gives none.
    pub(crate) fn render(&self, target: &str, from: i64, until: i64) -> Vec<Rendered> {
        self.render_all(&[target.to_owned()], from, until)
    }

    /// The same for many targets in one request.
    pub(crate) fn render_all(&self, targets: &[String], from: i64, until: i64) -> Vec<Rendered> {
        let mut form = format!("format=json&noCache=1&from={from}&until={until}");
        for target in targets {
            form.push_str("&target=");
            form.push_str(&http::encode(target));
        }
        // graphite-web answers 500 when it meets a file that carbon is just creating.
        let mut reply = None;
        time::wait_until(RENDER_DEADLINE, || {
            let answer = http::post_form(self.ports.web, "/render", &form).expect("graphite-web answers");
            let settled = answer.status != 500;
            reply = Some(answer);
            settled
        });
        let reply = reply.expect("at least one request was made");
        assert_eq!(reply.status, 200, "/render: {}", reply.body);
        read_series(&reply.body)
    }

    /// How each file was made and what its archives add up to, as `tests/tools/whisper_read.py` says it.
    pub(crate) fn whisper_files(&self) -> serde_json::Value {
        let script = super::repository("tests/tools/whisper_read.py");
        let output = Command::new(PYTHON).arg(script).arg(self.dir.path().join("storage/whisper")).output();
        let output = output.expect("Python starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// What stands in the files whose path (`stats.counters.…`) begins with `prefix`, in `(from, until]`: values by
    /// path and timestamp.
    pub(crate) fn written(&self, prefix: &str, from: i64, until: i64) -> BTreeMap<(String, i64), f64> {
        let script = super::repository("tests/tools/whisper_points.py");
        let root = self.dir.path().join("storage/whisper");
        let mut command = Command::new(PYTHON);
        command.arg(script).arg(root).arg(prefix).args([from.to_string(), until.to_string()]);
        let output = command.output().expect("Python starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("paths are UTF-8");
        let point = |line: &str| {
            let mut fields = line.split(' ');
            let mut next = || fields.next().expect("path, timestamp and value");
            let path = next().to_owned();
            ((path, next().parse().expect("a timestamp")), next().parse().expect("a value"))
        };
        text.lines().map(point).collect()
    }

    /// carbon's directory of configuration.
    pub(crate) fn conf(&self) -> PathBuf {
        self.dir.path().join("conf")
    }

    /// Where graphite-web answers.
    pub(crate) fn web_port(&self) -> u16 {
        self.ports.web
    }

    /// All untagged paths that have a file.
    pub(crate) fn untagged_paths(&self) -> Vec<String> {
        let whisper = self.dir.path().join("storage/whisper");
        let mut paths = Vec::new();
        collect_paths(&whisper, "", &mut paths);
        paths.sort();
        paths
    }
}

/// `[{"target": …, "datapoints": [[value or null, timestamp], …]}, …]`
fn read_series(json: &str) -> Vec<Rendered> {
    let parsed: serde_json::Value = serde_json::from_str(json).expect("/render answers JSON");
    let point = |point: &serde_json::Value| (point[0].as_f64(), point[1].as_i64().expect("a timestamp"));
    let series = |series: &serde_json::Value| {
        let name = series["target"].as_str().expect("a name").to_owned();
        (name, series["datapoints"].as_array().expect("points").iter().map(point).collect())
    };
    parsed.as_array().expect("a list of series").iter().map(series).collect()
}

fn collect_paths(directory: &Path, prefix: &str, paths: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).expect("whisper's directory can be read") {
        let path = entry.expect("whisper's directory can be read").path();
        let stem = path.file_stem().expect("a name").to_string_lossy().into_owned();
        if !path.is_dir() {
            paths.push(format!("{prefix}{stem}"));
        } else if stem != "_tagged" {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            collect_paths(&path, &format!("{prefix}{name}."), paths);
        }
    }
}

fn listens(port: u16) -> bool {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn start_carbon(dir: &Path) -> Process {
    let mut command = Command::new(PYTHON);
    command
        .arg(CARBON_CACHE)
        .arg(format!("--config={}", dir.join("conf/carbon.conf").display()))
        // A crash leaves this file behind, and the next process may have got the same number.
        .arg(format!("--pidfile={}", dir.join("run").join(free_port().to_string()).display()))
        .args(["--nodaemon", "start"]);
    Process::start("carbon", &command, &dir.join("log"))
}

fn start_web(dir: &Path, ports: Ports) -> Process {
    let mut command = graphite_python(dir);
    let bind = format!("127.0.0.1:{}", ports.web);
    command.args([GUNICORN, "-b", &bind, "-w", "2", "graphite.wsgi:application"]);
    Process::start("graphite-web", &command, &dir.join("log"))
}

fn create_tag_database(dir: &Path) {
    let output = graphite_python(dir).args([GRAPHITE_MANAGE, "migrate", "--run-syncdb"]).output();
    let output = output.expect("Python starts");
    assert!(output.status.success(), "migrate: {}", String::from_utf8_lossy(&output.stderr));
}

/// Debian's Python with Graphite's settings, and without those of a Python that the shell may have active.
fn graphite_python(dir: &Path) -> Command {
    let mut command = Command::new(PYTHON);
    command
        .env_remove("PYTHONHOME")
        .env("PYTHONPATH", dir.join("conf"))
        .env("GRAPHITE_SETTINGS_MODULE", "local_settings")
        .env("DJANGO_SETTINGS_MODULE", "graphite.settings")
        .current_dir(dir);
    command
}

fn write_rules(dir: &Path, schemas: &str, aggregation: &str) {
    for (name, text) in [("storage-schemas.conf", schemas), ("storage-aggregation.conf", aggregation)] {
        std::fs::write(dir.join("conf").join(name), text).expect("a configuration file is written");
    }
}

fn write_configuration(dir: &Path, ports: Ports, limits: &Limits) {
    for name in ["conf", "run", "log", "storage/whisper", "storage/index"] {
        std::fs::create_dir_all(dir.join(name)).expect("a directory is made");
    }
    let write = |name: &str, text: String| {
        let path: PathBuf = dir.join("conf").join(name);
        std::fs::write(path, text).expect("a configuration file is written");
    };
    write("carbon.conf", carbon_conf(dir, ports, limits));
    write("local_settings.py", local_settings(dir, ports));
}

fn carbon_conf(dir: &Path, ports: Ports, limits: &Limits) -> String {
    let Limits { creates, updates } = limits;
    let Ports { plaintext, pickle, query, web } = ports;
    let dir = dir.display();
    format!(
        "[cache]
STORAGE_DIR = {dir}/storage/
LOCAL_DATA_DIR = {dir}/storage/whisper/
CONF_DIR = {dir}/conf/
LOG_DIR = {dir}/log/
PID_DIR = {dir}/run/
USER =
DATABASE = whisper
MAX_CACHE_SIZE = inf
MAX_UPDATES_PER_SECOND = {updates}
MAX_CREATES_PER_MINUTE = {creates}
WHISPER_SPARSE_CREATE = True
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = {plaintext}
PICKLE_RECEIVER_INTERFACE = 127.0.0.1
PICKLE_RECEIVER_PORT = {pickle}
CACHE_QUERY_INTERFACE = 127.0.0.1
CACHE_QUERY_PORT = {query}
ENABLE_UDP_LISTENER = False
ENABLE_LOGROTATION = False
ENABLE_TAGS = True
TAG_HASH_FILENAMES = False
GRAPHITE_URL = http://127.0.0.1:{web}
CARBON_METRIC_INTERVAL = 0
LOG_UPDATES = False
LOG_CREATES = False
LOG_CACHE_HITS = False
"
    )
}

/// The tag database does without fsync and lets readers pass writers: carbon gives up on a post after 5 s and
/// then leaves its whole batch of series without tags.
fn local_settings(dir: &Path, ports: Ports) -> String {
    let query = ports.query;
    let dir = dir.display();
    format!(
        "from django.db.backends.signals import connection_created
def relax(connection, **_):
    connection.cursor().execute('PRAGMA journal_mode = WAL')
    connection.cursor().execute('PRAGMA synchronous = OFF')
connection_created.connect(relax, weak=False)
SECRET_KEY = 'only for tests on loopback'
ALLOWED_HOSTS = ['*']
TIME_ZONE = 'UTC'
CONF_DIR = '{dir}/conf'
STORAGE_DIR = '{dir}/storage'
WHISPER_DIR = '{dir}/storage/whisper'
STANDARD_DIRS = ['{dir}/storage/whisper']
LOG_DIR = '{dir}/log'
INDEX_FILE = '{dir}/storage/index/index'
CARBONLINK_HOSTS = ['127.0.0.1:{query}']
CLUSTER_SERVERS = []
MEMCACHE_HOSTS = []
DATABASES = {{'default': {{'ENGINE': 'django.db.backends.sqlite3', 'NAME': '{dir}/storage/graphite.db',
    'OPTIONS': {{'timeout': 60}}}}}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::Shutdown;

    fn send(address: &str, bytes: &[u8]) {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "carbon closes after the half-close");
    }

    #[test]
    fn a_point_can_be_read_back_by_path_by_tag_and_after_a_restart() {
        let mut graphite = Graphite::start("1s:1h");
        let at = time::unix_secs() - 5;
        send(
            &graphite.plaintext_addr(),
            format!("shop.orders 3 {at}\nshop.tagged;b=2;a=1 4 {at}\n").as_bytes(),
        );
        let pickled = format!("(l(S'shop.pickled'\n(L{at}L\nS'5'\ntta.");
        let mut frame = (pickled.len() as u32).to_be_bytes().to_vec();
        frame.extend_from_slice(pickled.as_bytes());
        send(&graphite.pickle_addr(), &frame);

        let value = |graphite: &Graphite, target: &str| {
            let series = graphite.render(target, at - 1, at);
            series.first().and_then(|(_, points)| points.first().copied())
        };
        let tagged = "seriesByTag('name=shop.tagged','a=1')";
        for (target, wanted) in
            [("shop.orders", 3.0), ("shop.tagged;a=1;b=2", 4.0), (tagged, 4.0), ("shop.pickled", 5.0)]
        {
            let found = || value(&graphite, target) == Some((Some(wanted), at));
            assert!(time::wait_until(Duration::from_secs(20), found), "{target}{}", graphite.carbon_log());
        }
        assert_eq!(graphite.untagged_paths(), ["shop.orders", "shop.pickled"]);
        assert_eq!(graphite.render("shop.unknown", at - 1, at), []);

        graphite.stop();
        TcpStream::connect(graphite.plaintext_addr()).unwrap_err();
        graphite.start_again();
        assert_eq!(value(&graphite, "shop.orders"), Some((Some(3.0), at)));
    }
}
