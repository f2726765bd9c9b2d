//! The certificate of the SQL server. When one is configured and cannot be used, there is no server.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use pgwire::tokio::TlsAcceptor;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What a client may negotiate without asking first (PostgreSQL 17).
const ALPN: &[u8] = b"postgresql";

/// A certificate chain with its key, as PEM.
pub struct Certificate {
    pub(super) pem: Vec<u8>,
    key: Vec<u8>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificate(***)")
    }
}

impl Certificate {
    /// # Errors
    /// A file cannot be read.
    pub fn read(cert: &Path, key: &Path) -> anyhow::Result<Self> {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("reading {}", path.display()));
        Ok(Certificate { pem: read(cert)?, key: read(key)? })
    }

    pub(super) fn acceptor(&self) -> anyhow::Result<TlsAcceptor> {
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&self.pem).collect::<Result<_, _>>().context("reading tls_cert")?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).context("reading tls_key")?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .context("choosing TLS versions")?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .context("using tls_cert with tls_key")?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
