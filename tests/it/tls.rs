//! TLS for HTTP and for lines over TCP, with clients that check the certificate, and some that speak no TLS at all.

use crate::books::{Books, refuses_to_start, seconds};
use crate::support::certificate::certify;
use crate::support::process::signal;
use crate::support::{Launch, free_port, time};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn launch() -> Launch {
    seconds("127.0.0.1:9", "").env("TALLYD_TLS_CERTIFICATE", "cert.pem").env("TALLYD_TLS_KEY", "key.pem")
}

/// A client that believes one certificate.
fn connect(port: u16, believed: &CertificateDer<'static>) -> io::Result<Tls> {
    let mut roots = RootCertStore::empty();
    roots.add(believed.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut client = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream);
    client.conn.complete_io(&mut client.sock)?;
    Ok(client)
}

fn get(port: u16, path: &str, believed: &CertificateDer<'static>) -> io::Result<String> {
    let mut client = connect(port, believed)?;
    write!(client, "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\r\n")?;
    let mut said = String::new();
    client.read_to_string(&mut said)?;
    Ok(said)
}

fn is_ready(port: u16, believed: &CertificateDer<'static>) -> bool {
    get(port, "/health/ready", believed).is_ok_and(|said| said.starts_with("HTTP/1.1 200"))
}

#[test]
fn http_speaks_tls_alone_and_takes_over_a_new_certificate() {
    let launch = launch().env("TALLYD_HTTP_TLS", "true");
    let first = certify(launch.dir());
    let tallyd = launch.start_unready();
    let port = tallyd.ports.http;
    assert!(time::wait_until(PATIENCE, || is_ready(port, &first)), "{}", tallyd.process.stderr());
    assert!(get(port, "/", &first).unwrap().contains("<html"));

    // Who speaks no TLS, or half of it, learns nothing and holds up nobody.
    let mut plain = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut said = Vec::new();
    // It is told in TLS that this is none, or cut off.
    plain.read_to_end(&mut said).ok();
    assert!(said.len() < 16 && !said.starts_with(b"HTTP"), "{}", said.escape_ascii());
    let silent: Vec<TcpStream> =
        (0..50).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()).collect();
    assert!(is_ready(port, &first));
    let started = time::now();
    for mut stream in silent {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // Its place is free again when the handshake was due.
        assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
    }
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());

    // Our own commands believe the certificate of the configuration.
    let health = |config: &Launch| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tallyd"));
        command.arg("health").current_dir(config.dir()).envs(config.environment().iter().cloned());
        command.output().unwrap()
    };
    let output = health(&launch);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let second = certify(launch.dir());
    let output = health(&launch);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("another certificate"), "{said}");
    signal("HUP", &tallyd.process.id().to_string());
    assert!(time::wait_until(PATIENCE, || is_ready(port, &second)));
    assert!(get(port, "/", &first).is_err());
    // One that cannot be used changes nothing.
    std::fs::write(launch.dir().join("cert.pem"), "nothing").unwrap();
    signal("HUP", &tallyd.process.id().to_string());
    let said = "the certificate is not reloaded, the old one stays";
    assert!(time::wait_until(PATIENCE, || tallyd.process.stderr().contains(said)));
    assert!(is_ready(port, &second));
}

#[test]
fn lines_come_over_tls_beside_plain_ones() {
    let port = free_port();
    let launch = launch().with_tcp().env("TALLYD_INGEST_TLS", &format!("127.0.0.1:{port}"));
    let believed = certify(launch.dir());
    let tallyd = launch.start();
    let mut client = connect(port, &believed).unwrap();
    client.write_all(b"paid:4900|c\npa").unwrap();
    Books::wait(&tallyd, |books| books.counted == 1);
    client.write_all(b"id:100|c\ncut").unwrap();
    Books::wait(&tallyd, |books| books.counted == 2);
    drop(client);
    Books::wait_total(&tallyd, 3).assert_refused(&[("unterminated", 1)]);
    tallyd.connect().write_all(b"plain:1|c\n").unwrap();
    Books::wait(&tallyd, |books| books.counted == 3);

    // Plain text where TLS is spoken counts nothing, and neither does who says nothing.
    let mut plain = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    plain.write_all(b"paid:1|c\npaid:1|c\n").unwrap();
    Books::wait_total(&tallyd, 5).assert_refused(&[("tls_handshake", 1), ("unterminated", 1)]);
    let _silent = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    Books::wait_total(&tallyd, 6).assert_refused(&[("tls_handshake", 2), ("unterminated", 1)]);
}

/// Half-open connections to TLS count under the cap that plain ones do, from the first byte on.
#[test]
fn connections_that_shake_no_hands_are_under_the_cap() {
    let port = free_port();
    let launch = launch().with_tcp().env("TALLYD_INGEST_TLS", &format!("127.0.0.1:{port}"));
    certify(launch.dir());
    let tallyd = launch.start();
    let most = tallyd::limits::STREAM_CONNECTIONS_MAX as u64;
    // All places but four are taken by plain connections, and they are known to be in.
    let mut plain: Vec<TcpStream> = (4..most).map(|_| tallyd.connect()).collect();
    for stream in &mut plain {
        stream.write_all(b"plain:1|c\n").unwrap();
    }
    Books::wait(&tallyd, |books| books.counted == most - 4);
    let half: Vec<TcpStream> =
        (0..44).map(|_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap()).collect();
    let refused = |books: &Books, reason: &str| books.refused.get(reason).copied().unwrap_or(0);
    let books = Books::wait(&tallyd, |books| {
        refused(books, "connection_limit") + refused(books, "tls_handshake") >= 44
    });
    assert!(refused(&books, "connection_limit") > 0, "{books:?}");
    // Those that had places gave them back when their handshake was due, and others come in.
    assert!(refused(&books, "tls_handshake") > 0, "{books:?}");
    let mut after = tallyd.connect();
    after.write_all(b"after:1|c\n").unwrap();
    Books::wait(&tallyd, |books| books.counted == most - 3);
    drop((half, plain));
}

#[test]
fn what_cannot_be_used_ends_the_start_and_shows_no_key() {
    let log = refuses_to_start(&seconds("127.0.0.1:9", "").env("TALLYD_HTTP_TLS", "true"));
    assert!(log.contains("tls.certificate") && log.contains("http.tls needs"), "{log}");
    let launch = launch().env("TALLYD_HTTP_TLS", "true");
    let log = refuses_to_start(&launch);
    assert!(log.contains("key.pem") && log.contains("tls.key"), "{log}");
    certify(launch.dir());
    std::fs::write(launch.dir().join("key.pem"), "-----BEGIN hunter2-----\nhunter2\n").unwrap();
    let log = refuses_to_start(&launch);
    assert!(log.contains("no private key") && !log.contains("hunter2"), "{log}");
    certify(launch.dir());
    let key = std::fs::read(launch.dir().join("key.pem")).unwrap();
    certify(launch.dir());
    std::fs::write(launch.dir().join("key.pem"), key).unwrap();
    let log = refuses_to_start(&launch);
    assert!(log.contains("tls.certificate and tls.key cannot be used"), "{log}");
}

#[test]
fn a_share_link_over_tls_becomes_a_cookie_for_tls_alone() {
    const HASH: &str = "sha256:ed7d0d70b16e638aa5efaeba71ba2e244b34398f9db8b351d858a318b86f68ec";
    let link = format!("[[link]]\nname = \"tv\"\npage = \"/\"\ntoken = \"{HASH}\"\nexpires = \"never\"\n");
    let launch = seconds("127.0.0.1:9", &link)
        .env("TALLYD_TLS_CERTIFICATE", "cert.pem")
        .env("TALLYD_TLS_KEY", "key.pem")
        .env("TALLYD_HTTP_TLS", "true");
    let certificate = certify(launch.dir());
    let tallyd = launch.start_unready();
    let port = tallyd.ports.http;
    assert!(time::wait_until(PATIENCE, || is_ready(port, &certificate)), "{}", tallyd.process.stderr());
    let said = get(port, "/link/a-share-link-of-this-test", &certificate).unwrap();
    let cookie = said.lines().find(|line| line.to_lowercase().starts_with("set-cookie:")).unwrap_or("none");
    assert!(cookie.ends_with("; Secure"), "{said}");
}
