//! carbon's files: sections of keys and values, as Python's `ConfigParser` reads them.

/// A section, with its keys in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) name: String,
    pairs: Vec<(String, String)>,
}

impl Section {
    /// The last value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.pairs.iter().rev().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}

/// Sections in the order of the file.
pub(super) fn read(text: &str) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(name, _)| name)
        {
            sections.push(Section { name: name.trim().to_owned(), pairs: Vec::new() });
        } else if let (Some(section), Some((key, value))) = (sections.last_mut(), line.split_once(['=', ':']))
        {
            section.pairs.push((key.trim().to_lowercase(), value.trim().to_owned()));
        }
    }
    sections
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_keys_and_comments() {
        let read = read("# head\nlost = 1\n[cache]\nMAX_CREATES = 50\n; no\nPATTERN: ^a=b\n\n[ x ]\nKEY =\n");
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].get("max_creates"), read[0].get("pattern")), (Some("50"), Some("^a=b")));
        assert_eq!((read[1].name.as_str(), read[1].get("key")), ("x", Some("")));
    }
}
