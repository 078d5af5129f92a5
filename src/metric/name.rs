//! Names: from the bytes of a line to the identity of a series.
//!
//! A series is its kind and its *key*: the name, then `;tag=value` for each tag, which is how Graphite
//! writes it. Two rules lead there. statsd's keeps tags in the order sent (two orders are two series);
//! ours sorts them, so that they are one. Both clean names the way statsd does. This runs once for each
//! distinct raw name, not for each line.

use crate::health::Refusal;
use crate::limits;
use arcstr::ArcStr;
use std::borrow::Cow;
use std::fmt;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// Sums.
    Counter,
    /// Distributions of measured values.
    Timer,
    /// Values that stay until they are changed.
    Gauge,
    /// Distinct members.
    Set,
}

impl Kind {
    /// All kinds, in statsd's order of output.
    pub const ALL: [Self; 4] = [Self::Counter, Self::Timer, Self::Gauge, Self::Set];

    /// The word users know it by.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Timer => "timer",
            Self::Gauge => "gauge",
            Self::Set => "set",
        }
    }
}

/// The identity of a series; cheap to clone, compared by content. One pointer to one piece of memory, since
/// there may be a million: a count of handles, a byte for the kind, and the key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Series(ArcStr);

/// What stands for each kind before the key, in the order of the kinds.
const MARKS: [char; Kind::ALL.len()] = ['0', '1', '2', '3'];

impl Series {
    /// A series with a key that is already in its final form.
    #[must_use]
    pub fn new(kind: Kind, key: &str) -> Self {
        let mut text = String::with_capacity(1 + key.len());
        text.extend(MARKS.get(kind as usize));
        text.push_str(key);
        Self(text.into())
    }

    /// What is counted.
    #[must_use]
    pub fn kind(&self) -> Kind {
        let mark = self.0.as_bytes().first().map_or(0, |mark| usize::from(mark - b'0'));
        Kind::ALL.get(mark).copied().unwrap_or_else(|| unreachable!("the mark was made of a kind"))
    }

    /// Name and tags.
    #[must_use]
    pub fn key(&self) -> &str {
        self.0.get(1..).unwrap_or_default()
    }

    /// The name, and the tags with their leading semicolon (empty if there are none).
    #[must_use]
    pub fn split(&self) -> (&str, &str) {
        split_key(self.key())
    }

    /// How many handles to this series there are; one means that nobody else needs it.
    #[must_use]
    pub fn handles(&self) -> usize {
        ArcStr::strong_count(&self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Debug for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.kind().word(), self.key())
    }
}

/// Name and tags (with their leading semicolon) of a key.
#[must_use]
pub fn split_key(key: &str) -> (&str, &str) {
    key.split_at(key.find(';').unwrap_or(key.len()))
}

/// How raw names become keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Clean names (`names.sanitize`); else they are kept raw and cleaned on their way to Graphite.
    pub sanitize: bool,
    /// statsd's rule for tags: as sent, unsorted, empty keys allowed.
    pub as_sent: bool,
    /// Longest raw name in bytes.
    pub name_bytes_max: usize,
    /// Most tags.
    pub tags_max: usize,
}

impl Rules {
    /// The key of a raw name and its raw tag list (the text after `|#`, possibly empty).
    pub fn key(&self, name: &[u8], tags: &[u8]) -> Result<String, Refusal> {
        if name.len() > self.name_bytes_max {
            return Err(Refusal::BadName);
        }
        if tags.len() > limits::TAGS_BYTES_MAX {
            return Err(Refusal::TooManyTags);
        }
        let (name, tags) = (String::from_utf8_lossy(name), String::from_utf8_lossy(tags));
        if self.as_sent { self.key_as_sent(&name, &tags) } else { self.key_sorted(&name, &tags) }
    }

    fn key_as_sent(&self, name: &str, tags: &str) -> Result<String, Refusal> {
        let mut key = name.to_owned();
        if !tags.is_empty() {
            if tags.split(',').count() > self.tags_max {
                return Err(Refusal::TooManyTags);
            }
            for tag in tags.split(',') {
                key.push(';');
                key.push_str(&tag.replacen(';', "_", 1).replacen(':', "=", 1));
            }
        }
        Ok(if self.sanitize { clean(&key).into_owned() } else { key })
    }

    fn key_sorted(&self, name: &str, tags: &str) -> Result<String, Refusal> {
        let (name, inline) = split_key(name);
        let mut key = if self.sanitize { clean(name).into_owned() } else { name.to_owned() };
        if key.is_empty() {
            return Err(Refusal::BadName);
        }
        let inline = inline.split(';').map(|tag| tag.split_once('=').unwrap_or((tag, "true")));
        let listed = tags.split(',').map(|tag| tag.split_once(':').unwrap_or((tag, "true")));
        let mut pairs: Vec<(String, String)> = inline
            .chain(listed)
            .map(|(tag, value)| (self.tag_name(tag), self.tag_value(value)))
            .filter(|(tag, value)| !tag.is_empty() && !value.is_empty())
            .collect();
        if pairs.len() > self.tags_max {
            return Err(Refusal::TooManyTags);
        }
        // A stable sort, then the last of each name: what Graphite itself keeps of a repeated tag.
        pairs.sort_by(|a, b| a.0.cmp(&b.0));
        for (at, (tag, value)) in pairs.iter().enumerate() {
            if pairs.get(at + 1).is_none_or(|next| next.0 != *tag) {
                key.extend([";", tag, "=", value]);
            }
        }
        Ok(key)
    }

    /// Graphite keeps the series' own name under the tag `name` and forbids `;!^=` in tag names.
    fn tag_name(&self, tag: &str) -> String {
        let tag = if self.sanitize { clean(tag) } else { Cow::Borrowed(tag) };
        let tag: String = tag.chars().filter(|c| !matches!(c, ';' | '!' | '^' | '=')).collect();
        if tag == "name" { "_name".to_owned() } else { tag }
    }

    /// Graphite forbids `;` in values and `~` at their start.
    fn tag_value(&self, value: &str) -> String {
        let value = if self.sanitize { clean(value) } else { Cow::Borrowed(value) };
        value.replace(';', "_").trim_start_matches('~').to_owned()
    }
}

/// statsd's cleaning: runs of white space become one `_`, `/` becomes `-`, and what is not one of
/// `A–Z a–z 0–9 _ - . ; =` is left out.
#[must_use]
pub fn clean(text: &str) -> Cow<'_, str> {
    if text.bytes().all(is_clean) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut in_space = false;
    for c in text.chars() {
        let space = is_js_space(c);
        match c {
            _ if space && !in_space => out.push('_'),
            '/' => out.push('-'),
            c if c.is_ascii() && is_clean(c as u8) => out.push(c),
            _ => {}
        }
        in_space = space;
    }
    Cow::Owned(out)
}

fn is_clean(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b';' | b'=')
}

/// What JavaScript's `\s` takes: Unicode's white space without NEL, with the byte order mark.
#[must_use]
pub fn is_js_space(c: char) -> bool {
    (c.is_whitespace() && c != '\u{85}') || c == '\u{feff}'
}

#[cfg(test)]
mod tests {
    use super::*;

    const NATIVE: Rules = Rules { sanitize: true, as_sent: false, name_bytes_max: 64, tags_max: 4 };
    const STATSD: Rules = Rules { sanitize: true, as_sent: true, name_bytes_max: 64, tags_max: 4 };

    fn key(rules: &Rules, name: &str, tags: &str) -> Result<String, Refusal> {
        rules.key(name.as_bytes(), tags.as_bytes())
    }

    #[test]
    fn a_series_is_its_kind_and_its_key() {
        for kind in Kind::ALL {
            let series = Series::new(kind, "caf\u{e9};a=b");
            assert_eq!(
                (series.kind(), series.key(), series.split()),
                (kind, "caf\u{e9};a=b", ("caf\u{e9}", ";a=b"))
            );
            assert_eq!(series, Series::new(kind, "caf\u{e9};a=b"));
            assert_eq!(Series::new(kind, "").key(), "");
        }
        let mut ordered = Kind::ALL.map(|kind| Series::new(kind, "a"));
        ordered.sort();
        assert_eq!(ordered.map(|series| series.kind()), Kind::ALL, "kinds first, then keys");
        assert!(Series::new(Kind::Counter, "z") < Series::new(Kind::Timer, "a"));
    }

    #[test]
    fn names_are_cleaned_as_statsd_cleans_them() {
        assert_eq!(clean("a b \t c"), "a_b_c");
        assert_eq!(clean("a/b//c"), "a-b--c");
        assert_eq!(clean("café ☕ x"), "caf__x");
        assert_eq!(clean("ok.name_1-2;t=v"), "ok.name_1-2;t=v");
        assert_eq!(clean("a\u{a0}\u{feff}b"), "a_b");
    }

    #[test]
    fn statsd_keeps_tags_in_the_order_sent() {
        assert_eq!(key(&STATSD, "a", "b:1,a:2,bare").unwrap(), "a;b=1;a=2;bare");
        assert_eq!(key(&STATSD, "a", "x;y:z:w").unwrap(), "a;x_y=zw");
        assert_eq!(key(&STATSD, "", "").unwrap(), "");
        let raw = Rules { sanitize: false, ..STATSD };
        assert_eq!(key(&raw, "a b", "t:x y").unwrap(), "a b;t=x y");
    }

    #[test]
    fn our_tags_are_sorted_and_fit_for_graphite() {
        assert_eq!(key(&NATIVE, "a", "b:1,a:2").unwrap(), "a;a=2;b=1");
        assert_eq!(key(&NATIVE, "a;z=1", "b:1,,c:").unwrap(), "a;b=1;z=1");
        assert_eq!(key(&NATIVE, "a", "bare,name:x,t:~v").unwrap(), "a;_name=x;bare=true;t=v");
        assert_eq!(key(&NATIVE, "a", "t:1,t:2").unwrap(), "a;t=2");
        assert_eq!(key(&NATIVE, "é", ""), Err(Refusal::BadName));
        assert_eq!(key(&NATIVE, "a", "a:1,b:1,c:1,d:1,e:1"), Err(Refusal::TooManyTags));
        assert_eq!(key(&NATIVE, &"x".repeat(65), ""), Err(Refusal::BadName));
    }
}
