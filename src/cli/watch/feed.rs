//! The page's state as it comes, over a connection that is never trusted.
//!
//! The rules are those of the page itself (dashboards/live/stream.js): whatever goes wrong makes a new stream, later
//! each time; while the stream is silent the whole state is asked for by plain requests, and the first answer calls
//! the stream back at once. Whether what is shown is late or stale is the viewer's judgement, by its own clock.

use super::events::Events;
use crate::clock::{self, Clock, WallMs};
use crate::fetch::{self, Answer, Ask, FetchError, Target};
use serde_json::{Map, Value};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Behind for so long, what is shown is late.
pub(super) const LATE: Duration = Duration::from_secs(3);
/// Behind for so long, it is stale.
pub(super) const STALE: Duration = Duration::from_secs(15);
/// The stream says something every second; silent for so long, the state is asked for.
const SILENT: Duration = Duration::from_secs(4);
/// Pause between two such questions.
const ASK: Duration = Duration::from_millis(3_500);
/// An attempt that has brought nothing by then is given up.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Pause before another stream from a server that answers.
const AGAIN: Duration = Duration::from_millis(200);
/// Pauses before attempts, the last one again and again.
const PAUSES: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
    Duration::from_secs(30),
];
/// Largest state that is read, in bytes.
const STATE_BYTES_MAX: usize = 4 << 20;

/// Whom to ask, and for what.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) target: Target,
    pub(super) page: String,
    pub(super) token: Option<String>,
}

impl Source {
    fn path(&self, of: &str) -> String {
        format!("/api/v1/{of}?page={}", encoded(&self.page))
    }

    async fn get(&self, of: &str, patience: Duration) -> Result<Answer, Trouble> {
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer.iter().map(|bearer| ("authorization", bearer.as_str())).collect();
        let path = self.path(of);
        let ask = Ask { method: "GET", path: &path, headers: &headers, body: &[], patience };
        let answer = fetch::ask(&self.target, ask).await?;
        match answer.code() {
            200 => Ok(answer),
            code => Err(Trouble::Refused(code)),
        }
    }

    /// The whole state, by a plain request.
    pub(super) async fn state(&self, patience: Duration) -> Result<Value, Trouble> {
        let body = self.get("live.json", patience).await?.whole(STATE_BYTES_MAX, patience).await?;
        let state: Value = serde_json::from_slice(&body).map_err(|_| Trouble::NotAState)?;
        if state.get("figures").is_some_and(Value::is_array) { Ok(state) } else { Err(Trouble::NotAState) }
    }
}

/// Why there is no state.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("{}", refused(*.0))]
    Refused(u16),
    #[error("what answers is no tallyd, or one of another version")]
    NotAState,
    #[error("the stream ended")]
    Ended,
    #[error("the stream is silent")]
    Silent,
}

fn refused(code: u16) -> String {
    match code {
        401 | 403 => format!("it answers {code}: a token is needed (--token-file FILE)"),
        404 => "it answers 404: there is no such page".to_owned(),
        421 => "it answers 421: it is not served under this name; see http.listen".to_owned(),
        code => format!("it answers {code}"),
    }
}

/// What the viewer sees of the feed.
#[derive(Clone, Debug)]
pub(super) struct View {
    /// The newest state.
    pub(super) state: Option<Arc<Value>>,
    /// Grows with each state.
    pub(super) count: u64,
    heard: Instant,
    heard_wall: WallMs,
    /// When the stream is tried again; `None` while it is tried or stands.
    pub(super) retry: Option<Instant>,
    /// What went wrong last.
    pub(super) trouble: Option<String>,
    /// There was a sign of life since the start.
    pub(super) met: bool,
}

impl View {
    /// For how long there was no sign of life. Wall time goes on while a machine sleeps and monotonic time is not
    /// set back: the longer of both is true.
    pub(super) fn age(&self, now: WallMs) -> Duration {
        let wall = Duration::from_millis((now - self.heard_wall).max(0).unsigned_abs());
        wall.max(clock::elapsed(self.heard))
    }

    /// When the last sign of life came.
    pub(super) fn heard_at(&self) -> WallMs {
        self.heard_wall
    }
}

/// The feed at work, on a thread of its own.
pub(super) struct Feed {
    view: Arc<Mutex<View>>,
    // Ends with it.
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A look-up of a name may be under way, which knows no limit.
            runtime.shutdown_background();
        }
    }
}

impl Feed {
    /// Starts to follow.
    pub(super) fn start(source: Source, clock: &Clock) -> std::io::Result<Self> {
        let view = Arc::new(Mutex::new(View {
            state: None,
            count: 0,
            heard: clock::monotonic_now(),
            heard_wall: clock.now(),
            retry: None,
            trouble: None,
            met: false,
        }));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("feed")
            .enable_all()
            .build()?;
        let follower = Follower { source, clock: clock.clone(), view: Arc::clone(&view), failures: 0 };
        runtime.spawn(follower.run());
        Ok(Self { view, runtime: Some(runtime) })
    }

    /// What there is now.
    pub(super) fn view(&self) -> View {
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

struct Follower {
    source: Source,
    clock: Clock,
    view: Arc<Mutex<View>>,
    failures: usize,
}

impl Follower {
    async fn run(mut self) {
        loop {
            let trouble = self.follow().await;
            match trouble {
                // Who answers is there: another stream at once, though not in a tight loop.
                Trouble::Silent => tokio::time::sleep(AGAIN).await,
                trouble => self.pause(&trouble).await,
            }
        }
    }

    /// One stream, from its beginning until it is given up.
    async fn follow(&mut self) -> Trouble {
        self.change(|view| view.retry = None);
        let mut answer = match self.source.get("live", ATTEMPT).await {
            Ok(answer) => answer,
            Err(trouble) => return trouble,
        };
        let mut events = Events::default();
        let began = clock::monotonic_now();
        loop {
            match timeout(SILENT, answer.piece()).await {
                Ok(Ok(Some(piece))) => {
                    for (name, data) in events.take(&piece) {
                        if let Err(trouble) = self.event(&name, &data) {
                            return trouble;
                        }
                    }
                }
                Ok(Ok(None)) => return Trouble::Ended,
                Ok(Err(error)) => return error.into(),
                Err(_) => {
                    // It stands and is silent: who answers has a better one for us.
                    if self.ask().await {
                        return Trouble::Silent;
                    }
                    let waited = clock::elapsed(began);
                    if waited > STALE && self.age() > STALE {
                        return Trouble::Ended;
                    }
                }
            }
        }
    }

    fn event(&mut self, name: &str, data: &str) -> Result<(), Trouble> {
        let message: Value = serde_json::from_str(data).map_err(|_| Trouble::NotAState)?;
        match name {
            "state" => self.whole(message),
            "change" => {
                let known = self.change(|view| view.state.clone());
                let Some(state) = known.and_then(|known| changed(&known, message)) else {
                    // It was made against another state than ours.
                    return Err(Trouble::Silent);
                };
                self.whole(state);
            }
            _ => {}
        }
        self.failures = 0;
        self.alive();
        Ok(())
    }

    /// Waits before the next attempt, and asks by plain requests meanwhile.
    async fn pause(&mut self, trouble: &Trouble) {
        let pause = PAUSES.get(self.failures).or(PAUSES.last()).copied().unwrap_or(SILENT);
        self.failures += 1;
        let until = clock::monotonic_now() + pause.mul_f64(0.75 + fastrand::f64() / 2.0);
        self.change(|view| {
            view.retry = Some(until);
            view.trouble = Some(trouble.to_string());
        });
        loop {
            let left = until.saturating_duration_since(clock::monotonic_now());
            let quiet = SILENT.saturating_sub(self.age());
            if left <= quiet {
                tokio::time::sleep(left).await;
                return;
            }
            tokio::time::sleep(quiet).await;
            if self.ask().await {
                self.failures = self.failures.min(2);
                return;
            }
            let left = until.saturating_duration_since(clock::monotonic_now());
            tokio::time::sleep(left.min(ASK)).await;
            if left <= ASK {
                return;
            }
        }
    }

    /// Asks for the whole state; whether it came.
    async fn ask(&mut self) -> bool {
        match self.source.state(SILENT).await {
            Ok(state) => {
                self.whole(state);
                self.alive();
                true
            }
            Err(trouble) => {
                self.change(|view| view.trouble = Some(trouble.to_string()));
                false
            }
        }
    }

    fn whole(&self, state: Value) {
        self.change(|view| {
            view.state = Some(Arc::new(state));
            view.count += 1;
        });
    }

    fn alive(&self) {
        let now = self.clock.now();
        self.change(|view| {
            view.heard = clock::monotonic_now();
            view.heard_wall = now;
            view.retry = None;
            view.trouble = None;
            view.met = true;
        });
    }

    fn age(&self) -> Duration {
        let now = self.clock.now();
        self.change(|view| view.age(now))
    }

    fn change<T>(&self, change: impl FnOnce(&mut View) -> T) -> T {
        change(&mut self.view.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A state with a change made to it: figures come one by one, everything else as it is. `None` where the change was
/// made against another state.
fn changed(state: &Value, change: Value) -> Option<Value> {
    let (mut state, Value::Object(mut change)) = (state.as_object()?.clone(), change) else {
        return None;
    };
    if change.remove("since")? != *state.get("version")? {
        return None;
    }
    let (figures, order) = (change.remove("figures"), change.remove("order"));
    let id = |figure: &Value| figure.get("id").cloned();
    let known: Vec<Value> = state.get("figures")?.as_array()?.clone();
    let news: Vec<Value> = figures.and_then(|figures| figures.as_array().cloned()).unwrap_or_default();
    let order: Vec<Option<Value>> = match order.as_ref().and_then(Value::as_array) {
        Some(order) => order.iter().cloned().map(Some).collect(),
        None => known.iter().map(id).collect(),
    };
    let newest =
        |wanted: &Option<Value>| news.iter().chain(&known).find(|figure| id(figure) == *wanted).cloned();
    let figures = order.iter().filter_map(newest).collect();
    state.append(&mut Map::from_iter(change));
    state.insert("figures".to_owned(), Value::Array(figures));
    Some(Value::Object(state))
}

/// Letters, digits and `-_.~/` as they are, everything else as `%20`.
fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_is_made_to_the_state_it_was_made_against() {
        let state =
            json!({"version": 4, "clock": "14:05", "figures": [{"id": "a", "n": 1}, {"id": "b", "n": 1}]});
        let change = json!({"since": 4, "version": 6, "clock": "14:06", "figures": [{"id": "b", "n": 2}]});
        let next = changed(&state, change).unwrap();
        let expected =
            json!({"version": 6, "clock": "14:06", "figures": [{"id": "a", "n": 1}, {"id": "b", "n": 2}]});
        assert_eq!(next, expected);
        let order = json!({"since": 6, "version": 7, "order": ["c", "a"], "figures": [{"id": "c", "n": 3}]});
        let figures = json!([{"id": "c", "n": 3}, {"id": "a", "n": 1}]);
        assert_eq!(changed(&next, order).unwrap()["figures"], figures);
        assert_eq!(changed(&next, json!({"since": 5, "version": 8})), None, "another state");
        assert_eq!(changed(&next, json!("x")), None);
    }

    #[test]
    fn pages_are_encoded() {
        assert_eq!(encoded("/live/a b&c"), "/live/a%20b%26c");
    }
}
