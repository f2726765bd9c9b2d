//! What sources need to know of the network.

/// The program installs its TLS provider first thing in `main`; a test or bench that calls in here may not have.
pub(super) fn install_tls() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Lost against another thread doing the same: then it is installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

/// Whether a URL leads nowhere but to this machine.
pub(super) fn is_loopback(url: &str) -> bool {
    let host = reqwest::Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_default();
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}
