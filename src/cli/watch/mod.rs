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
use feed::{Feed, Source};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
use page::Page;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use standing::Standing;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use terminal::Screen;

/// Pause between two looks at keys, signals and the feed.
const LOOK_MS: u16 = 100;
const LOOK: Duration = Duration::from_millis(LOOK_MS as u64);
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

/// What was typed within a moment. A terminal that is gone is an error: it is readable for ever and has nothing to say.
fn next_key() -> std::io::Result<Option<Key>> {
    let mut stdin = std::io::stdin().lock();
    let mut wanted = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    let [wait] = &mut wanted;
    match poll(std::slice::from_mut(wait), LOOK_MS) {
        // A signal: whoever called looks what it says.
        Ok(0) | Err(Errno::EINTR) => return Ok(None),
        Ok(_) => {}
        Err(error) => return Err(error.into()),
    }
    let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
    if wait.revents().is_none_or(|events| events.intersects(gone)) {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let typed = stdin.fill_buf()?;
    let (key, count) = (key(typed), typed.len());
    stdin.consume(count);
    if count == 0 {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(key)
}

/// The key of what a terminal sends. An escape by itself is the key; with something behind it, it is another one.
fn key(typed: &[u8]) -> Option<Key> {
    const ESCAPE: u8 = 0x1b;
    if typed.len() > 1 && typed.first() == Some(&ESCAPE) {
        return None;
    }
    typed.iter().find_map(|byte| match byte {
        // Control with c and with d.
        b'q' | 0x03 | 0x04 | &ESCAPE => Some(Key::Quit),
        b'\t' | b'n' => Some(Key::NextPage),
        _ => None,
    })
}

/// The page after this one.
fn next_page(page: &Page) -> Option<String> {
    let at = page.pages.iter().position(|name| name.path == page.name.path)?;
    let next = page.pages.get(at + 1).or(page.pages.first())?;
    (next.path != page.name.path).then(|| next.path.to_string())
}
