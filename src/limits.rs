//! Every bound of the program, with its unit and the reason for its size.
//!
//! What a user may set has its default here; what nobody needs to set is fixed here. Relations between
//! bounds are checked when the program is compiled, so that a bad change does not build.

/// Longest line in bytes that carbon takes: Twisted's `LineOnlyReceiver` closes the connection beyond it.
pub const CARBON_LINE_BYTES_MAX: usize = 16_384;
/// Longest part of a path between two dots, in bytes: whisper makes it a file or folder name (`NAME_MAX`),
/// to which `.wsp` is added.
pub const CARBON_COMPONENT_BYTES_MAX: usize = 250;
/// Largest pickle frame in bytes that carbon takes (`PICKLE_RECEIVER_MAX_LENGTH`, 1 MiB).
pub const CARBON_PICKLE_BYTES_MAX: usize = 1 << 20;

/// Default for the longest metric name in bytes, tags not included.
pub const NAME_BYTES_MAX: usize = 512;
/// Default for the most tags on one series.
pub const TAGS_MAX: usize = 32;
/// Longest tag list of a line in bytes; 32 tags of 100 bytes and some air.
pub const TAGS_BYTES_MAX: usize = 4_096;
/// Largest datagram in bytes: UDP itself ends at 65,507, Unix datagrams are cut here.
pub const DATAGRAM_BYTES_MAX: usize = 65_536;
/// Longest line on a TCP or Unix stream in bytes; what is longer is skipped to its newline and refused.
pub const STREAM_LINE_BYTES_MAX: usize = 65_536;
/// Open stream connections (TCP and Unix together) at a time.
pub const STREAM_CONNECTIONS_MAX: usize = 1_024;
/// A stream connection that sends nothing for so long is closed, in seconds.
pub const STREAM_IDLE_SECS: u64 = 300;
/// The same of one that has not ended a line since it was opened, or since it began one.
pub const STREAM_LINE_SECS: u64 = 20;
/// One that has ended no line for so long, in milliseconds, makes room for another where all places are taken.
pub const STREAM_SILENT_MS: u64 = 1_000;
/// Datagrams read by one system call. 64 was within noise of 256 and keeps the buffers in the cache.
pub const RECEIVE_BATCH: usize = 64;
/// Receive buffer that is asked of the kernel, in bytes: about 0.2 s of 40,000 small datagrams.
pub const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// Largest receive buffer in bytes: Linux stores twice what was asked in an int, and gives less beyond this.
pub const RECEIVE_BUFFER_BYTES_MAX: u64 = 512 << 20;

/// Receive buffer in bytes from which datagrams may gather for a millisecond: some 1,300 small ones, which
/// is 1.3 million a second.
pub const GATHER_BUFFER_BYTES_MIN: usize = 1 << 20;

/// Default for the most series known at a time, on one node.
pub const SERIES_MAX: usize = 1_000_000;
/// Raw names an ingest thread knows for each series allowed: one series has as many as its tags have orders.
pub const RAW_NAMES_PER_SERIES: usize = 2;
/// Overflow series by first component of a name; one for all others of each kind comes on top.
pub const OVERFLOW_SERIES_MAX: usize = 1_000;
/// What a series takes beside its name where it is known, in bytes, in the order of the kinds: the registry, the store's
/// notes of it, its parts of the buckets that are open, and its cells in a thread's two generations. Measured: 250 of a
/// counter, all in all; a timer, a gauge and a set have larger tallies.
pub const SERIES_BYTES: [usize; 4] = [192, 600, 320, 400];
/// What a raw name takes beside its bytes in a thread's index and its two generations, in bytes.
pub const RAW_NAME_BYTES: usize = 48;
/// Prefixes and senders that are told apart when it is counted who sends most.
pub const OFFENDERS_KEPT: usize = 64;
/// As many of them are shown.
pub const OFFENDERS_SHOWN: usize = 10;
/// Components of a name that a prefix has at most.
pub const OFFENDERS_DEPTH: usize = 3;
/// Longest prefix that is shown in bytes.
pub const OFFENDER_BYTES_MAX: usize = 120;
/// Who sends most is counted anew after this long, in milliseconds: what is shown is of the last one or two hours.
pub const OFFENDERS_SPAN_MS: i64 = 3_600_000;
/// How often who sends most is looked at, in milliseconds.
pub const OFFENDERS_MS: i64 = 1_000;
/// Senders that an ingest thread tells apart in a tick.
pub const SENDERS_A_TICK: usize = 512;
/// Senders whose rates are told apart, where `limits.sender_rate` is set: a quarter of a megabyte.
pub const SENDER_SLOTS: usize = 16_384;
/// Highest rate that can be set for a sender, in lines a second.
pub const SENDER_RATE_MAX: usize = 100_000_000;
/// Default for the memory of the process, in bytes.
pub const MEMORY_BYTES_MAX: usize = 512 << 20;
/// Least memory that can be set, in bytes: the program and its buffers take half of that.
pub const MEMORY_BYTES_MIN: u64 = 48 << 20;
/// What names and what is known of their series may take of `limits.memory_max`, in percent: new ones three quarters of
/// that.
pub const NAMES_MEMORY_PERCENT: usize = 85;
/// Values and members that timers and sets keep exactly while memory is short.
pub const SCARCE_EXACT_MAX: usize = 32;
/// There is memory again when there was for so long, in milliseconds.
pub const MEMORY_EASED_MS: i64 = 5_000;
/// The same where the names of known series were given up: they come back all at once.
pub const MEMORY_NAMES_MS: i64 = 30_000;
/// While memory is short, what was freed is given back to the system this often, in milliseconds: some 10 ms of work.
pub const MEMORY_BACK_MS: i64 = 1_000;
/// What memory is in use is asked this often while it is below a quarter of `memory_max`, in milliseconds: at the most
/// names can be learned, and values kept, some 100 MB come in that time.
pub const MEMORY_ASKED_MS: i64 = 1_000;
/// Memory that the embedded store's pages may take, in bytes: the buckets of an hour of ten thousand series.
pub const STORE_CACHE_BYTES: usize = 64 << 20;
/// Up to this size the store's file is compared with its checksums when it is opened: some 0.1 s.
pub const STORE_CHECKED_BYTES: u64 = 64 << 20;
/// A bucket in the embedded store is gathered into a row of many this long after its end, in milliseconds: by then what
/// comes late has come.
pub const GATHER_AFTER_MS: i64 = 600_000;
/// Bytes of such a row: with what redb adds, just within a page of 4 KiB.
pub const GATHERED_BYTES_MAX: usize = 4_040;
/// Bytes that are looked at for it in a fold: some 1 ms of work.
pub const GATHER_BYTES_AT_ONCE: usize = 256 << 10;
/// Parts of buckets that are rolled up at a time: some 10 ms of work, so that a tick does not wait for a day's.
pub const ROLL_UP_PARTS_MAX: usize = 100_000;
/// The finest buckets are kept for a destination that is away at most this long, in milliseconds: a week.
pub const OUTSTANDING_MS_MAX: i64 = 7 * 86_400_000;
/// A series' place is given to another at the earliest after this long without samples, in milliseconds: two days,
/// so that no bucket, not even a day's, holds both.
pub const PLACE_REUSE_MS: i64 = 2 * 86_400_000;
/// How often places are released, in milliseconds.
pub const RELEASE_MS: i64 = 3_600_000;
/// When a series was last active is written at least this often, in milliseconds.
pub const ACTIVE_GRAIN_MS: i64 = 3_600_000;
/// Steps of a ladder.
pub const LADDER_STEPS_MAX: usize = 8;
/// Pause between two checkpoints of the embedded store, in milliseconds; the journal has what came since.
pub const CHECKPOINT_MS: u64 = 10_000;
/// Series that one tick may touch under a timestamp of their own (`|T`), per ingest thread.
pub const TIMED_TALLIES_MAX: usize = 100_000;
/// How far in the future a sample's own timestamp may lie, in milliseconds: clocks differ by this much.
pub const TIMESTAMP_AHEAD_MS_MAX: i64 = 60_000;

/// How old or early a signed datagram may be by default, in milliseconds.
pub const SIGNED_WINDOW_MS: u64 = 30_000;
/// Signatures that are remembered, to know a replay: some 17,000 datagrams a second for the default window, and 48 MB.
pub const SIGNATURES_MAX: usize = 1_000_000;

/// Default tick in milliseconds: samples stay with the ingest threads at most this long before the store has
/// them.
pub const TICK_MS: u64 = 200;
/// Shortest tick in milliseconds.
pub const TICK_MS_MIN: u64 = 20;
/// Default width of a bucket in milliseconds.
pub const BUCKET_MS: u64 = 10_000;
/// Narrowest bucket in milliseconds: two ticks.
pub const BUCKET_MS_MIN: u64 = 2 * TICK_MS_MIN;
/// Widest bucket in milliseconds: a day.
pub const BUCKET_MS_MAX: u64 = 86_400_000;
/// Default grace in milliseconds before a bucket is sealed.
pub const GRACE_MS: u64 = 1_000;
/// Default span in milliseconds in which late batches amend a sealed bucket.
pub const AMEND_WINDOW_MS: u64 = 6 * 3_600_000;
/// How long after that buckets are still there, in milliseconds: two ticks and the hand-over, with room to spare.
pub const LATE_MARGIN_MS: i64 = 5_000;
/// Default for how long an idle series is remembered, in milliseconds.
pub const IDLE_AFTER_MS: u64 = 24 * 3_600_000;
/// An ingest thread drops its index of names and learns it anew after this long, in milliseconds, so that
/// names nobody sends any more do not stay for ever.
pub const INDEX_RENEW_MS: i64 = 6 * 3_600_000;
/// The same when a thread is refusing new series: soon enough to recover from a storm of names.
pub const INDEX_RENEW_FULL_MS: i64 = 60_000;
/// So long after samples last overflowed, in milliseconds, series that came once make room for new ones.
pub const MAKE_ROOM_MS: i64 = 60_000;
/// Or for so many buckets, where that is longer.
pub const MAKE_ROOM_BUCKETS: i64 = 6;
/// How long the flusher waits for ingest threads to hand over, in milliseconds; who is late hands over at
/// the next tick.
pub const HAND_OVER_MS: u64 = 100;

/// Default for timer values kept exactly per series and bucket before a sketch takes over.
pub const TIMER_EXACT_MAX: usize = 512;
/// The same in statsd's dialect, where percentiles are exact: 8 bytes each, so at most 8 MB for a series.
pub const TIMER_EXACT_MAX_STATSD: usize = 1_000_000;
/// Default for set members kept exactly per series and bucket before a HyperLogLog takes over.
pub const SET_EXACT_MAX: usize = 256;
/// The same in statsd's dialect, where sizes are exact: 8 bytes each, so at most 16 MB for a series.
pub const SET_EXACT_MAX_STATSD: usize = 1_000_000;
/// Most percentiles, histogram bins or output names in the configuration: a line each, every bucket.
pub const TIMER_OUTPUTS_MAX: usize = 256;

/// Default for the journal's bytes on disk: hours of a busy node, while its store is away.
pub const JOURNAL_BYTES_MAX: u64 = 1 << 30;
/// Smallest limit for the journal in bytes: four segments of a size worth having.
pub const JOURNAL_BYTES_MIN: u64 = 1 << 20;
/// Bytes after which the journal begins another segment. A segment is removed as a whole, read into memory
/// as a whole, and writes each name once: a sixteenth of the default, and every name once in minutes.
pub const JOURNAL_SEGMENT_BYTES: u64 = 64 << 20;
/// Largest payload of one record of the journal, in bytes: a million series with their names take less.
pub const JOURNAL_RECORD_BYTES_MAX: usize = 256 << 20;
/// Largest segment that is read, in bytes: one record may begin just before the segment has its size.
pub const JOURNAL_READ_BYTES_MAX: u64 = JOURNAL_SEGMENT_BYTES + JOURNAL_RECORD_BYTES_MAX as u64 + 4_096;
/// First pause after a failure of the journal's disk, in milliseconds; it doubles up to
/// [`JOURNAL_RETRY_MS_MAX`].
pub const JOURNAL_RETRY_MS: i64 = 1_000;
/// Longest pause between two attempts at the journal's disk, in milliseconds.
pub const JOURNAL_RETRY_MS_MAX: i64 = 15_000;

/// Default for the partitions that series are spread over in Redis.
pub const REDIS_PARTITIONS: usize = 16;
/// Most partitions.
pub const REDIS_PARTITIONS_MAX: usize = 1_024;
/// Default for how long batches stay in the journal after Redis has confirmed them, in milliseconds.
pub const JOURNAL_HOLD_MS: u64 = 600_000;
/// Connecting to Redis may take this long, in milliseconds.
pub const REDIS_CONNECT_MS: u64 = 2_000;
/// An answer of Redis may take this long, in milliseconds.
pub const REDIS_ANSWER_MS: u64 = 3_000;
/// First pause after Redis was away, in milliseconds; it doubles up to [`REDIS_RETRY_MS_MAX`].
pub const REDIS_RETRY_MS: u64 = 50;
/// Longest pause between two attempts at Redis, in milliseconds.
pub const REDIS_RETRY_MS_MAX: u64 = 1_000;
/// A cluster is asked where its slots are at most this often, in milliseconds.
pub const REDIS_SLOTS_PAUSE_MS: u64 = 200;
/// A file of certificates is no larger than this.
pub const CERTIFICATES_BYTES_MAX: u64 = 1 << 20;
/// Replicas have this long to say that they have what was written, in milliseconds; sending goes on after it.
pub const REDIS_WAIT_MS: u64 = 100;
/// A lease runs out after this long, in milliseconds.
pub const REDIS_LEASE_MS: u64 = 3_500;
/// A lease that stays free for so long is anybody's, in milliseconds, also of who has enough of them.
pub const REDIS_FREE_MS: u64 = 300;
/// Leases are looked at this often, in milliseconds.
pub const REDIS_LOOK_MS: u64 = 100;
/// Whatever happens to a holder, another folds after so long, in milliseconds.
pub const REDIS_TAKEOVER_MS: u64 = 5_000;
/// A lease is renewed this often, in milliseconds.
pub const REDIS_RENEW_MS: u64 = 1_200;
/// A holder whose last good renewal was sent so long ago holds nothing any more, in milliseconds.
pub const REDIS_TENURE_MS: u64 = 2_600;
/// So many buckets of each partition that are over and not sealed are a backlog worth a warning.
pub const REDIS_DUE_WARNED: u64 = 20;
/// Buckets of a stream of batches of which it is remembered from which batch on they were the newest: of eleven hours
/// at ten seconds. Before that a loss is taken to go further than it may.
pub const REDIS_NEWEST_MAX: usize = 4_096;
/// A page's look at Redis counts as the present for so long, in milliseconds: whatever else is asked is answered from it.
pub const REDIS_GLANCE_MS: u64 = 450;
/// Bytes of sealed buckets that pages have looked at and that are held in memory; of others Redis is asked again.
pub const REDIS_GLANCE_BYTES_MAX: usize = 32 << 20;
/// Bytes of batches on their way to Redis that are held in memory; the journal has the rest.
pub const REDIS_QUEUE_BYTES_MAX: usize = 64 << 20;
/// What a producer has applied is remembered for so long after nothing of it could be taken any more, in
/// milliseconds.
pub const REDIS_WATERMARK_MARGIN_MS: i64 = 86_400_000;
/// A bucket is not written for this long before it leaves, in milliseconds.
pub const REDIS_KEEP_MARGIN_MS: i64 = 60_000;
/// Sealed buckets leave so long after they need not be kept any more, in milliseconds.
pub const REDIS_EXPIRY_MARGIN_MS: i64 = 3_600_000;

/// Connecting to Graphite may take this long, in milliseconds.
pub const CARBON_CONNECT_MS: u64 = 3_000;
/// One write to Graphite may stand still for this long, in milliseconds.
pub const CARBON_WRITE_MS: u64 = 10_000;
/// After the half-close Graphite may take this long to read what is left and close, in milliseconds
/// (measured: 0.2 s after 20,000 lines).
pub const CARBON_CONFIRM_MS: u64 = 15_000;
/// Deliveries to one destination that may wait for their confirmation at a time.
pub const CARBON_IN_FLIGHT_MAX: usize = 16;
/// First pause after a failed delivery, in milliseconds; it doubles up to [`CARBON_RETRY_MS_MAX`].
pub const CARBON_RETRY_MS: u64 = 500;
/// Longest pause between two attempts at Graphite, in milliseconds.
pub const CARBON_RETRY_MS_MAX: u64 = 15_000;
/// Default span in milliseconds that is stated again after a connection was lost.
pub const RESEND_MS: u64 = 120_000;
/// New series are stated again after this long, and then each time after twice as long, in milliseconds.
pub const NEWBORN_MS: i64 = 30_000;
/// For at most this long, in milliseconds: what carbon has not made by then it will not make.
pub const NEWBORN_MS_MAX: i64 = 8 * 3_600_000;
/// Files that carbon makes a minute by default (`MAX_CREATES_PER_MINUTE`).
pub const CARBON_CREATES_PER_MINUTE: u64 = 50;
/// Stating new series again may take so long, in milliseconds, before it is found to be too much.
pub const NEWBORN_TOOK_MS: i64 = 600_000;
/// Buckets that are looked through for new series at a time: some 10 ms of a busy store.
pub const NEWBORN_BUCKETS: usize = 64;
/// Pause between two warnings that carbon may be too slow for all new series, in milliseconds.
pub const NEWBORN_WARNED_MS: i64 = 3_600_000;
/// Points after which a delivery takes no more buckets: some 1 MB, which carbon reads in 0.2 s (it was measured to
/// take 120,000 points a second).
pub const DELIVERY_POINTS: u64 = 20_000;
/// Default rate, in points a second, at which a backlog is stated: a sixth of what carbon takes, and an hour of
/// 2,000 counters in 72 s.
pub const BACKFILL_RATE: usize = 20_000;

/// Open console connections at a time.
pub const CONSOLE_CONNECTIONS_MAX: usize = 32;
/// Longest console command in bytes.
pub const CONSOLE_LINE_BYTES_MAX: usize = 16_384;
/// A console that says nothing for so long is closed, in seconds.
pub const CONSOLE_IDLE_SECS: u64 = 300;
/// Default for the most business series that are shown to Prometheus: one answer of about a megabyte.
pub const SERIES_EXPORTED_MAX: usize = 10_000;
/// Timer values and set members of a bucket that are kept exactly for it, per series.
pub const EXPORTED_EXACT_MAX: usize = 64;
/// Open HTTP connections at a time: all streams, and room for everybody else.
pub const HTTP_CONNECTIONS_MAX: usize = LIVE_STREAMS_MAX + 2_048;
/// Open HTTP connections of one address at a time: an office behind one router. This machine has no such bound.
pub const HTTP_CONNECTIONS_PER_ADDRESS_MAX: usize = LIVE_STREAMS_PER_ADDRESS_MAX + 256;
/// Read and write buffer of an HTTP connection in bytes, and so the longest head of a request: the least that hyper
/// takes would be 8 KiB; patterns of a query may be longer.
pub const HTTP_BUFFER_BYTES: usize = 64 << 10;
/// A request's head may take this long, in seconds; a connection that is kept open may be silent as long.
pub const HTTP_HEAD_SECS: u64 = 20;
/// A request's body may take this long, in seconds.
pub const HTTP_BODY_SECS: u64 = 20;
/// What was sent over HTTP and is not acknowledged for so long ends the connection, in milliseconds.
pub const HTTP_UNREAD_MS: u32 = 20_000;
/// When so many HTTP connections are gone, their memory is given back to the system: some 10 MB.
pub const HTTP_CONNECTIONS_GONE: usize = 1_000;
/// How often that is looked at, in milliseconds.
pub const HTTP_GONE_MS: u64 = 5_000;
/// Largest body of a request in bytes: a mark.
pub const HTTP_BODY_BYTES_MAX: usize = 4 << 10;
/// A handshake of TLS may take this long, in seconds.
pub const TLS_HANDSHAKE_SECS: u64 = 10;
/// Largest body of samples in bytes: some 30,000 lines.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Requests with samples that are worked on at a time, each with its body; who comes then is told to come again.
pub const REQUESTS_AT_ONCE: usize = 32;
/// Buckets that the timestamps of one request may name: a batch each.
pub const REQUEST_BUCKETS_MAX: usize = 1_024;
/// Refused lines that an answer lists.
pub const REQUEST_REFUSED_SHOWN: usize = 100;
/// Longest key of a request in bytes.
pub const REQUEST_KEY_BYTES_MAX: usize = 255;
/// Keys of requests that are remembered at a time: 46 a second for the default `flush.amend_window`, some 100 MB.
pub const REQUEST_KEYS_MAX: usize = 1_000_000;
/// In Redis a key of a request is remembered for this long beyond `flush.amend_window`, in milliseconds: later, what it
/// brought would be refused as too late.
pub const REQUEST_KEY_MARGIN_MS: i64 = 3_600_000;
/// Streams of live pages at a time.
pub const LIVE_STREAMS_MAX: usize = 10_240;
/// Streams of live pages to one address at a time: an office behind one router.
pub const LIVE_STREAMS_PER_ADDRESS_MAX: usize = 512;
/// A stream that has nothing new says so this often, in milliseconds.
pub const LIVE_BEAT_MS: u64 = 1_000;
/// Without a tick for so long, a live page is told nothing, in milliseconds: it would take old numbers for new.
pub const LIVE_STILL_MS: i64 = 3_000;

/// Points of a series that a query aims at where it names no step: about as many as a screen has room for.
pub const QUERY_POINTS: usize = 1_000;
/// Most points of one series in an answer: a week of minutes and some more.
pub const QUERY_POINTS_MAX: usize = 11_000;
/// Most series, or groups of them, in an answer.
pub const QUERY_SERIES_MAX: usize = 1_000;
/// Most series that one query merges into groups.
pub const QUERY_SERIES_READ_MAX: usize = 10_000;
/// Most points of all series in an answer: some 25 MB of JSON.
pub const QUERY_POINTS_TOTAL_MAX: usize = 1_000_000;
/// Most buckets that one query reads, weighed as below: about two seconds of one core.
pub const QUERY_BUCKETS_MAX: i64 = 20_000_000;
/// Readings that room is made for before a series is read: what a slice of a large query has of each.
pub const READINGS_RESERVED: usize = 256;
/// Buckets that a query has in memory at a time, weighed as below: of counters about what a core's second cache
/// holds, and of timers at most 16 MB.
pub const QUERY_BUCKETS_AT_ONCE: i64 = 8_000;
/// What a bucket of a timer or a set weighs in work and memory against one of a counter.
pub const QUERY_WEIGHT_LARGE: i64 = 8;
/// Longest pattern of names in bytes.
pub const QUERY_PATTERN_BYTES_MAX: usize = 1_024;
/// Most patterns in a query.
pub const QUERY_PATTERNS_MAX: usize = 32;
/// Most names that the braces of one pattern stand for.
pub const QUERY_ALTERNATIVES_MAX: usize = 128;
/// Most tags to group by.
pub const QUERY_TAGS_MAX: usize = 8;
/// Queries worked on at a time; more wait. Ingest keeps its cores.
pub const QUERIES_AT_ONCE: usize = 2;
/// Default for how many series a list of them shows.
pub const SERIES_LISTED: usize = 1_000;
/// Most series that a list of them shows.
pub const SERIES_LISTED_MAX: usize = 100_000;

/// Most figures in the configuration: each costs some reads four times a second.
pub const FIGURES_MAX: usize = 64;
/// Most pages in the configuration.
pub const PAGES_MAX: usize = 16;
/// Most figures on a page: what can be taken in at a glance. The tenth goes on a second page.
pub const PAGE_FIGURES_MAX: usize = 9;
/// Longest id, label, title or group in bytes.
pub const FIGURE_TEXT_BYTES_MAX: usize = 128;
/// Series that one figure shows; what is beyond is left out, and the figure says so.
pub const FIGURE_SERIES_MAX: usize = 500;
/// Currencies that one figure shows.
pub const FIGURE_LINES_MAX: usize = 6;
/// A page that is asked for before the figures were looked at once waits so long for them, in milliseconds.
pub const FIRST_LOOK_MS: u64 = 5_000;
/// Parts of a figure that are shown.
pub const FIGURE_SLICES: usize = 5;
/// Events in the ticker.
pub const TICKER_EVENTS: usize = 20;
/// A count of more events a day than this is not in the ticker: nobody reads one in four seconds.
pub const TICKER_EVENTS_A_DAY: f64 = 20_000.0;
/// Longest text of a mark in bytes.
pub const MARK_BYTES_MAX: usize = 120;
/// Marks of one day.
pub const MARKS_MAX: usize = 100;
/// Series shown as seen and not placed.
pub const UNPLACED_MAX: usize = 24;
/// Pause between two quick looks at the figures, in milliseconds.
pub const FIGURES_MS: u64 = 250;

/// Most webhooks in the configuration.
pub const NOTIFY_MAX: usize = 8;

/// Most share links in the configuration: each that is in use has its page drawn once more.
pub const LINKS_MAX: usize = 32;

/// Files and sockets open at a time when all connection limits are reached, and the rest of the program.
pub const DESCRIPTORS_WANTED: u64 =
    (STREAM_CONNECTIONS_MAX + HTTP_CONNECTIONS_MAX + CONSOLE_CONNECTIONS_MAX) as u64 + 256;

/// A flusher that has not ticked for so long is stuck, in milliseconds.
pub const STUCK_MS: i64 = 10_000;
/// A stop that was asked for is over after this long, in milliseconds, delivered or not.
pub const DRAIN_MS: u64 = 5_000;
/// Of that, what is left to write down what Graphite has confirmed and to close the store, in milliseconds: some 10 ms, on
/// a busy disk more.
pub const DRAIN_CLOSE_MS: u64 = 500;
/// A refused line is logged at most once in this many milliseconds for each reason.
pub const LOG_REFUSED_MS: i64 = 1_000;
/// So many bytes of a refused line are shown.
pub const REFUSED_EXCERPT_BYTES: usize = 120;
/// Largest configuration file in bytes.
pub const CONFIG_BYTES_MAX: u64 = 4 << 20;

const _: () = assert!(BUCKET_MS_MIN >= 2 * TICK_MS_MIN, "a tick is at most half a bucket");
const _: () = assert!(TICK_MS * 2 <= BUCKET_MS, "the default tick is at most half the default bucket");
const _: () = assert!(TICK_MS >= TICK_MS_MIN);
const _: () = assert!(GRACE_MS < BUCKET_MS);
const _: () =
    assert!(NAME_BYTES_MAX + TAGS_BYTES_MAX + 128 < CARBON_LINE_BYTES_MAX, "any name we take fits a line");
const _: () =
    assert!(JOURNAL_SEGMENT_BYTES * 4 <= JOURNAL_BYTES_MAX, "most of a full journal is closed segments");
const _: () = assert!(JOURNAL_RECORD_BYTES_MAX <= u32::MAX as usize, "a record's length is 32 bits");
const _: () = assert!(DRAIN_CLOSE_MS * 2 <= DRAIN_MS, "most of a stop is for what is to be delivered");
const _: () = assert!(REDIS_TENURE_MS < REDIS_LEASE_MS, "a holder gives up before another may take over");
const _: () =
    assert!(REDIS_LEASE_MS + REDIS_FREE_MS + 4 * REDIS_LOOK_MS < REDIS_TAKEOVER_MS, "a takeover is in time");
const _: () = assert!(REDIS_GLANCE_MS + 2 * FIGURES_MS < 1_000, "a page is not older than a second");
const _: () = assert!(REDIS_RENEW_MS * 2 < REDIS_TENURE_MS, "a renewal may be missed once");
const _: () = assert!(HAND_OVER_MS <= TICK_MS, "a tick never overlaps the one before it");
const _: () = assert!(QUERY_POINTS < QUERY_POINTS_MAX && QUERY_POINTS_MAX <= QUERY_POINTS_TOTAL_MAX);
const _: () = assert!(QUERY_SERIES_MAX <= QUERY_SERIES_READ_MAX);
const _: () = assert!(MARK_BYTES_MAX < HTTP_BODY_BYTES_MAX);
const _: () =
    assert!(REQUESTS_AT_ONCE <= 64, "those on their way to the flusher fit the queue of its commands");
const _: () = assert!(REFUSED_EXCERPT_BYTES < NAME_BYTES_MAX);
const _: () =
    assert!(HTTP_HEAD_SECS <= 30 && STREAM_LINE_SECS <= 30, "who says nothing is gone in half a minute");
const _: () = assert!(OFFENDERS_SHOWN <= OFFENDERS_KEPT && OFFENDER_BYTES_MAX < NAME_BYTES_MAX);
