//! A cluster's slots: which keys are where.

use redis::{Connection, ConnectionAddr, ConnectionInfo, RedisResult, Value};

use super::link::{array, int, text};

/// How many slots there are.
const SLOTS: u16 = 16_384;

/// Masters, by the slots they have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slots {
    /// First slot, last slot, `host:port`; in order.
    ranges: Vec<(u16, u16, String)>,
}

impl Slots {
    /// All of them at one master.
    pub(super) fn all_at(address: String) -> Self {
        Self { ranges: vec![(0, SLOTS - 1, address)] }
    }

    pub(super) fn master_of(&self, slot: u16) -> Option<&str> {
        let at = self.ranges.partition_point(|(_, last, _)| *last < slot);
        self.ranges.get(at).filter(|(first, _, _)| *first <= slot).map(|(_, _, address)| address.as_str())
    }
}

/// The slot of a hash tag: CRC-16 (XMODEM) of what stands between the braces.
pub(super) fn slot_of(tag: &[u8]) -> u16 {
    let mut crc = 0_u16;
    for byte in tag {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 };
        }
    }
    crc % SLOTS
}

/// Asks a node where the slots are.
pub(super) fn slots(connection: &mut Connection, asked: &ConnectionInfo) -> RedisResult<Slots> {
    let answer: Value = redis::cmd("CLUSTER").arg("SLOTS").query(connection)?;
    let own = match asked.addr() {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => host.clone(),
        _ => String::new(),
    };
    let mut ranges: Vec<_> = array(&answer).iter().filter_map(|range| read(range, &own)).collect();
    ranges.sort();
    Ok(Slots { ranges })
}

/// One range: first, last, then the master as host, port, …
fn read(range: &Value, own: &str) -> Option<(u16, u16, String)> {
    let [first, last, master, ..] = array(range) else {
        return None;
    };
    let [host, port, ..] = array(master) else {
        return None;
    };
    // A node that does not know its own address says nothing for it: it is where we asked.
    let host = text(host).filter(|host| !host.is_empty() && *host != "?").unwrap_or(own);
    Some((int(first)? as u16, int(last)? as u16, format!("{host}:{}", int(port)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_that_redis_computes() {
        // CLUSTER KEYSLOT of a real server.
        assert_eq!(slot_of(b"0"), 13_907);
        assert_eq!(slot_of(b"1"), 9_842);
        assert_eq!(slot_of(b"123456789"), 12_739);
    }

    #[test]
    fn masters_are_found_by_their_ranges() {
        let slots = Slots { ranges: vec![(0, 5, "a:1".to_owned()), (10, 12, "b:1".to_owned())] };
        assert_eq!(slots.master_of(0), Some("a:1"));
        assert_eq!(slots.master_of(5), Some("a:1"));
        assert_eq!(slots.master_of(7), None);
        assert_eq!(slots.master_of(12), Some("b:1"));
        assert_eq!(slots.master_of(13), None);
    }
}
