//! `tallyd backup` and `tallyd restore`: a consistent copy of the store, and the way back.
//!
//! The store belongs to one process. While tallyd runs it is asked for the copy, and counting goes on; when it does
//! not run the file is copied here. A restore puts a copy in the store's place and keeps what was there.

use super::args::{Backup, Configured, Restore};
use super::ask::{ask, bearer, reachable};
use super::run::load;
use crate::clock::{Clock, WallMs};
use crate::config::{Config, Loaded};
use crate::run::{STORE_FILE, backup_path, open_stopped};
use crate::store::StoreUrl;
use crate::store::embedded::Disk;
use anyhow::{Context, bail};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// A copy of many gigabytes takes its time.
const PATIENCE: Duration = Duration::from_secs(600);

/// Makes a copy and says where it is.
pub fn backup(arguments: &Backup) -> anyhow::Result<ExitCode> {
    let loaded = load(&arguments.configured)?;
    let config = &loaded.config;
    let folder = folder(config)?;
    let made = if let Some(made) = asked(&loaded, &arguments.configured)? {
        made
    } else {
        let now = Clock::system().now();
        let made = backup_path(folder, now)?;
        open_stopped(config, now)?.backup(&made, now)?;
        made
    };
    let place = match &arguments.to {
        None => made,
        Some(to) => {
            if to.exists() {
                bail!("{} is there already; the copy is {}", to.display(), made.display());
            }
            // On another file system a rename is not possible, and a copy is what was asked for.
            fs::copy(&made, to)
                .with_context(|| format!("the copy {} is made, but not {}", made.display(), to.display()))?;
            fs::remove_file(&made).ok();
            to.clone()
        }
    };
    say(&format!("{}\n", place.display()))
}

/// The copy that a running tallyd made; `None` if none is running.
fn asked(loaded: &Loaded, arguments: &Configured) -> anyhow::Result<Option<PathBuf>> {
    let Some(listen) = loaded.config.http.listen else {
        return Ok(None);
    };
    let address = reachable(listen);
    let bearer = bearer(loaded);
    let headers: Vec<_> = bearer.iter().map(|bearer| ("Authorization", bearer.as_str())).collect();
    match ask(&loaded.config, address, "POST", "/api/v1/backup", &headers, PATIENCE) {
        Ok(answer) if answer.code == 200 => Ok(Some(PathBuf::from(answer.body.trim()))),
        Ok(answer) => bail!("http://{address}/api/v1/backup says: {} {}", answer.status, answer.body.trim()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(None),
        Err(error) => Err(error).with_context(|| {
            let file =
                arguments.config.as_ref().map_or_else(String::new, |file| format!(" of {}", file.display()));
            format!("no answer from http://{address} (http.listen{file})")
        }),
    }
}

/// Puts a copy in the store's place.
pub fn restore(arguments: &Restore) -> anyhow::Result<ExitCode> {
    let config = load(&arguments.configured)?.config;
    let folder = folder(&config)?;
    let now = Clock::system().now();
    // Whoever has it open has locked it; a damaged one is what a restore is for.
    let store = folder.join(STORE_FILE);
    if let Err(error @ crate::store::embedded::DiskError::InUse { .. }) = Disk::open_existing(&store) {
        return Err(error).context("stop tallyd before a restore");
    }
    let keys = Disk::check(&arguments.backup)?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let part = folder.join("restored.part");
    fs::copy(&arguments.backup, &part)
        .with_context(|| format!("cannot copy {} to {}", arguments.backup.display(), part.display()))?;
    fs::File::open(&part).and_then(|file| file.sync_all()).context("the copy does not reach the disk")?;
    let mut kept = String::new();
    if store.exists() {
        let aside = aside(folder, now);
        fs::rename(&store, &aside).with_context(|| format!("cannot move {} away", store.display()))?;
        kept = format!("; what was there is {}", aside.display());
    }
    fs::rename(&part, &store).with_context(|| format!("cannot put {} in place", store.display()))?;
    say(&format!("{} holds the backup's {keys} entries{kept}\n", store.display()))
}

fn aside(folder: &Path, now: WallMs) -> PathBuf {
    folder.join(format!("{STORE_FILE}.before-{now}"))
}

fn folder(config: &Config) -> anyhow::Result<&Path> {
    match &config.store.url {
        StoreUrl::File(folder) => Ok(folder),
        StoreUrl::Redis(_) => bail!("buckets are in Redis: back up its files (`redis-cli bgsave`)"),
        StoreUrl::Memory => {
            bail!("store.url is memory:, which has nothing to copy; give it a file:DIRECTORY")
        }
    }
}

fn say(text: &str) -> anyhow::Result<ExitCode> {
    io::stdout().write_all(text.as_bytes()).context("cannot write to stdout")?;
    Ok(ExitCode::SUCCESS)
}
