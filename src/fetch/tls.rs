//! TLS: who is believed is whom the machine believes, read once.

use super::FetchError;
use std::sync::{Arc, OnceLock};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

static CONNECTOR: OnceLock<Result<TlsConnector, String>> = OnceLock::new();

/// Speaks TLS over a connection.
pub(super) async fn wrap(stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, FetchError> {
    // Reading the certificates takes some milliseconds of disk, once.
    let connector = CONNECTOR.get_or_init(connector).clone().map_err(FetchError::Tls)?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| FetchError::Tls(error.to_string()))?;
    connector.connect(name, stream).await.map_err(|error| FetchError::Tls(error.to_string()))
}

fn connector() -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let problem = "this machine believes nobody; install the package ca-certificates, or name a file of \
                       certificates in SSL_CERT_FILE";
        return Err(problem.to_owned());
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
