//! TLS to servers that a given bundle of certificates, or the machine's own, vouches for.
//!
//! Must not know: what is asked of them.

use std::sync::Arc;

use anyhow::{Context as _, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WantsClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::ring;
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

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
    let trusted: Vec<CertificateDer<'static>>;
    let mut roots = RootCertStore::empty();
    if bundle.is_empty() {
        let system = std::fs::read(SYSTEM).with_context(|| format!("reading {SYSTEM}"))?;
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&system).filter_map(Result::ok));
        trusted = Vec::new();
    } else {
        trusted = CertificateDer::pem_slice_iter(bundle).filter_map(Result::ok).collect();
        roots.add_parsable_certificates(trusted.iter().cloned());
    }
    ensure!(!roots.is_empty(), "unable to load root certificates: no certificate found");
    let provider = Arc::new(ring::default_provider());
    let issued = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build()?;
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier { issued, trusted })))
}

/// Takes what one of the trusted authorities issued, and the authority's own certificate where a server shows that: who
/// makes a certificate for a test makes one that is both, and Go's clients take it.
#[derive(Debug)]
struct Verifier {
    issued: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.issued.verify_server_cert(shown, between, name, ocsp, now) {
            // of an authority in a server's place, webpki says no more than that
            Err(Error::InvalidCertificate(CertificateError::Other(_)))
                if self.trusted.iter().any(|it| it.as_ref() == shown.as_ref()) =>
            {
                verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
                within_its_time(shown, now)
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.issued.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.issued.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.issued.supported_verify_schemes()
    }
}

fn within_its_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<ServerCertVerified, Error> {
    let parsed = x509_parser::parse_x509_certificate(certificate);
    let (_, parsed) = parsed.map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let (from, to) = (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
    match (now < from, now > to) {
        (true, _) => Err(Error::InvalidCertificate(CertificateError::NotValidYet)),
        (_, true) => Err(Error::InvalidCertificate(CertificateError::Expired)),
        _ => Ok(ServerCertVerified::assertion()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(bundle: &str, shown: &str, name: &'static str, now: u64) -> Result<ServerCertVerified, Error> {
        let trusted: Vec<_> = CertificateDer::pem_slice_iter(bundle.as_bytes()).map(Result::unwrap).collect();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(trusted.iter().cloned());
        let provider = Arc::new(ring::default_provider());
        let issued = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let shown = CertificateDer::from_pem_slice(shown.as_bytes()).unwrap();
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
        Verifier { issued, trusted }.verify_server_cert(&shown, &[], &name.try_into().unwrap(), &[], now)
    }

    /// What `openssl req -x509` makes: an authority and a server in one.
    #[test]
    fn a_certificate_that_is_trusted_itself_is_taken() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["s.n.svc".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let own = params.self_signed(&key).unwrap().pem();
        let other = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap().pem();
        let (within, before, after) = (1_750_000_000, 1_500_000_000, 2_000_000_000);
        assert!(judge(&own, &own, "s.n.svc", within).is_ok());
        assert!(judge(&own, &own, "t.n.svc", within).is_err());
        assert!(judge(&own, &own, "s.n.svc", before).is_err());
        assert!(judge(&own, &own, "s.n.svc", after).is_err());
        assert!(judge(&own, &other, "s.n.svc", within).is_err());
    }

    #[test]
    fn a_bundle_without_a_certificate_is_refused() {
        assert!(trusting(b"no PEM").is_err());
    }
}
