//! Certificate authorities and what they issue.
//!
//! Must not know: where keys are kept.

use std::net::IpAddr;

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// How long an authority and, by default, a certificate last; kubeadm's values.
const AUTHORITY_DAYS: i64 = 3650;
pub const LEAF_DAYS: i64 = 365;
/// A certificate is valid a little before it is made: clocks differ.
const BACKDATE_SECONDS: i64 = 300;

/// A certificate and its private key, both PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Pair {
    /// The certificates, the holder's first, and the key, as TLS takes them.
    ///
    /// # Errors
    /// Where either is no PEM of its kind.
    pub fn parse(&self) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
        let chain = CertificateDer::pem_slice_iter(self.certificate.as_bytes()).collect::<Result<_, _>>();
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).context("reading a private key")?;
        Ok((chain.context("reading a certificate")?, key))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    Client,
    Server,
    Both,
}

/// What a certificate says. In Kubernetes a client's `common_name` is its user, its organization its group (rcgen
/// writes one value per attribute type, so one group it is).
#[derive(Debug, Clone)]
pub struct Leaf<'a> {
    pub common_name: &'a str,
    pub organization: Option<&'a str>,
    pub dns: &'a [String],
    pub ips: &'a [IpAddr],
    pub usage: Usage,
    pub days: i64,
}

impl<'a> Leaf<'a> {
    pub fn client(common_name: &'a str, organization: Option<&'a str>) -> Self {
        Self { common_name, organization, dns: &[], ips: &[], usage: Usage::Client, days: LEAF_DAYS }
    }

    pub fn server(common_name: &'a str, dns: &'a [String], ips: &'a [IpAddr]) -> Self {
        Self { common_name, organization: None, dns, ips, usage: Usage::Server, days: LEAF_DAYS }
    }
}

/// A certificate authority, able to sign.
pub struct Authority {
    pair: Pair,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new self-signed authority with an ECDSA P-256 key.
    pub fn create(common_name: &str) -> anyhow::Result<Self> {
        let key = KeyPair::generate().context("generating the authority's key")?;
        let mut params = params(common_name, None, AUTHORITY_DAYS);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).context("signing the authority's certificate")?.pem();
        Self::load(Pair { certificate, key: key.serialize_pem() })
    }

    /// An authority from its PEM files.
    pub fn load(pair: Pair) -> anyhow::Result<Self> {
        let key = KeyPair::from_pem(&pair.key).context("reading the authority's key")?;
        let issuer = Issuer::from_ca_cert_pem(&pair.certificate, key).context("reading the authority's certificate")?;
        Ok(Self { pair, issuer })
    }

    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    pub fn certificate_pem(&self) -> &str {
        &self.pair.certificate
    }

    /// A certificate with a key of its own.
    pub fn issue(&self, leaf: &Leaf<'_>) -> anyhow::Result<Pair> {
        let key = KeyPair::generate().context("generating a key")?;
        let certificate = leaf_params(leaf)?
            .signed_by(&key, &self.issuer)
            .with_context(|| format!("issuing a certificate for {:?}", leaf.common_name))?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Signs a PEM certificate request as it is asked for, valid from now for `seconds`.
    pub fn sign_request(&self, request_pem: &str, usage: Usage, seconds: i64) -> anyhow::Result<String> {
        let mut request =
            CertificateSigningRequestParams::from_pem(request_pem).context("reading the certificate request")?;
        set_validity(&mut request.params, seconds);
        request.params.extended_key_usages = purposes(usage);
        request.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        Ok(request.signed_by(&self.issuer).context("signing the certificate request")?.pem())
    }
}

fn params(common_name: &str, organization: Option<&str>, days: i64) -> CertificateParams {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, days * 86_400);
    params
}

fn set_validity(params: &mut CertificateParams, seconds: i64) {
    let now = time::OffsetDateTime::now_utc();
    params.not_before = now - time::Duration::seconds(BACKDATE_SECONDS);
    params.not_after = now + time::Duration::seconds(seconds);
}

fn leaf_params(leaf: &Leaf<'_>) -> anyhow::Result<CertificateParams> {
    let mut params = params(leaf.common_name, leaf.organization, leaf.days);
    for name in leaf.dns {
        let name = name.as_str().try_into().with_context(|| format!("{name:?} is not a DNS name"))?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    params.subject_alt_names.extend(leaf.ips.iter().copied().map(SanType::IpAddress));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = purposes(leaf.usage);
    Ok(params)
}

fn purposes(usage: Usage) -> Vec<ExtendedKeyUsagePurpose> {
    match usage {
        Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
        Usage::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
    }
}

/// What a certificate says of its holder: `(common name, organizations)`.
pub fn subject(certificate: &CertificateDer<'_>) -> anyhow::Result<(String, Vec<String>)> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).context("parsing a certificate")?;
    let name = parsed.subject();
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().map(str::to_owned).ok();
    let common_name = name.iter_common_name().next().and_then(text).unwrap_or_default();
    Ok((common_name, name.iter_organization().filter_map(text).collect()))
}

/// Seconds from now until a PEM certificate ends; negative once it has.
pub fn seconds_left(certificate_pem: &str, now: jiff::Timestamp) -> anyhow::Result<i64> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate_pem.as_bytes()).context("parsing PEM")?;
    let parsed = pem.parse_x509().context("parsing a certificate")?;
    Ok(parsed.validity().not_after.timestamp() - now.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_certificate_carries_user_and_group() {
        let authority = Authority::create("kubernetes").unwrap();
        let pair = authority.issue(&Leaf::client("alice", Some("admins"))).unwrap();
        let der = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap();
        assert_eq!(subject(&der).unwrap(), ("alice".into(), vec!["admins".into()]));
    }

    #[test]
    fn an_authority_survives_its_files() {
        let authority = Authority::create("kubernetes").unwrap();
        let again = Authority::load(authority.pair().clone()).unwrap();
        let pair = again.issue(&Leaf::client("bob", None)).unwrap();
        let left = seconds_left(&pair.certificate, jiff::Timestamp::now()).unwrap();
        assert!((LEAF_DAYS * 86_400 - 60..=LEAF_DAYS * 86_400).contains(&left));
    }
}
