//! Server-sent events out of the pieces that a connection brings.
//!
//! In come bytes, cut anywhere; out come events, each with its name and data. Comments and fields that nobody here
//! needs are passed over. A line or an event beyond a bound is dropped, so that memory is bounded.

/// Largest event in bytes.
const EVENT_BYTES_MAX: usize = 4 << 20;

/// What has come of the next event.
#[derive(Debug, Default)]
pub(super) struct Events {
    line: Vec<u8>,
    name: String,
    data: String,
    /// The event is too large, so that the rest of it is passed over.
    dropped: bool,
}

impl Events {
    /// The events that a piece completes.
    pub(super) fn take(&mut self, piece: &[u8]) -> Vec<(String, String)> {
        let mut events = Vec::new();
        for byte in piece {
            if *byte != b'\n' {
                if self.line.len() < EVENT_BYTES_MAX {
                    self.line.push(*byte);
                } else {
                    self.dropped = true;
                }
                continue;
            }
            let line = std::mem::take(&mut self.line);
            events.extend(self.line(String::from_utf8_lossy(&line).trim_end_matches('\r')));
        }
        events
    }

    fn line(&mut self, line: &str) -> Option<(String, String)> {
        if line.is_empty() {
            let (name, data) = (std::mem::take(&mut self.name), std::mem::take(&mut self.data));
            let whole = !std::mem::take(&mut self.dropped);
            return (whole && !data.is_empty()).then_some((name, data));
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" if self.data.len() + value.len() < EVENT_BYTES_MAX => {
                if !self.data.is_empty() {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            "data" => self.dropped = true,
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_the_same_wherever_they_are_cut() {
        let text = b": hello\n\nevent: state\ndata: {\"a\":\ndata: 1}\nid: 4\n\nevent:beat\r\ndata:2\r\n\r\nevent: x\n\n";
        let expected = [("state".to_owned(), "{\"a\":\n1}".to_owned()), ("beat".to_owned(), "2".to_owned())];
        for size in 1..text.len() {
            let mut events = Events::default();
            let taken: Vec<_> = text.chunks(size).flat_map(|piece| events.take(piece)).collect();
            assert_eq!(taken, expected, "pieces of {size}");
        }
    }

    #[test]
    fn what_is_too_large_is_dropped_alone() {
        let mut events = Events::default();
        let mut text = b"data: ".to_vec();
        text.resize(EVENT_BYTES_MAX + 10, b'x');
        text.extend_from_slice(b"\n\nevent: beat\ndata: 1\n\n");
        assert_eq!(events.take(&text), [("beat".to_owned(), "1".to_owned())]);
    }
}
