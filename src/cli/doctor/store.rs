//! The store: what it promises here, whether it is whole, and whether there is a copy of it.
//!
//! What a check of another store looks at belongs beside [`file`], in a file of its own.

use super::running::Running;
use super::{Patient, Report, bytes, disk, shown};
use crate::clock::{Clock, words};
use crate::run::{BACKUPS, STORE_FILE};
use crate::store::StoreUrl;
use crate::store::embedded::{Disk, DiskError};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

/// An older copy is said to be old.
const BACKUP_AGE_MS_MAX: i64 = 7 * 86_400_000;

pub(super) fn check(patient: &Patient, report: &mut Report) {
    match &patient.loaded.config.store.url {
        StoreUrl::Memory => report.note(
            "store.url is memory:, which promises nothing over a crash; `file:DIRECTORY` keeps what was counted",
        ),
        StoreUrl::File(folder) => file(patient, report, folder),
        StoreUrl::Redis(url) => super::redis::check(patient, report, url),
    }
}

fn file(patient: &Patient, report: &mut Report, folder: &Path) {
    disk::check(patient, report, folder);
    let store = folder.join(STORE_FILE);
    let Ok(meta) = fs::metadata(&store) else {
        report.good(format!("{} has no store yet; the first start makes it", shown(folder)));
        return;
    };
    if matches!(patient.running, Running::Answers { .. }) {
        report.good(format!("tallyd has {} open ({})", shown(&store), bytes(meta.len())));
    } else {
        whole(report, &store);
    }
    backups(report, folder);
}

/// Reads the whole store and compares its checksums; nothing is written to it.
fn whole(report: &mut Report, store: &Path) {
    match Disk::check(store) {
        Ok(entries) => report.good(format!("{} is whole: {entries} entries", shown(store))),
        Err(error @ DiskError::Damaged { .. }) => {
            report.finding(error.to_string(), "the newest good backup is named below, if there is one");
        }
        Err(error @ DiskError::InUse { .. }) => report.finding(
            format!("{error} (no tallyd answers at http.listen)"),
            "if that is your tallyd, give the doctor its configuration (--config)",
        ),
        Err(error) => report.finding(error.to_string(), "see above; the store is left as it is"),
    }
}

/// The newest copy that can be read; those that cannot are named.
fn backups(report: &mut Report, folder: &Path) {
    let mut copies: Vec<PathBuf> = fs::read_dir(folder.join(BACKUPS))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "redb"))
        .collect();
    copies.sort();
    for copy in copies.iter().rev() {
        match Disk::check(copy) {
            Ok(_) => {
                age(report, copy);
                return;
            }
            Err(error) => report.finding(
                format!("the backup {} is no use: {error}", shown(copy)),
                "make another (`tallyd backup`), and remove this one",
            ),
        }
    }
    report.finding(
        format!("there is no good backup of the store in {}", shown(&folder.join(BACKUPS))),
        "tallyd backup, while tallyd runs or not; daily from cron or a timer (docs/operations.md)",
    );
}

fn age(report: &mut Report, copy: &Path) {
    let made = fs::metadata(copy).and_then(|meta| meta.modified()).ok();
    let made = made.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    let old = Clock::system().now() - made.map_or(0, |made| made.as_millis() as i64);
    if old > BACKUP_AGE_MS_MAX {
        report.finding(
            format!("the last good backup, {}, is {} old", shown(copy), words(old / 86_400_000 * 86_400_000)),
            "tallyd backup, daily from cron or a timer (docs/operations.md)",
        );
    } else {
        report.good(format!("the last good backup is {}", shown(copy)));
    }
}
