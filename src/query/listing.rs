//! Which series there are, and how long each is kept at which width.

use super::params::ListAsked;
use super::render::Num;
use super::select::tags;
use crate::store::{Store, StoreError};
use serde::Serialize;
use std::collections::BTreeMap;

/// Series that match.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listing {
    /// How many match.
    pub matched: usize,
    /// The first of them by name.
    pub series: Vec<Listed>,
}

/// A series.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Listed {
    /// Its name without tags.
    pub name: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Its kind.
    pub kind: &'static str,
    /// The widths it is kept at, finest first.
    pub levels: Vec<Width>,
}

/// How long buckets of a width are kept, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Width {
    /// Width of a bucket.
    pub width: Num,
    /// How long they are kept.
    pub keep: Num,
}

/// Lists the series that are asked for.
pub fn list(store: &dyn Store, asked: &ListAsked) -> Result<Listing, StoreError> {
    let mut found = store.series(&|series| {
        asked.kind.is_none_or(|kind| kind == series.kind())
            && asked.names.iter().any(|name| name.matches(series))
    })?;
    let matched = found.len();
    found.truncate(asked.limit);
    let series = found.into_iter().map(|series| {
        let (name, tag_part) = series.split();
        let levels = store.levels_of(&series).into_iter();
        Listed {
            name: name.to_owned(),
            tags: owned_tags(tag_part),
            kind: series.kind().word(),
            levels: levels
                .map(|(level, keep_ms)| Width {
                    width: Num::secs(store.ladder().width(level).ms()),
                    keep: Num::secs(keep_ms),
                })
                .collect(),
        }
    });
    Ok(Listing { matched, series: series.collect() })
}

pub(super) fn owned_tags(part: &str) -> BTreeMap<String, String> {
    tags(part).map(|(tag, value)| (tag.to_owned(), value.to_owned())).collect()
}
