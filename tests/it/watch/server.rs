//! A server that streams one state as tallyd does, and misbehaves when told.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What it does with requests and with streams that stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mood {
    /// The state, then a beat four times a second.
    Well,
    /// Connections stand and nothing comes, as over a half-open one.
    Silent,
    /// Like a proxy whose server is gone: 502, and streams end.
    BadGateway,
    /// 401.
    Stranger,
    /// Streams are refused, and plain requests are answered.
    NoStreams,
}

/// See the module.
pub(crate) struct Server {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    mood: AtomicU8,
    state: Mutex<String>,
    streams: AtomicUsize,
    stop: AtomicU8,
}

impl Server {
    /// Serves a state on a free port, from now on.
    pub(crate) fn start(state: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            mood: AtomicU8::new(Mood::Well as u8),
            state: Mutex::new(state.to_owned()),
            streams: AtomicUsize::new(0),
            stop: AtomicU8::new(0),
        });
        let ours = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ours.stop.load(Ordering::SeqCst) != 0 {
                    return;
                }
                let shared = Arc::clone(&ours);
                std::thread::spawn(move || shared.answer(stream));
            }
        });
        Self { port, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) fn be(&self, mood: Mood) {
        self.shared.mood.store(mood as u8, Ordering::SeqCst);
    }

    pub(crate) fn show(&self, state: &str) {
        state.clone_into(&mut self.shared.state.lock().unwrap());
    }

    /// How many streams were opened.
    pub(crate) fn streams(&self) -> usize {
        self.shared.streams.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stop.store(1, Ordering::SeqCst);
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok();
    }
}

impl Shared {
    fn is(&self, mood: Mood) -> bool {
        self.mood.load(Ordering::SeqCst) == mood as u8
    }

    fn state(&self) -> String {
        self.state.lock().unwrap().clone()
    }

    /// One request; what fails ends with its connection.
    fn answer(&self, mut stream: TcpStream) -> Option<()> {
        let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
        let request = lines.next()?.ok()?;
        while !lines.next()?.ok()?.is_empty() {}
        while self.is(Mood::Silent) {
            self.wait()?;
        }
        let short = |stream: &mut TcpStream, status: &str, body: &str| {
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close", body.len());
            stream.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).ok()
        };
        if self.is(Mood::BadGateway) {
            return short(&mut stream, "502 Bad Gateway", "gone");
        }
        if self.is(Mood::Stranger) {
            return short(&mut stream, "401 Unauthorized", "who?");
        }
        if request.starts_with("GET /api/v1/live.json?page=/ ") {
            return short(&mut stream, "200 OK", &self.state());
        }
        if !request.starts_with("GET /api/v1/live?page=/ ") || self.is(Mood::NoStreams) {
            return short(&mut stream, "404 Not Found", "nothing here");
        }
        self.stream(stream)
    }

    fn stream(&self, mut stream: TcpStream) -> Option<()> {
        self.streams.fetch_add(1, Ordering::SeqCst);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").ok()?;
        let mut shown = String::new();
        loop {
            if self.is(Mood::BadGateway) {
                return None;
            }
            if !self.is(Mood::Silent) {
                let state = self.state();
                if state != shown {
                    stream.write_all(format!("event: state\ndata: {state}\n\n").as_bytes()).ok()?;
                    shown = state;
                }
                stream.write_all(b"event: beat\ndata: {\"at_ms\":0}\n\n").ok()?;
            }
            self.wait()?;
        }
    }

    fn wait(&self) -> Option<()> {
        std::thread::sleep(Duration::from_millis(250));
        (self.stop.load(Ordering::SeqCst) == 0).then_some(())
    }
}
