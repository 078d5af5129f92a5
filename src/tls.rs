//! TLS for whoever listens: a certificate and its key, read from files, replaced while connections stand.
//!
//! In come two files of PEM; out come settings for handshakes. rustls does the rest, with ring: TLS 1.2 and 1.3, and no
//! library of the system. What a client shows of itself is not asked for.

use crate::limits;
use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, crypto};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Where a certificate and its key stand (`tls.certificate`, `tls.key`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The certificate, and behind it those that lead to its authority.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// A certificate or key that cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    /// The file does not read as PEM of that kind. Nothing of it is shown.
    #[error("{}: {cause} (from `{name}`)", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// The key of the configuration.
        name: &'static str,
        /// Why not.
        cause: String,
    },
    /// They do not belong together, or are of no use.
    #[error("tls.certificate and tls.key cannot be used: {0}")]
    Unfit(#[from] rustls::Error),
}

/// Settings for handshakes.
#[derive(Debug)]
pub struct Tls(ArcSwap<ServerConfig>);

impl Tls {
    /// Reads the files.
    pub fn load(files: &Files) -> Result<Self, TlsError> {
        Ok(Self(ArcSwap::new(read(files)?)))
    }

    /// Reads the files anew, for the connections that come. After an error the old ones stay.
    pub fn reload(&self, files: &Files) -> Result<(), TlsError> {
        self.0.store(read(files)?);
        Ok(())
    }

    /// Shakes hands with a client, which may not take longer than the limit.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let patience = Duration::from_secs(limits::TLS_HANDSHAKE_SECS);
        let handshake = TlsAcceptor::from(self.0.load_full()).accept(stream);
        timeout(patience, handshake).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }
}

/// The certificates of a file, the one of its server first.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |cause: String| TlsError::File { path: path.to_owned(), name: "tls.certificate", cause };
    let read = CertificateDer::pem_file_iter(path).map_err(|error| failed(error.to_string()))?;
    let all: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| failed(error.to_string()))?;
    if all.is_empty() {
        return Err(failed("it holds no certificate".to_owned()));
    }
    Ok(all)
}

fn read(files: &Files) -> Result<Arc<ServerConfig>, TlsError> {
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| {
        // The error of a wrong line may hold a part of it.
        let cause = match error {
            rustls::pki_types::pem::Error::Io(error) => error.to_string(),
            _ => "it holds no private key in PEM".to_owned(),
        };
        TlsError::File { path: files.key.clone(), name: "tls.key", cause }
    })?;
    let builder = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth();
    Ok(Arc::new(builder.with_single_cert(certificates(&files.certificate)?, key)?))
}
