//! What all encrypted connections of the program share: one provider, and whom they trust.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// The program installs its provider first thing in `main`; a test or bench that calls in deeper may not have.
pub(crate) fn install() {
    if CryptoProvider::get_default().is_none() {
        // Lost against another thread doing the same: then it is installed.
        let _ = ring::default_provider().install_default();
    }
}

/// The provider, for what takes one by hand.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    CryptoProvider::get_default().cloned().unwrap_or_else(|| Arc::new(ring::default_provider()))
}

/// The certificates of a PEM file, or of the machine. `key` is what names the file in the config, for people.
///
/// # Errors
/// The file cannot be read, or there is none to trust.
pub(crate) fn roots(file: Option<&Path>, key: &str) -> anyhow::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match file {
        Some(file) => {
            let reading = || format!("{key}: reading {}", file.display());
            for certificate in CertificateDer::pem_file_iter(file).with_context(reading)? {
                roots.add(certificate.with_context(reading)?).with_context(reading)?;
            }
            ensure!(!roots.is_empty(), "{key}: {} holds no certificate", file.display());
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            ensure!(!roots.is_empty(), "this machine trusts no certificates: name a file as `{key}`");
        }
    }
    Ok(roots)
}
