//! A webhook: an HTTP server that keeps what it takes, and fails when it is told to.

use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// A message that was taken.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) key: String,
    pub(crate) path: String,
    pub(crate) body: Value,
}

impl Taken {
    pub(crate) fn text(&self) -> &str {
        self.body["text"].as_str().unwrap()
    }
}

#[derive(Default)]
struct Shared {
    taken: Mutex<Vec<Taken>>,
    status: Mutex<&'static str>,
    asked: AtomicUsize,
    stop: AtomicBool,
}

/// See the module.
pub(crate) struct Receiver {
    port: u16,
    shared: Arc<Shared>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared { status: Mutex::new("200 OK"), ..Shared::default() });
        let ours = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ours.stop.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&ours);
                // What fails ends with its connection.
                std::thread::spawn(move || shared.answer(stream));
            }
        });
        Self { port, shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/services/secret", self.port)
    }

    /// Answers with this from now on; what is not 200 is not taken.
    pub(crate) fn answer(&self, status: &'static str) {
        *self.shared.status.lock().unwrap() = status;
    }

    pub(crate) fn taken(&self) -> Vec<Taken> {
        self.shared.taken.lock().unwrap().clone()
    }

    /// What was taken after the first so many.
    pub(crate) fn taken_after(&self, count: usize) -> Vec<Taken> {
        self.shared.taken.lock().unwrap()[count..].to_vec()
    }

    /// How often it was asked, whether it took anything or not.
    pub(crate) fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok();
    }
}

impl Shared {
    fn answer(&self, mut stream: TcpStream) -> Option<()> {
        let mut reader = BufReader::new(stream.try_clone().ok()?);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let path = line.split(' ').nth(1)?.to_owned();
        let (mut length, mut key) = (0, String::new());
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            match name {
                "content-length" => length = value.parse().ok()?,
                "idempotency-key" => value.clone_into(&mut key),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let status = *self.status.lock().unwrap();
        if status == "200 OK" {
            let body = serde_json::from_slice(&body).unwrap();
            self.taken.lock().unwrap().push(Taken { key, path, body });
        }
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 4\r\nConnection: close\r\n\r\nwell");
        stream.write_all(answer.as_bytes()).ok()
    }
}
