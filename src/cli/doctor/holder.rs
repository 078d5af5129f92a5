//! Who holds a port: the socket's number in /proc/net, then the process that has it open.

use super::Patient;
use std::fs;

/// Where the kernel lists sockets of a kind, and the state of one that waits for somebody (`st`).
pub(super) const UDP: ([&str; 2], &str) = (["/proc/net/udp", "/proc/net/udp6"], "07");
pub(super) const TCP: ([&str; 2], &str) = (["/proc/net/tcp", "/proc/net/tcp6"], "0A");

/// `statsd (process 4711)`, as far as we may know it.
pub(super) fn of(patient: &Patient, (tables, state): ([&str; 2], &str), port: u16) -> String {
    let inodes: Vec<String> = tables
        .iter()
        .filter_map(|table| patient.read(table))
        .flat_map(|text| inodes(&text, state, port))
        .collect();
    processes(patient, &inodes)
        .unwrap_or_else(|| "a process that we may not look at (root may: sudo tallyd doctor)".to_owned())
}

/// Numbers of sockets on a port: `sl local_address rem_address st … inode`, addresses in hexadecimal.
fn inodes(table: &str, state: &str, port: u16) -> Vec<String> {
    let ending = format!(":{port:04X}");
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let here = fields.get(1)?.ends_with(&ending) && *fields.get(3)? == state;
        here.then(|| fields.get(9).map(|inode| (*inode).to_owned())).flatten()
    };
    table.lines().skip(1).filter_map(inode).collect()
}

fn processes(patient: &Patient, inodes: &[String]) -> Option<String> {
    let sockets: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    for process in fs::read_dir(patient.path("/proc")).ok()?.flatten() {
        let Ok(files) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let holds = files.flatten().any(|file| {
            fs::read_link(file.path())
                .is_ok_and(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str()))
        });
        if holds {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {})", name.trim(), process.file_name().display()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found_by_port_and_state() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            1: 0100007F:1FBD 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n\
            2: 0100007F:1FBD 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 4712 1\n";
        assert_eq!(inodes(table, "0A", 8125), ["4711"]);
        assert!(inodes(table, "07", 8125).is_empty());
        assert!(inodes(table, "0A", 8126).is_empty());
    }
}
