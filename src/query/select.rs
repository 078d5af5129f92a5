//! Which series a pattern means: `shop.*.orders;plan=pro;country!=de`.
//!
//! The form is that of a series' key. A filter's value is a pattern too; `tag=` wants the tag to be absent, `tag=*`
//! to be there, and `!=` the opposite of either. Tags without a filter may be whatever they are.

use super::Problem;
use super::glob::Glob;
use crate::limits;
use crate::metric::Series;

/// The tags of a key's tag part (`;plan=pro;bare`), in its order; a bare one has no value.
pub(super) fn tags(part: &str) -> impl DoubleEndedIterator<Item = (&str, &str)> {
    part.split(';').filter(|tag| !tag.is_empty()).map(|tag| tag.split_once('=').unwrap_or((tag, "")))
}

/// The value of a tag in a key's tag part: the last one, should there be several.
pub(super) fn tag<'a>(part: &'a str, name: &str) -> Option<&'a str> {
    tags(part).rfind(|(tag, _)| *tag == name).map(|(_, value)| value)
}

/// A pattern for series.
#[derive(Clone, Debug, PartialEq)]
pub struct Selector {
    /// The part for the name, as it was written.
    pub(super) name_text: String,
    name: Glob,
    filters: Vec<Filter>,
}

#[derive(Clone, Debug, PartialEq)]
struct Filter {
    tag: String,
    negated: bool,
    /// `None` is absent.
    value: Option<Glob>,
}

impl Selector {
    /// Reads the pattern that `parameter` has.
    pub fn new(parameter: &str, pattern: &str) -> Result<Self, Problem> {
        let bad = |why: String| {
            Problem::new(
                parameter,
                format!("`{pattern}` is not a pattern: {why}"),
                "a name with * ? [a-z] {a,b} or ** in it, then filters such as ;plan=pro or ;country!=de; for several \
                 names repeat the parameter",
            )
        };
        if pattern.len() > limits::QUERY_PATTERN_BYTES_MAX {
            let error = format!("a pattern has at most {} bytes", limits::QUERY_PATTERN_BYTES_MAX);
            return Err(Problem::new(parameter, error, "shorten it, or write several"));
        }
        let mut parts = pattern.split(';');
        let name_text = parts.next().unwrap_or("").to_owned();
        if name_text.is_empty() {
            return Err(bad("the name is missing, and ** stands for any".to_owned()));
        }
        let name = Glob::new(&name_text, Some('.')).map_err(bad)?;
        let filters =
            parts.map(|part| Filter::new(part).map_err(bad)).collect::<Result<Vec<_>, Problem>>()?;
        Ok(Self { name_text, name, filters })
    }

    /// Whether a series is meant.
    #[must_use]
    pub fn matches(&self, series: &Series) -> bool {
        let (name, tags) = series.split();
        self.name.matches(name) && self.filters.iter().all(|filter| filter.passes(tags))
    }
}

impl Filter {
    fn new(part: &str) -> Result<Self, String> {
        let (tag, value) = part.split_once('=').ok_or_else(|| format!("`{part}` is not tag=value"))?;
        let (tag, negated) = tag.strip_suffix('!').map_or((tag, false), |tag| (tag, true));
        if tag.is_empty() {
            return Err(format!("`{part}` names no tag"));
        }
        let value = if value.is_empty() { None } else { Some(Glob::new(value, None)?) };
        Ok(Self { tag: tag.to_owned(), negated, value })
    }

    fn passes(&self, tags: &str) -> bool {
        let matches = match (&self.value, tag(tags, &self.tag)) {
            (None, value) => value.is_none_or(str::is_empty),
            (Some(_), None) => false,
            (Some(glob), Some(value)) => glob.matches(value),
        };
        matches != self.negated
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metric::Kind;

    fn selects(pattern: &str, key: &str) -> bool {
        Selector::new("name", pattern).unwrap().matches(&Series::new(Kind::Counter, key))
    }

    #[test]
    fn names_and_tags_are_filtered() {
        for (pattern, key) in [
            ("signups", "signups"),
            ("signups", "signups;plan=pro"),
            ("sign*;plan=p*", "signups;country=de;plan=pro"),
            ("signups;plan!=pro", "signups;plan=free"),
            ("signups;plan!=pro", "signups"),
            ("signups;plan=", "signups;country=de"),
            ("signups;plan!=*", "signups"),
            ("signups;plan=*", "signups;plan=pro"),
            ("a;v=1.*", "a;v=1.2.3"),
            ("a;v={x,y}", "a;v=y"),
            ("a;bare=*", "a;bare"),
        ] {
            assert!(selects(pattern, key), "{pattern} {key}");
        }
        for (pattern, key) in [
            ("signups;plan=pro", "signups"),
            ("signups;plan=*", "signups"),
            ("signups;plan!=pro", "signups;plan=pro"),
            ("signups;plan!=", "signups"),
            ("signups;plan=", "signups;plan=pro"),
            ("signups;plan!=*", "signups;plan=pro"),
            ("sign", "signups"),
        ] {
            assert!(!selects(pattern, key), "{pattern} {key}");
        }
    }

    #[test]
    fn what_is_not_a_pattern_is_refused() {
        for pattern in ["", ";a=b", "a;b", "a;=b", "a;!=b", "a,b", "a{", "a;t={b", &"x".repeat(1_025)] {
            let problem = Selector::new("name", pattern).unwrap_err();
            assert_eq!(problem.parameter, "name", "{pattern}");
        }
    }
}
