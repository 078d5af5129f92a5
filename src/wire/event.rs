//! DogStatsD's other datagrams: events and service checks. They are recognised, checked and counted, so
//! that they are no bad lines; nothing more is made of them.
//!
//! ```text
//!   _e{TITLE_BYTES,TEXT_BYTES}:title|text|fields…      _sc|name|status|fields…      status 0 to 3
//! ```

/// What a line is, if it is neither a metric nor broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Other {
    Event,
    ServiceCheck,
}

/// Whether a line is an event or a service check; `Err` if it starts like one and is not.
pub(super) fn other(line: &[u8]) -> Option<Result<Other, ()>> {
    if let Some(rest) = line.strip_prefix(b"_e{") {
        return Some(event(rest).map(|()| Other::Event).ok_or(()));
    }
    let rest = line.strip_prefix(b"_sc|")?;
    Some(service_check(rest).map(|()| Other::ServiceCheck).ok_or(()))
}

fn event(rest: &[u8]) -> Option<()> {
    let (lengths, body) = split_once(rest, b'}')?;
    let (title, text) = split_once(lengths, b',')?;
    let (title, text) = (length(title)?, length(text)?);
    let body = body.strip_prefix(b":")?;
    let end = title.checked_add(1)?.checked_add(text)?;
    (title > 0
        && body.get(title) == Some(&b'|')
        && matches!(body.get(end), None | Some(b'|'))
        && body.len() >= end)
        .then_some(())
}

fn service_check(rest: &[u8]) -> Option<()> {
    let (name, rest) = split_once(rest, b'|')?;
    let status = rest.split(|&byte| byte == b'|').next()?;
    (!name.is_empty() && matches!(status, [b'0'..=b'3'])).then_some(())
}

fn length(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?
        .parse()
        .ok()
}

/// What stands before and behind the first `byte`.
#[inline]
pub(super) fn split_once(text: &[u8], byte: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(byte, text)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_and_checks_are_known_by_their_own_grammar() {
        assert_eq!(other(b"_e{5,4}:title|text"), Some(Ok(Other::Event)));
        assert_eq!(other(b"_e{5,4}:title|text|#a:b|p:low"), Some(Ok(Other::Event)));
        assert_eq!(other(b"_sc|db|0|#a:b"), Some(Ok(Other::ServiceCheck)));
        for bad in [
            &b"_e{5,4}:titl|text"[..],
            b"_e{5,4}:title|tex",
            b"_e{x,4}:title|text",
            b"_e{5}:title|text",
            b"_e{0,4}:|text",
            b"_e{99999999999999999999,1}:a|b",
            b"_sc|db",
            b"_sc|db|9",
            b"_sc||1",
        ] {
            assert_eq!(other(bad), Some(Err(())), "{}", String::from_utf8_lossy(bad));
        }
        assert_eq!(other(b"_e:1|c"), None);
        assert_eq!(other(b"_sc:1|c"), None);
    }
}
