//! Keys of a Redis store, drawn; the bytes of sealed buckets are in `packed.rs`.
//!
//! `tallyd` is `store.prefix`; `{p}` is a partition, `{0}` to `{15}` or `{fig}`. A bucket is `<width>:<start>`, both in
//! seconds (a width below one, and a start between two, in milliseconds: `200ms:1795000000200ms`).
//!
//! ```text
//!   key                            type    content                                        leaves
//!   tallyd:{p}:w:<producer>        string  highest number applied                         after amend_window + 1 d
//!   tallyd:{p}:in:<bucket>         hash    pending: <producer>:<number> or <version>,     by fold
//!                                          each a batch (wire/batch.rs, format 10)
//!   tallyd:{p}:<bucket>            hash    sealed: `~version`, and chunks 0, 1, …         end + keep + 1 h
//!   tallyd:{p}:todo                zset    buckets with something pending, by time due    by fold
//!   tallyd:{p}:out:<destination>   hash    finest bucket's start ─▶ version to state      by strike
//!   tallyd:{p}:born:<destination>  hash    start of birth ─▶ times stated, points, heard  when carbon has files
//!   tallyd:{p}:known               hash    kind and name ─▶ born, last (seconds)          after the longest keep
//!   tallyd:{p}:forget              hash    kind and name ─▶ when the console deleted it   by fold
//!   tallyd:{p}:log                 list    `<bucket> <version>` of the last 64 folds      by fold
//!   tallyd:{p}:newest              string  start of the newest sealed bucket, as a hint   –
//!   tallyd:{p}:lease               string  token of whoever folds                         PX
//!   tallyd:{p}:books               hash    numbers passed over, by reason                 –
//!   tallyd:{p}:damaged             string  buckets that start up to here may lack some    –
//!   tallyd:{fig}:day:<date>        hash    figure ─▶ integer, smallest unit               end of the day + keep
//!   tallyd:{fig}:day:<date>:<name> string  HyperLogLog of a set, for PFCOUNT              likewise
//!   tallyd:{fig}:notices           hash    what is told or to be told, `~state` its number        by the sender
//!   tallyd:{fig}:settings          hash    what all nodes must agree on                   –
//!   tallyd:{fig}:nodes             zset    nodes by when they were last seen              after a minute
//! ```
//!
//! The bucket of 2026-11-23 12:00:00 at 10 s of partition 3 is `tallyd:{3}:10:1795435200`, and what came into it and
//! is not folded yet `tallyd:{3}:in:10:1795435200`. All keys of a partition are in one slot of a cluster: they roll
//! back together with a failover, the producers' watermarks among them.
//!
//! `settings` holds the number of this layout too ([`FORMAT`]). A version that knows a higher one reads both, writes
//! the one that stands there as long as nodes of an earlier version are in `nodes`, and raises it when it is alone.
//! So nodes of two versions work side by side; an earlier one that starts later refuses to. What it meets all the
//! same, a batch or a chunk of a form that it does not know, it leaves where it is.

use crate::clock::WallMs;
use crate::limits;
use crate::metric::{Class, Ladder, Series};

/// The number of this layout.
pub(super) const FORMAT: u64 = 1;
/// The partition of series that figures show.
const FIGURES: &str = "fig";

/// Names keys, and knows which series stands where.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    prefix: String,
    /// Besides that of the figures, which is the last.
    partitions: usize,
    pub(super) ladder: Ladder,
    history: Vec<String>,
    figures: Vec<String>,
}

/// A bucket at a level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Bucket {
    pub(super) level: usize,
    pub(super) start: WallMs,
}

impl Layout {
    pub(super) fn new(
        prefix: String,
        partitions: usize,
        ladder: Ladder,
        history: Vec<String>,
        figures: Vec<String>,
    ) -> Self {
        Self { prefix, partitions, ladder, history, figures }
    }

    /// How many partitions there are, that of the figures included.
    pub(super) fn partitions(&self) -> usize {
        self.partitions + 1
    }

    /// The partition of the figures.
    pub(super) fn figures(&self) -> usize {
        self.partitions
    }

    /// What stands between the braces of a partition's keys.
    pub(super) fn tag(&self, partition: usize) -> String {
        if partition == self.partitions { FIGURES.to_owned() } else { partition.to_string() }
    }

    /// Where a series stands; the same on every node.
    pub(super) fn partition_of(&self, series: &Series) -> usize {
        if self.class(series) == Class::Figure {
            return self.partitions;
        }
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&[series.kind() as u8]);
        hasher.update(series.key().as_bytes());
        hasher.finalize() as usize % self.partitions.max(1)
    }

    /// What a series' history is worth.
    pub(super) fn class(&self, series: &Series) -> Class {
        Class::of(series, &self.figures, &self.history)
    }

    /// The class whose chain a partition's buckets go up.
    pub(super) fn chain_class(&self, partition: usize) -> Class {
        if partition == self.partitions { Class::Figure } else { Class::History }
    }

    pub(super) fn key(&self, partition: usize, rest: &str) -> String {
        format!("{}:{{{}}}:{rest}", self.prefix, self.tag(partition))
    }

    pub(super) fn sealed(&self, partition: usize, bucket: Bucket) -> String {
        self.key(partition, &self.name(bucket))
    }

    pub(super) fn pending(&self, partition: usize, bucket: Bucket) -> String {
        self.key(partition, &format!("in:{}", self.name(bucket)))
    }

    pub(super) fn watermark(&self, partition: usize, producer: u128) -> String {
        self.key(partition, &format!("w:{producer:032x}"))
    }

    pub(super) fn day(&self, time: WallMs) -> String {
        self.key(self.figures(), &format!("day:{}", self.ladder.calendar().date(time)))
    }

    /// `<width>:<start>`
    pub(super) fn name(&self, bucket: Bucket) -> String {
        format!("{}:{}", secs(self.ladder.width(bucket.level).ms()), secs(bucket.start))
    }

    /// The bucket of a name.
    pub(super) fn bucket(&self, name: &str) -> Option<Bucket> {
        let (width, start) = name.split_once(':')?;
        let (width, start) = (ms(width)?, ms(start)?);
        let level = (0..self.ladder.levels().len()).find(|&level| self.ladder.width(level).ms() == width)?;
        Some(Bucket { level, start })
    }

    /// The first millisecond after a bucket.
    pub(super) fn end(&self, bucket: Bucket) -> WallMs {
        self.ladder.span_of(bucket.level, bucket.start).end
    }

    /// How long a partition keeps buckets of a level.
    pub(super) fn keep_ms(&self, partition: usize, level: usize) -> i64 {
        let keep = self.ladder.keep_ms(self.chain_class(partition), level);
        if level == 0 { keep.max(self.ladder.amend_window_ms()) } else { keep }
    }

    /// From then on a bucket is not written any more: a late batch alone would become the whole of it.
    pub(super) fn until(&self, partition: usize, bucket: Bucket) -> WallMs {
        let margin = limits::REDIS_KEEP_MARGIN_MS.min(self.ladder.width(bucket.level).ms());
        self.end(bucket) + self.keep_ms(partition, bucket.level) - margin
    }

    /// Up to then a batch of the finest bucket `start` is taken at a level.
    pub(super) fn taken_until(&self, partition: usize, start: WallMs, level: usize) -> WallMs {
        let at = Bucket { level, start: self.ladder.span_of(level, start).start };
        let window = self.end(Bucket { level: 0, start }) + self.ladder.amend_window_ms();
        // What arrives within the window has a bucket to stand in for a little longer.
        self.until(partition, at).min(window + limits::LATE_MARGIN_MS)
    }

    /// When a sealed bucket leaves.
    pub(super) fn expires(&self, partition: usize, bucket: Bucket) -> WallMs {
        self.end(bucket) + self.keep_ms(partition, bucket.level) + limits::REDIS_EXPIRY_MARGIN_MS
    }

    /// Whether a series is kept at a level.
    pub(super) fn is_kept(&self, series: &Series, level: usize) -> bool {
        level == 0 || self.ladder.keep_ms(self.class(series), level) > 0
    }

    /// The level above, for what a partition rolls up.
    pub(super) fn coarser(&self, partition: usize, level: usize) -> Option<usize> {
        if partition != self.partitions && self.history.is_empty() {
            return None;
        }
        self.ladder.coarser(self.chain_class(partition), level)
    }

    /// A series as the field of a hash.
    pub(super) fn field(series: &Series) -> String {
        format!("{}{}", series.kind() as u8, series.key())
    }

    /// The series of a field.
    pub(super) fn series(field: &str) -> Option<Series> {
        let kind = field.bytes().next()?.checked_sub(b'0')?;
        let kind = crate::metric::Kind::ALL.get(usize::from(kind))?;
        Some(Series::new(*kind, field.get(1..)?))
    }
}

fn secs(ms: i64) -> String {
    if ms % 1_000 == 0 { (ms / 1_000).to_string() } else { format!("{ms}ms") }
}

fn ms(text: &str) -> Option<i64> {
    match text.strip_suffix("ms") {
        Some(ms) => ms.parse().ok(),
        None => text.parse::<i64>().ok()?.checked_mul(1_000),
    }
}

/// The producer of a process' batches to a partition.
pub(super) fn partition_of_producer(producer: u128) -> usize {
    usize::from(producer as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calendar::Calendar;
    use crate::metric::ladder::Step;
    use crate::metric::{Kind, Width};

    fn layout() -> Layout {
        let step = |secs: u64, keep_ms| Step { width: Width::from_ms(secs * 1_000), keep_ms };
        let ladder = Ladder::new(
            Width::from_ms(10_000),
            &[],
            &[step(60, 86_400_000), step(86_400, 864_000_000)],
            3_600_000,
            Calendar::default(),
        );
        Layout::new("tallyd".to_owned(), 16, ladder, Vec::new(), vec!["shop.*".to_owned()])
    }

    #[test]
    fn keys_are_those_that_are_drawn() {
        let layout = layout();
        let bucket = Bucket { level: 0, start: 1_795_435_200_000 };
        assert_eq!(layout.sealed(3, bucket), "tallyd:{3}:10:1795435200");
        assert_eq!(layout.pending(3, bucket), "tallyd:{3}:in:10:1795435200");
        assert_eq!(layout.day(1_795_435_200_000), "tallyd:{fig}:day:2026-11-23");
        assert_eq!(layout.bucket(&layout.name(bucket)), Some(bucket));
        let odd = Bucket { level: 0, start: 1_795_000_000_200 };
        assert_eq!(layout.bucket(&layout.name(odd)), Some(odd));
        assert_eq!(layout.bucket("11:5"), None);
    }

    #[test]
    fn series_of_figures_stand_together_and_the_others_are_spread() {
        let layout = layout();
        let place = |name: &str| layout.partition_of(&Series::new(Kind::Counter, name));
        assert_eq!((place("shop.orders"), place("shop.x;a=b")), (16, 16));
        let used: std::collections::BTreeSet<_> = (0..400).map(|n| place(&format!("a.{n}"))).collect();
        assert_eq!(used.len(), 16);
        let series = Series::new(Kind::Set, "x;tag=1");
        assert_eq!(Layout::series(&Layout::field(&series)), Some(series));
    }
}
