//! Where statsd listens: `servers`, or `server`, `address` and `port` at the top of the file.
//!
//! In come those keys; out come `ingest.udp`, `ingest.tcp` and `ingest.unix`. statsd listens on IPv4 where no
//! address is written; here that is every address there is, IPv6 too, which includes it. Knows nothing of
//! what is received.

use super::js::{Js, Object, field};
use super::problem::suggestion;
use super::translator::{Translator, destination, module_name, port_number};
use toml::Value;

/// Keys that describe a server.
const KEYS: [&str; 6] = ["server", "address", "address_ipv6", "port", "socket", "socket_mod"];

/// The addresses of all servers, by the key that they become.
#[derive(Default)]
struct Addresses {
    udp: Vec<Value>,
    tcp: Vec<Value>,
    unix: Vec<Value>,
}

pub(super) fn translate(translator: &mut Translator<'_>) {
    let mut addresses = Addresses::default();
    let top: Vec<(&'static str, &Js)> =
        KEYS.into_iter().filter_map(|key| translator.get(key).map(|written| (key, written))).collect();
    let (key, written) = match translator.truthy("servers") {
        Some(written @ Js::List(servers)) => {
            for (index, server) in servers.iter().enumerate() {
                match server {
                    Js::Object(fields) => {
                        warn_of_unknown(translator, index, fields);
                        addresses.add(translator, fields, &format!("servers[{index}]."));
                    }
                    other => translator.mistake(
                        &format!("servers[{index}]"),
                        other,
                        "this is no server",
                        "write {server: \"./servers/udp\", port: 8125}",
                    ),
                }
            }
            for (key, _) in top {
                translator.warn(format!("{key}: without effect beside servers, as in statsd"));
            }
            ("servers", written)
        }
        Some(written) => {
            return translator.mistake("servers", written, "this is no list", "write [{port: 8125}]");
        }
        None => {
            // Nothing is written: both programs have the same default.
            let Some((key, written)) = top.iter().min_by_key(|(key, _)| *key != "address").copied() else {
                return;
            };
            addresses.add(translator, translator.object(), "");
            (key, written)
        }
    };
    translator.put(("ingest", "udp"), Value::Array(addresses.udp), key, written);
    for (ours, list) in [("tcp", addresses.tcp), ("unix", addresses.unix)] {
        if !list.is_empty() {
            translator.put(("ingest", ours), Value::Array(list), key, written);
        }
    }
}

impl Addresses {
    /// Adds the server that `fields` describe.
    fn add(&mut self, translator: &mut Translator<'_>, fields: &Object, path: &str) {
        let truthy = |key: &str| field(fields, key).filter(|value| value.is_truthy());
        let server = truthy("server").map_or_else(|| "udp".to_owned(), Js::to_string);
        let stream = match module_name(&server, "./servers/") {
            "udp" => false,
            "tcp" => true,
            _ => {
                let written = Js::Text(server.clone());
                let cure = "write \"./servers/udp\" or \"./servers/tcp\"";
                translator.mistake(&format!("{path}server"), &written, "there is no such server", cure);
                false
            }
        };
        match truthy("socket") {
            Some(socket) if stream => return self.add_socket(translator, socket, truthy("socket_mod"), path),
            Some(_) => {
                translator.warn(format!("{path}socket: without effect for a UDP server, as in statsd"));
            }
            None => {}
        }
        let port = truthy("port").map_or(Some(8_125), port_number);
        if let (None, Some(written)) = (port, truthy("port")) {
            let cure = "write a number from 1 to 65535";
            translator.mistake(&format!("{path}port"), written, "this is no port", cure);
        }
        let host = truthy("address").map_or_else(|| "::".to_owned(), Js::to_string);
        let list = if stream { &mut self.tcp } else { &mut self.udp };
        list.push(destination(&host, port.or(Some(8_125))).into());
    }

    /// Adds a Unix socket, which takes the place of address and port.
    fn add_socket(
        &mut self,
        translator: &mut Translator<'_>,
        socket: &Js,
        permissions: Option<&Js>,
        path: &str,
    ) {
        let mode = permissions.map(|written| (written, mode(written)));
        if let Some((written, None)) = mode {
            let cure = "write them in quotes as for chmod, such as \"0770\"";
            translator.mistake(&format!("{path}socket_mod"), written, "these are no permissions", cure);
        }
        let suffix =
            mode.and_then(|(_, mode)| mode).map_or_else(String::new, |mode| format!("?mode={mode:o}"));
        self.unix.push(format!("stream:{socket}{suffix}").into());
    }
}

/// Permissions: text is octal, as for `chmod`, and a number is what it is, as Node has it.
fn mode(written: &Js) -> Option<u32> {
    let mode = match written {
        Js::Text(octal) => u32::from_str_radix(octal, 8).ok()?,
        Js::Number(number) if number.fract() == 0.0 && *number > 0.0 => *number as u32,
        _ => return None,
    };
    (mode <= 0o777).then_some(mode)
}

fn warn_of_unknown(translator: &mut Translator<'_>, index: usize, fields: &Object) {
    for (key, _) in fields.iter().filter(|(key, _)| !KEYS.contains(&key.as_str())) {
        let near = suggestion(key, KEYS).map_or_else(String::new, |near| format!(": did you mean {near}?"));
        translator.warn(format!("servers[{index}].{key} does nothing here{near}"));
    }
}
