//! TLS to servers that a given bundle of certificates, or the machine's own, vouches for.
//!
//! Must not know: what is asked of them.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rustls::client::WantsClientCert;
use rustls::crypto::ring;
use rustls::{ClientConfig, ConfigBuilder, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::authority::Pair;

/// Where Debian and most others keep the authorities that the machine trusts.
const SYSTEM: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Trusts the certificates of `bundle` (PEM), or the machine's where it is empty.
///
/// # Errors
/// Where there is no certificate to trust.
pub fn trusting(bundle: &[u8]) -> anyhow::Result<Arc<ClientConfig>> {
    Ok(Arc::new(verifying(bundle)?.with_no_client_auth()))
}

/// As [`trusting`], showing a certificate to servers that ask for one.
///
/// # Errors
/// As [`trusting`]'s, and where `shown` is no pair.
pub fn trusting_as(bundle: &[u8], shown: &Pair) -> anyhow::Result<Arc<ClientConfig>> {
    let (chain, key) = shown.parse()?;
    Ok(Arc::new(verifying(bundle)?.with_client_auth_cert(chain, key)?))
}

fn verifying(bundle: &[u8]) -> anyhow::Result<ConfigBuilder<ClientConfig, WantsClientCert>> {
    let system;
    let bundle = if bundle.is_empty() {
        system = std::fs::read(SYSTEM).with_context(|| format!("reading {SYSTEM}"))?;
        system.as_slice()
    } else {
        bundle
    };
    let mut roots = RootCertStore::empty();
    let read = CertificateDer::pem_slice_iter(bundle).filter_map(Result::ok);
    let (taken, _) = roots.add_parsable_certificates(read);
    ensure!(taken > 0, "unable to load root certificates: no certificate found");
    Ok(ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_without_a_certificate_is_refused() {
        assert!(trusting(b"no PEM").is_err());
    }
}
