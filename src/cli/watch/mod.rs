//! `tallyd watch`: the page in a terminal, from the same stream, with the same figures, states and rules.
//!
//! `feed.rs` follows the stream, `page.rs` reads what it brings, `standing.rs` judges how live that is, `draw.rs`
//! and `lines.rs` draw it, `terminal.rs` gives the terminal back. For scripts there are one look (`--once`) and
//! JSON (`--json`).

mod draw;
mod events;
mod feed;
mod lines;
mod page;
mod plain;
mod standing;
pub mod terminal;

use super::args::Watch;
use crate::clock::Clock;
use crate::fetch::Target;
use anyhow::{Context as _, bail};
use crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use feed::{Feed, Source};
use page::Page;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use standing::Standing;
use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use terminal::Screen;

/// Pause between two looks at keys, signals and the feed.
const LOOK: Duration = Duration::from_millis(100);
/// One look waits for so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest token file in bytes.
const TOKEN_BYTES_MAX: u64 = 4_096;

/// Runs until somebody ends it; with `--once`, for one look.
pub fn watch(arguments: &Watch) -> anyhow::Result<ExitCode> {
    let source = source(arguments)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGQUIT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).context("no signals")?;
    }
    match (arguments.once, arguments.json) {
        (true, json) => once(&source, json),
        (false, true) => follow(source, &stop),
        (false, false) => show(source, &stop),
    }
}

fn source(arguments: &Watch) -> anyhow::Result<Source> {
    let target = Target::parse(&arguments.url)
        .map_err(|problem| anyhow::anyhow!("--url: {problem}; write http://127.0.0.1:8127"))?;
    let page = match arguments.page.as_str() {
        page if page.starts_with('/') => page.to_owned(),
        name => format!("/live/{name}"),
    };
    let token = arguments.token_file.as_ref().map(|path| -> anyhow::Result<String> {
        let mut text = String::new();
        let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        std::io::Read::read_to_string(&mut std::io::Read::take(file, TOKEN_BYTES_MAX), &mut text)?;
        Ok(text.trim().to_owned())
    });
    Ok(Source { target, page, token: token.transpose()? })
}

/// One look: the state as text or as JSON.
fn once(source: &Source, json: bool) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let state = runtime.block_on(source.state(PATIENCE));
    // A look-up of a name may still be under way, which knows no limit.
    runtime.shutdown_background();
    let state = state.with_context(|| format!("no figures from {}", source.target))?;
    if json {
        return say(&format!("{state}\n"));
    }
    let page = Page::read(&state).with_context(|| format!("no figures from {}", source.target))?;
    say(&plain::text(&page))
}

fn say(text: &str) -> anyhow::Result<ExitCode> {
    std::io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")?;
    Ok(ExitCode::SUCCESS)
}

/// A line of JSON for each new state, until somebody ends it or nobody reads on.
fn follow(source: Source, stop: &AtomicBool) -> anyhow::Result<ExitCode> {
    let feed = Feed::start(source, &Clock::system())?;
    let (mut count, mut told) = (0, None);
    while !stop.load(Ordering::Relaxed) {
        let view = feed.view();
        if view.count != count
            && let Some(state) = &view.state
        {
            count = view.count;
            match writeln!(std::io::stdout(), "{state}") {
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
                written => written.context("cannot write to stdout")?,
            }
        }
        if view.trouble != told {
            if let Some(trouble) = &view.trouble {
                // Where stderr is closed there is nobody to tell.
                writeln!(std::io::stderr(), "tallyd: {}", page::harmless(trouble)).ok();
            }
            told = view.trouble;
        }
        std::thread::sleep(LOOK);
    }
    Ok(ExitCode::SUCCESS)
}

/// The page in the terminal.
fn show(mut source: Source, stop: &AtomicBool) -> anyhow::Result<ExitCode> {
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!("watch wants a terminal; for scripts there are --once and --json");
    }
    let clock = Clock::system();
    let mut feed = Feed::start(source.clone(), &clock)?;
    let mut screen = Screen::take().context("the terminal cannot be used")?;
    let place = source.target.to_string();
    let (mut read, mut count) = (None, 0);
    while !stop.load(Ordering::Relaxed) {
        let view = feed.view();
        if view.count != count {
            count = view.count;
            read = view.state.as_deref().and_then(Page::read);
        }
        let standing = Standing::of(&view, clock.now());
        screen
            .terminal
            .draw(|frame| draw::draw(frame, read.as_ref(), &standing, &place))
            .context("the terminal is gone")?;
        match next_key().context("the terminal is gone")? {
            Some(Key::Quit) => break,
            Some(Key::NextPage) => {
                if let Some(page) = read.as_ref().and_then(next_page) {
                    source.page = page;
                    feed = Feed::start(source.clone(), &clock)?;
                    (read, count) = (None, 0);
                }
            }
            None => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

enum Key {
    Quit,
    NextPage,
}

/// What was typed within a moment.
fn next_key() -> std::io::Result<Option<Key>> {
    if !event::poll(LOOK)? {
        return Ok(None);
    }
    let Event::Key(key) = event::read()? else { return Ok(None) };
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    Ok(match key.code {
        _ if key.kind == KeyEventKind::Release => None,
        KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
        KeyCode::Char('c' | 'd') if control => Some(Key::Quit),
        KeyCode::Tab | KeyCode::Char('n') => Some(Key::NextPage),
        _ => None,
    })
}

/// The page after this one.
fn next_page(page: &Page) -> Option<String> {
    let at = page.pages.iter().position(|name| name.path == page.name.path)?;
    let next = page.pages.get(at + 1).or(page.pages.first())?;
    (next.path != page.name.path).then(|| next.path.to_string())
}
