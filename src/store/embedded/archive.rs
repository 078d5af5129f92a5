//! What is written and not yet on disk, over what is on disk.
//!
//! ```text
//!   reads:   fresh ─▶ frozen ─▶ disk                     (a removed key stands in fresh and frozen as such)
//!   commit:  fresh becomes frozen, and is written in one transaction, while writing into a new fresh goes on;
//!            written: frozen is dropped;  failed: what is fresh is laid over it, and both wait together
//! ```
//!
//! Without a disk everything is fresh for ever: that is the store in memory. While the disk fails it is the same
//! for a while. Keys are those of layout.rs; this file does not look into them.

use super::disk::Disk;
use crate::store::StoreError;
use std::collections::BTreeMap;
use std::mem;
use std::ops::Bound;
use std::sync::Arc;

/// Told of each key and its value.
pub(super) type Each<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError>;

/// The same; says whether to go on.
pub(super) type EachWhile<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<bool, StoreError>;

/// What a visit does about an entry on disk whose checksum is wrong; it is counted in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnDamage {
    /// It ends with an error.
    Fail,
    /// It goes on behind it.
    Pass,
}

/// Keys with their new values; `None` removes.
pub(super) type Layer = BTreeMap<Box<[u8]>, Option<Arc<[u8]>>>;

/// What an entry takes beside its bytes, roughly.
const ENTRY_BYTES: usize = 64;

/// Layers over a disk, or over nothing.
#[derive(Debug, Default)]
pub(super) struct Archive {
    fresh: Layer,
    frozen: Option<Arc<Layer>>,
    disk: Option<Arc<Disk>>,
    fresh_bytes: usize,
    frozen_bytes: usize,
}

fn bytes_of(key: &[u8], value: Option<&Arc<[u8]>>) -> usize {
    ENTRY_BYTES + key.len() + value.map_or(0, |value| value.len())
}

impl Archive {
    pub(super) fn new(disk: Option<Arc<Disk>>) -> Self {
        Self { disk, ..Self::default() }
    }

    pub(super) fn is_on_disk(&self) -> bool {
        self.disk.is_some()
    }

    /// Bytes held in memory.
    pub(super) fn bytes(&self) -> usize {
        self.fresh_bytes + self.frozen_bytes
    }

    pub(super) fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.write(key, Some(value.into()));
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        if self.disk.is_some() {
            self.write(key, None);
        } else if let Some(old) = self.fresh.remove(&key[..]) {
            self.fresh_bytes -= bytes_of(&key, old.as_ref());
        }
    }

    fn write(&mut self, key: Vec<u8>, value: Option<Arc<[u8]>>) {
        self.fresh_bytes += bytes_of(&key, value.as_ref());
        let length = key.len();
        if let Some(old) = self.fresh.insert(key.into_boxed_slice(), value) {
            self.fresh_bytes -= ENTRY_BYTES + length + old.map_or(0, |old| old.len());
        }
    }

    /// The layers above the disk, the newest first.
    fn layers(&self) -> impl Iterator<Item = &Layer> {
        std::iter::once(&self.fresh).chain(self.frozen.as_deref())
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Arc<[u8]>>, StoreError> {
        for layer in self.layers() {
            if let Some(value) = layer.get(key) {
                return Ok(value.clone());
            }
        }
        match &self.disk {
            Some(disk) => disk.get(key),
            None => Ok(None),
        }
    }

    /// Visits all keys in `[from, to)` in their order.
    pub(super) fn visit(&self, from: &[u8], to: &[u8], each: Each<'_>) -> Result<(), StoreError> {
        self.visit_while(from, to, OnDamage::Fail, &mut |key, value| each(key, value).map(|()| true))
    }

    /// Visits keys in `[from, to)` in their order until it is told not to go on.
    pub(super) fn visit_while(
        &self,
        from: &[u8],
        to: &[u8],
        damage: OnDamage,
        each: EachWhile<'_>,
    ) -> Result<(), StoreError> {
        if from >= to {
            return Ok(());
        }
        let range = || (Bound::Included(from), Bound::Excluded(to));
        let mut above: BTreeMap<&[u8], Option<&Arc<[u8]>>> = BTreeMap::new();
        for layer in self.layers() {
            for (key, value) in layer.range::<[u8], _>(range()) {
                above.entry(key).or_insert(value.as_ref());
            }
        }
        let mut above = above.into_iter().peekable();
        let mut goes_on = true;
        if let Some(disk) = &self.disk {
            disk.visit(from, to, damage, &mut |key, value| {
                while let Some((newer, over)) = above.next_if(|(newer, _)| *newer <= key) {
                    if let Some(over) = over {
                        goes_on = each(newer, over)?;
                    }
                    if newer == key || !goes_on {
                        return Ok(goes_on);
                    }
                }
                goes_on = each(key, value)?;
                Ok(goes_on)
            })?;
        }
        for (key, value) in above {
            if !goes_on {
                break;
            }
            if let Some(value) = value {
                goes_on = each(key, value)?;
            }
        }
        Ok(())
    }

    /// Removes all keys in `[from, to)`; returns how many. Where the disk cannot be read, those that are in memory
    /// are removed, and the error says that others stay.
    pub(super) fn remove_all(&mut self, from: &[u8], to: &[u8]) -> Result<usize, StoreError> {
        let mut keys = Vec::new();
        let visited = self.visit(from, to, &mut |key, _| {
            keys.push(key.to_vec());
            Ok(())
        });
        if visited.is_err() && from < to {
            let range = || (Bound::Included(from), Bound::Excluded(to));
            let above = self.layers().flat_map(|layer| layer.range::<[u8], _>(range()));
            keys.extend(above.filter(|(_, value)| value.is_some()).map(|(key, _)| key.to_vec()));
            keys.sort();
            keys.dedup();
        }
        let count = keys.len();
        for key in keys {
            self.remove(key);
        }
        visited.map(|()| count)
    }

    /// What is to be written now, if there is a disk and anything to write.
    pub(super) fn freeze(&mut self) -> Option<Arc<Layer>> {
        if self.disk.is_none() || self.frozen.is_some() || self.fresh.is_empty() {
            return None;
        }
        let frozen = Arc::new(mem::take(&mut self.fresh));
        self.frozen_bytes = mem::take(&mut self.fresh_bytes);
        self.frozen = Some(Arc::clone(&frozen));
        Some(frozen)
    }

    /// What was frozen is on disk.
    pub(super) fn written(&mut self) {
        self.frozen = None;
        self.frozen_bytes = 0;
    }

    /// What was frozen could not be written: it waits, under what is newer.
    pub(super) fn failed(&mut self) {
        let Some(frozen) = self.frozen.take() else {
            return;
        };
        self.frozen_bytes = 0;
        let newer = mem::take(&mut self.fresh);
        self.fresh = Arc::unwrap_or_clone(frozen);
        self.fresh.extend(newer);
        self.fresh_bytes = self.fresh.iter().map(|(key, value)| bytes_of(key, value.as_ref())).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(archive: &Archive) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found = Vec::new();
        let mut each = |key: &[u8], value: &[u8]| {
            found.push((key.to_vec(), value.to_vec()));
            Ok(())
        };
        archive.visit(b"", b"\xff", &mut each).unwrap();
        found
    }

    /// Random writes and commits, some of which fail, against one plain map.
    #[test]
    fn layers_read_as_one_map() {
        let folder = tempfile::tempdir().unwrap();
        for with_disk in [false, true] {
            let disk = with_disk.then(|| Arc::new(Disk::open(&folder.path().join("a.redb")).unwrap()));
            let mut archive = Archive::new(disk.clone());
            let mut model = BTreeMap::new();
            let mut random = fastrand::Rng::with_seed(7);
            let mut frozen = None;
            for _ in 0..3_000 {
                let key = vec![random.u8(b'a'..=b'z'), random.u8(b'a'..=b'f')];
                match random.u8(0..20) {
                    0 => frozen = archive.freeze().or(frozen),
                    1 if frozen.is_some() => {
                        let layer = frozen.take().unwrap();
                        if random.bool() {
                            disk.as_ref().unwrap().commit(&layer).unwrap();
                            drop(layer);
                            archive.written();
                        } else {
                            drop(layer);
                            archive.failed();
                        }
                    }
                    2..8 => {
                        model.remove(&key);
                        archive.remove(key);
                    }
                    _ => {
                        let value = vec![random.u8(..); random.usize(0..5)];
                        model.insert(key.clone(), value.clone());
                        archive.put(key, value);
                    }
                }
                let key = [random.u8(b'a'..=b'z'), random.u8(b'a'..=b'f')];
                assert_eq!(archive.get(&key).unwrap().as_deref(), model.get(&key[..]).map(Vec::as_slice));
            }
            let expected: Vec<_> = model.clone().into_iter().collect();
            assert_eq!(all(&archive), expected);
            let removed = archive.remove_all(b"b", b"q").unwrap();
            model.retain(|key, _| key[0] < b'b' || key[0] >= b'q');
            assert_eq!(removed, expected.len() - model.len());
            assert_eq!(all(&archive), model.into_iter().collect::<Vec<_>>());
            if with_disk {
                archive.failed();
            }
            let counted: usize = archive.fresh.iter().map(|(key, value)| bytes_of(key, value.as_ref())).sum();
            assert_eq!(archive.bytes(), counted);
        }
    }
}
