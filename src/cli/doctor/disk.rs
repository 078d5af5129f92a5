//! The disk under the store: whether it can be written, how long a write takes to be safe, how much room there
//! is, and whether its file system keeps what it is given.

use super::{Patient, Report, bytes, shown};
use crate::clock;
use crate::config::show_duration;
use crate::journal::SyncWhen;
use nix::sys::statvfs::statvfs;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Writes that are timed; the middle one counts, since any disk is slow once.
const ROUNDS: usize = 9;
/// Of a tick's own size.
const ROUND_BYTES: usize = 16 << 10;

/// File systems that do not keep what they are given, or not as a store needs it.
const UNFIT: [(&[&str], &str, &str); 3] = [
    (
        &["tmpfs", "ramfs"],
        "it is memory, and empty after a restart of the machine",
        "give store.url a directory on a disk",
    ),
    (
        &[
            "nfs",
            "nfs4",
            "cifs",
            "smb3",
            "smbfs",
            "9p",
            "ceph",
            "glusterfs",
            "fuse.sshfs",
            "fuse.glusterfs",
            "virtiofs",
        ],
        "it is reached over a network or a host: locks and the order of writes are not what a store needs, and a \
         tick waits for it",
        "give store.url a directory on a disk of this machine",
    ),
    (
        &["overlay", "aufs"],
        "it is a container's own layer, and goes with the container",
        "mount a volume, and give store.url a directory in it",
    ),
];

pub(super) fn check(patient: &Patient, report: &mut Report, folder: &Path) {
    // A directory that the first start will make stands on the disk of the one that is there.
    let Some(place) = folder.ancestors().map(or_here).find(|place| place.is_dir()) else {
        return;
    };
    let whole = fs::canonicalize(&place).unwrap_or_else(|_| place.clone());
    file_system(patient, report, &whole);
    room(patient, report, folder, &whole);
    owner(report, folder);
    match usual_sync(&whole) {
        Ok(usual) => latency(patient, report, &whole, usual),
        Err(error) => report.finding(
            format!("{} cannot be written: {error}", shown(&whole)),
            if error.kind() == io::ErrorKind::StorageFull {
                "free some space, or give store.url a directory on another disk".to_owned()
            } else {
                format!(
                    "give it to the user that tallyd runs as (chown USER {}), or mount it for writing",
                    shown(&whole)
                )
            },
        ),
    }
}

fn or_here(path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() }
}

fn file_system(patient: &Patient, report: &mut Report, place: &Path) {
    let Some((mount, kind)) = patient.read("/proc/self/mountinfo").and_then(|text| mounted(&text, place))
    else {
        return;
    };
    match UNFIT.iter().find(|(kinds, ..)| kinds.contains(&kind.as_str())) {
        Some((_, why, cure)) => {
            report.finding(format!("{} is on {kind} (mounted at {mount}): {why}", shown(place)), *cure);
        }
        None => report.good(format!("{} is on {kind}", shown(place))),
    }
}

/// The mount that a path is on: `id parent dev root MOUNT options … - TYPE source …`, the last of the longest.
fn mounted(mountinfo: &str, place: &Path) -> Option<(String, String)> {
    let mut found: Option<(String, String)> = None;
    for line in mountinfo.lines() {
        let (before, after) = line.split_once(" - ")?;
        let mount = before.split(' ').nth(4)?.replace("\\040", " ");
        let longer = found.as_ref().is_none_or(|(best, _)| mount.len() >= best.len());
        if place.starts_with(&mount) && longer {
            found = Some((mount, after.split(' ').next()?.to_owned()));
        }
    }
    found
}

/// Room for the journal at its largest, and for a copy of the store beside it.
fn room(patient: &Patient, report: &mut Report, folder: &Path, place: &Path) {
    let Ok(disk) = statvfs(place) else {
        return;
    };
    let free = disk.blocks_available() * disk.fragment_size();
    let journal = patient.loaded.config.journal.as_ref().map_or(0, |journal| journal.options.bytes_max);
    let store = fs::metadata(folder.join(crate::run::STORE_FILE)).map_or(0, |meta| meta.len());
    let needed = journal + store;
    if free < needed {
        report.finding(
            format!(
                "{} has {} free; the journal may grow to {} and a backup of the store takes {}",
                shown(place),
                bytes(free),
                bytes(journal),
                bytes(store)
            ),
            "free some space, give store.url a larger disk, or lower store.journal_max",
        );
    } else {
        report.good(format!("{} has {} free, and may need {}", shown(place), bytes(free), bytes(needed)));
    }
}

/// Somebody else's directory is worth a word: the doctor may run as another user than the service.
fn owner(report: &mut Report, folder: &Path) {
    let me = nix::unistd::Uid::effective();
    if let Some(owner) =
        fs::metadata(folder).ok().map(|meta| meta.uid()).filter(|owner| *owner != me.as_raw())
    {
        report.note(format!(
            "{} belongs to user {owner}, and the doctor runs as {me}: run it as the service's user to try its rights",
            shown(folder)
        ));
    }
}

/// A file that is removed when we are done with it.
struct Trial(PathBuf);

impl Drop for Trial {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

fn usual_sync(place: &Path) -> io::Result<Duration> {
    let trial = Trial(place.join(format!(".tallyd-doctor-{}", std::process::id())));
    let mut file: File = OpenOptions::new().write(true).create_new(true).open(&trial.0)?;
    let mut took = [Duration::ZERO; ROUNDS];
    for round in &mut took {
        let began = clock::monotonic_now();
        file.write_all(&[0x74; ROUND_BYTES])?;
        file.sync_data()?;
        *round = clock::elapsed(began);
    }
    took.sort();
    Ok(took.get(ROUNDS / 2).copied().unwrap_or_default())
}

fn latency(patient: &Patient, report: &mut Report, place: &Path, usual: Duration) {
    let config = &patient.loaded.config;
    let tick = Duration::from_millis(config.flush.tick_ms.unsigned_abs());
    let waits = config.journal.as_ref().is_some_and(|journal| journal.options.sync == SyncWhen::Tick);
    let took = format!("{:.1} ms", usual.as_secs_f64() * 1_000.0);
    if waits && usual > tick / 2 {
        report.finding(
            format!(
                "a write to {} usually takes {took} to be safe, and each tick of {} waits for one",
                shown(place),
                show_duration(tick.as_millis() as u64)
            ),
            "give store.url a faster disk, raise flush.tick, or set store.journal_sync = \"off\"",
        );
    } else {
        report.good(format!("a write to {} is usually safe within {took}", shown(place)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_a_path_is_the_longest_that_it_is_below() {
        let text = "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n\
                    23 22 0:20 / /var/lib rw - xfs /dev/sdb rw\n24 22 0:21 / /var/lib/a\\040b rw - nfs4 h:/x rw\n";
        let of = |path: &str| mounted(text, Path::new(path)).unwrap().1;
        assert_eq!(of("/home"), "ext4");
        assert_eq!(of("/var/lib/tallyd"), "xfs");
        assert_eq!(of("/var/lib/a b/c"), "nfs4");
        assert_eq!(of("/var/library"), "ext4");
    }
}
