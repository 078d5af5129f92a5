//! Asks the tallyd of this machine over HTTP: one small request, one answer.

use crate::config::{Config, Loaded};
use crate::serve::tokens::{is_hashed, read_file};
use crate::tls;
use anyhow::Context as _;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Most of an answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: u16,
    /// The first line.
    pub(super) status: String,
    /// All lines before the body.
    pub(super) head: String,
    pub(super) body: String,
}

/// All addresses are reached by loopback.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// What shows that we may ask: the first token that the configuration or its files hold as it is, not as a hash.
pub(super) fn bearer(loaded: &Loaded) -> Option<String> {
    let of_files = || {
        let files = loaded.config.http.token_files.iter().filter_map(|path| read_file(path).ok());
        files.flatten().find(|token| !is_hashed(token))
    };
    let token = loaded.token.as_ref().map(|token| token.0.clone()).or_else(of_files)?;
    Some(format!("Bearer {token}"))
}

/// Asks a tallyd of ours: a request without a body, and its answer. Where it speaks TLS it must show the certificate of
/// the configuration.
pub(super) fn ask(
    config: &Config,
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    patience: Duration,
) -> io::Result<Answer> {
    let (host, stream) = (address.to_string(), connect(address, patience)?);
    let Some(files) = config.tls.as_ref().filter(|_| config.http.tls) else {
        return exchange(stream, &host, method, path, headers);
    };
    let client = Pinned::client(&files.certificate).map_err(io::Error::other)?;
    let name = ServerName::IpAddress(address.ip().into());
    let connection = ClientConnection::new(Arc::new(client), name).map_err(io::Error::other)?;
    exchange(StreamOwned::new(connection, stream), &host, method, path, headers)
}

/// Believes one certificate, whatever names stand in it: who has its key is who we were configured with.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn client(certificate: &Path) -> anyhow::Result<ClientConfig> {
        let provider = rustls::crypto::ring::default_provider();
        let algorithms = provider.signature_verification_algorithms;
        let first = tls::certificates(certificate)?.into_iter().next().context("there is no certificate")?;
        let pinned = Self { certificate: first, algorithms };
        let builder =
            ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions()?;
        Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(pinned)).with_no_client_auth())
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *shown == self.certificate {
            return Ok(ServerCertVerified::assertion());
        }
        Err(rustls::Error::General(
            "it shows another certificate than tls.certificate; SIGHUP has it read anew".into(),
        ))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn connect(address: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    Ok(stream)
}

/// Asks any server, by the name it goes by. HTTP 1.0 keeps the answer in one piece.
pub(super) fn send(
    address: SocketAddr,
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    patience: Duration,
) -> io::Result<Answer> {
    exchange(connect(address, patience)?, host, method, path, headers)
}

fn exchange(
    mut stream: impl Read + Write,
    host: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> io::Result<Answer> {
    let mut more = String::new();
    for (name, value) in headers {
        more.extend([name, ": ", value, "\r\n"]);
    }
    // In one piece: whoever answers early would break the second.
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.lines().next().unwrap_or("").to_owned();
    let code = status.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    Ok(Answer { code, status, head: head.to_owned(), body: body.to_owned() })
}
