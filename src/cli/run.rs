//! `tallyd run`: start, wait for signals, reload, stop.
//!
//! SIGTERM and SIGINT drain; a second one ends at once. SIGHUP, or in statsd's dialect a change of the file,
//! reloads what can be reloaded and says what cannot.

use super::args::Configured;
use super::notify;
use crate::aggregate;
use crate::clock::Clock;
use crate::config::{self, Config, Loaded};
use crate::run::{self, Outcome, Service};
use crate::wire::Dialect;
use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, SystemTime};

/// Time between two looks at the file.
const WATCH: Duration = Duration::from_millis(500);

/// Something that happens to a running service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP, or the file changed.
    Reload,
}

/// Runs until it is told to stop.
pub fn run(arguments: &Configured) -> anyhow::Result<ExitCode> {
    // The token that commands show is not kept: a service knows hashes alone.
    let Loaded { config, warnings, .. } = load(arguments)?;
    let config = &config;
    init_log(config.debug);
    log_warnings(&warnings);
    let events = events()?;
    let service = run::start(config, &Clock::system()).context("tallyd cannot start")?;
    log_warnings(&service.warnings);
    announce(config, &service)?;
    if config.reload_on_change
        && let Some(path) = &arguments.config
    {
        watch(path, events.sender.clone());
    }
    let listening = service.addresses().ingest.join(", ");
    notify::ready(&listening);
    let patience = notify::watchdog();
    let mut running = config.clone();
    loop {
        match next(&events, patience) {
            Ok(Event::Reload) => {
                notify::reloading();
                reload(arguments, &service, &mut running);
                notify::ready(&listening);
            }
            Err(RecvTimeoutError::Timeout) if service.is_ticking() => notify::alive(),
            Err(RecvTimeoutError::Timeout) => {}
            Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => {
                notify::stopping();
                return Ok(exit_code(&service.stop()));
            }
        }
    }
}

/// The next event, or after a while that there was none.
fn next(events: &Events, patience: Option<Duration>) -> Result<Event, RecvTimeoutError> {
    match patience {
        Some(patience) => events.inbox.recv_timeout(patience),
        None => events.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}

/// The configuration, or all its mistakes.
pub fn load(arguments: &Configured) -> anyhow::Result<Loaded> {
    arguments.check_settings()?;
    config::load(arguments.config.as_deref(), arguments.environment()).map_err(|mut error| {
        for mistake in &mut error.mistakes {
            if let Some(key) = arguments.typed(&mistake.key) {
                mistake.key = format!("--set {key}");
            }
        }
        match &arguments.config {
            Some(path) => anyhow::anyhow!("{} cannot be used:\n{error}", path.display()),
            None => anyhow::anyhow!("the configuration cannot be used:\n{error}"),
        }
    })
}

/// Logs go to stderr; `RUST_LOG` chooses what.
pub fn init_log(debug: bool) {
    let level = if debug { "debug" } else { "info" };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(level));
    let colour = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // Fails only where a log was set up already, as in tests.
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .try_init()
        .ok();
}

fn log_warnings(warnings: &[String]) {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
}

/// statsd says `server is up` on stdout when it listens, and what starts it may wait for that.
fn announce(config: &Config, service: &Service) -> anyhow::Result<()> {
    let addresses = service.addresses();
    tracing::info!(
        lines = addresses.ingest.join(", "),
        http = addresses.http.map(tracing::field::display),
        console = addresses.console.map(tracing::field::display),
        graphite = config.graphite.addresses.join(", "),
        "listening"
    );
    tracing::info!("{}", service.store().promise());
    if config.graphite.addresses.is_empty() {
        tracing::warn!("no Graphite is configured: lines are counted and discarded (graphite.address)");
    }
    let word = if config.dialect == Dialect::Statsd { "server is up" } else { "tallyd is up" };
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{word}").and_then(|()| stdout.flush()).context("cannot write to stdout")
}

/// Signals as events.
pub struct Events {
    /// Where they arrive.
    pub inbox: Receiver<Event>,
    /// For more of them.
    pub sender: SyncSender<Event>,
}

/// Begins to listen for signals.
pub fn events() -> anyhow::Result<Events> {
    let (sender, inbox) = sync_channel(8);
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).context("cannot listen for signals")?;
    let out = sender.clone();
    let work = move || {
        let mut stopping = false;
        for signal in signals.forever() {
            let event = if signal == SIGHUP { Event::Reload } else { Event::Stop };
            if event == Event::Stop && std::mem::replace(&mut stopping, true) {
                // Asked twice: somebody is in a hurry.
                std::process::exit(130);
            }
            if out.send(event).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(work).context("cannot start a thread")?;
    Ok(Events { inbox, sender })
}

/// Looks at the file's time of change, as the original watches its file.
fn watch(path: &Path, events: SyncSender<Event>) {
    let path = path.to_owned();
    let changed =
        move || -> Option<SystemTime> { std::fs::metadata(&path).and_then(|meta| meta.modified()).ok() };
    let work = move || {
        let mut last = changed();
        loop {
            std::thread::sleep(WATCH);
            let now = changed();
            // Gone for a moment is how editors save.
            if now.is_some() && now != last {
                last = now;
                if events.send(Event::Reload).is_err() {
                    return;
                }
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("watch".to_owned()).spawn(work) {
        tracing::warn!(%error, "the configuration file is not watched; SIGHUP reloads it");
    }
}

fn reload(arguments: &Configured, service: &Service, running: &mut Config) {
    match load(arguments) {
        Ok(mut loaded) => {
            log_warnings(&loaded.warnings);
            let rest = needs_restart(running, &loaded.config);
            // Names are cleaned at ingest or here, and ingest goes on as it was started.
            loaded.config.expand.names_clean = running.expand.names_clean;
            service.reload(&loaded.config);
            if rest.is_empty() {
                tracing::info!("configuration reloaded");
            } else {
                tracing::warn!("configuration reloaded; these take a restart: {}", rest.join(", "));
            }
            running.idle = loaded.config.idle;
            running.expand = loaded.config.expand;
            running.http.tokens = loaded.config.http.tokens;
            running.http.token_files = loaded.config.http.token_files;
            running.http.links = loaded.config.http.links;
        }
        Err(error) => tracing::error!("the configuration is not reloaded, the old one stays:\n{error:#}"),
    }
}

/// The sections that changed and that a reload cannot take over.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    // Aggregation knows the bucket and the window too, which are the flush section's.
    let aggregate = aggregate::Options {
        bucket: old.aggregate.bucket,
        amend_window_ms: old.aggregate.amend_window_ms,
        ..new.aggregate.clone()
    };
    // The ladder stands on the bucket.
    let ladder = if old.flush == new.flush { &new.store.ladder } else { &old.store.ladder };
    let store = crate::store::Options { ladder: ladder.clone(), ..new.store.clone() };
    let (tokens, token_files) = (old.http.tokens.clone(), old.http.token_files.clone());
    let links = old.http.links.clone();
    let http = crate::serve::Options { tokens, token_files, links, ..new.http.clone() };
    let sections = [
        ("ingest", old.ingest != new.ingest),
        ("names, timers, sets or limits", old.aggregate != aggregate),
        ("flush", old.flush != new.flush),
        ("store, rollup or company", old.store != store || old.journal != new.journal),
        ("graphite's addresses, protocol and connection", old.graphite != new.graphite),
        ("http", old.http != http || old.tls.is_some() != new.tls.is_some()),
        ("console", old.console.listen != new.console.listen),
    ];
    sections.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
}

/// 0 when nothing is lost: all is delivered, or what is not is on disk.
pub fn exit_code(outcome: &Outcome) -> ExitCode {
    for (address, buckets) in &outcome.undelivered {
        if outcome.kept {
            tracing::warn!(
                address,
                buckets,
                "stopped with buckets that Graphite has not confirmed; the store keeps them"
            );
        } else {
            tracing::error!(
                address,
                buckets,
                "stopped with buckets that Graphite has not confirmed; they are lost"
            );
        }
    }
    match outcome.undelivered.is_empty() {
        true => tracing::info!("stopped; nothing is left undelivered"),
        false if outcome.kept => {}
        false => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}
