//! `tallyd doctor`: a machine on which nothing is wrong, made by the test, and then each finding provoked on it.
//!
//! The machine is a directory of files that stand for the kernel's and carbon's (`--root`, `--carbon`), a library
//! that makes the system's calls ail (`tests/tools/ailing.c`), a pretended Graphite, and servers that answer in
//! place of graphite-web and of a tallyd in trouble. Each case must bring the one finding it is about, with its
//! words, and the exit code 1.

mod afar;
mod here;

use crate::support::{Sink, free_port, library};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use tempfile::TempDir;

/// The library that makes calls ail, built once.
fn ailing() -> &'static Path {
    static BUILT: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, library) = BUILT.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let library = library("ailing.c", dir.path());
        (dir, library)
    });
    library
}

/// A machine, with what the doctor is told of it.
struct Machine {
    dir: TempDir,
    graphite: Sink,
    /// Where its files are; `None` is where the machine's own are.
    root: Option<PathBuf>,
    /// What is said of carbon's.
    carbon: Option<PathBuf>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Machine {
    /// Nothing is wrong with it.
    fn sound() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let machine = Self {
            root: Some(dir.path().join("root")),
            carbon: Some(dir.path().join("carbon")),
            dir,
            graphite: Sink::start(),
            arguments: Vec::new(),
            environment: Vec::new(),
        };
        machine.write("root/proc/sys/net/core/rmem_max", "16777216\n");
        machine.write("root/proc/sys/net/ipv4/udp_mem", "1000000\t1500000\t2000000\n");
        machine
            .write("root/proc/net/softnet_stat", "000000ff 00000000 00000000\n0000000a 00000000 00000001\n");
        machine.write("root/proc/meminfo", "MemTotal:        8000000 kB\nMemFree:           10000 kB\n");
        machine.write("root/proc/self/mountinfo", "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n");
        let port = machine.graphite.port();
        machine.write(
            "carbon/carbon.conf",
            &format!("[cache]\nMAX_CREATES_PER_MINUTE = inf\nLINE_RECEIVER_PORT = {port}\n"),
        );
        machine.write(
            "tallyd.toml",
            &format!(
                "[ingest]\nudp = [\"127.0.0.1:{}\"]\n[http]\nlisten = \"127.0.0.1:{}\"\n[console]\nlisten = \"127.0.0.1:{}\"\n\
                 [graphite]\naddress = [\"127.0.0.1:{port}\"]\n[store]\nurl = \"file:{}\"\n",
                free_port(),
                free_port(),
                free_port(),
                machine.path("store").display()
            ),
        );
        for part in ["schemas", "aggregation"] {
            let rules = machine.run(&["graphite-rules", "--only", part]);
            machine.write(&format!("carbon/storage-{part}.conf"), &text(&rules));
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// With more arguments.
    fn with(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// With a key of the configuration set otherwise.
    fn set(self, setting: &str) -> Self {
        self.with(&["--set", setting])
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    fn file(self, name: &str, text: &str) -> Self {
        self.write(name, text);
        self
    }

    /// tallyd with this machine's configuration; it sees the machine as it ails.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallyd"));
        let (name, rest) = arguments.split_first().unwrap();
        command
            .arg(name)
            .arg("--config")
            .arg(self.path("tallyd.toml"))
            .args(rest)
            .current_dir(self.dir.path());
        let ours = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("TALLYD_"));
        for (name, _) in ours {
            command.env_remove(name);
        }
        command.env("LD_PRELOAD", ailing());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("tallyd starts")
    }

    fn doctor(&self) -> Output {
        let mut arguments = vec!["doctor"];
        for (name, path) in [("--root", &self.root), ("--carbon", &self.carbon)] {
            arguments.extend(path.iter().flat_map(|path| [name, path.to_str().unwrap()]));
        }
        arguments.extend(self.arguments.iter().map(String::as_str));
        self.run(&arguments)
    }

    /// Nothing is wrong; the report.
    fn is_sound(&self) -> String {
        let output = self.doctor();
        let report = text(&output);
        assert!(output.status.success() && report.ends_with("nothing is wrong\n"), "{report}");
        report
    }

    /// What is wrong, each with its cure; the exit code says so.
    fn findings(&self) -> Vec<String> {
        let output = self.doctor();
        let report = text(&output);
        let findings: Vec<String> = report
            .split("  FINDING  ")
            .skip(1)
            .map(|part| part.lines().take(2).collect::<Vec<_>>().join("\n"))
            .collect();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{report}{errors}");
        for finding in &findings {
            assert!(finding.contains("\n           do: "), "without a cure: {finding}");
        }
        findings
    }

    /// Just one thing is wrong, in words that hold all of these.
    fn ails(&self, words: &[&str]) {
        let findings = self.findings();
        assert_eq!(findings.len(), 1, "{findings:#?}");
        self.ails_among_others(words);
    }

    /// Among what is wrong is this.
    fn ails_among_others(&self, words: &[&str]) {
        let findings = self.findings();
        let found = findings.iter().any(|finding| words.iter().all(|word| finding.contains(word)));
        assert!(found, "{words:?} is not in {findings:#?}");
    }
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A server that gives one answer to everything, with a date or without; it ends when it is dropped.
struct Answering {
    port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Answering {
    fn start(head: &str, body: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, reply) = (Arc::clone(&stop), format!("HTTP/1.1 {head}\r\n\r\n{body}"));
        let serve = move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let mut stream = stream.unwrap();
                let mut request = [0; 4_096];
                // Whoever only connects to see whether somebody listens is not answered.
                if matches!(stream.read(&mut request), Ok(1..)) {
                    stream.write_all(reply.as_bytes()).ok();
                }
            }
        };
        Self { port, stop, thread: Some(std::thread::spawn(serve)) }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok();
        self.thread.take().unwrap().join().ok();
    }
}

#[test]
fn on_a_sound_machine_nothing_is_wrong_and_nothing_is_left_behind() {
    let machine = Machine::sound();
    let before = count(machine.dir.path());
    let report = machine.is_sound();
    for check in ["configuration\n", "machine\n", "ports\n", "clock\n", "store\n", "graphite\n", "carbon\n"] {
        assert!(report.contains(check), "{report}");
    }
    assert_eq!(count(machine.dir.path()), before);
    assert!(machine.graphite.points().is_empty());
}

fn count(dir: &Path) -> usize {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| if path.is_dir() { count(&path) } else { 1 })
        .sum()
}

#[test]
fn a_configuration_with_mistakes_is_named_and_not_examined() {
    let output = Machine::sound().set("flush.bucket=never").doctor();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--set flush.bucket"));
    assert!(output.stdout.is_empty());
}
