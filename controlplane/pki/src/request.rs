//! What a certificate request (PKCS #10) asks for.
//!
//! Must not know: who may have it.

use std::net::IpAddr;

use anyhow::Context as _;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;

/// The subject and the alternative names of a request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns: Vec<String>,
    pub ips: Vec<IpAddr>,
    pub emails: Vec<String>,
    pub uris: Vec<String>,
}

impl Asked {
    /// Reads a request in PEM. An error where it is none.
    pub fn read(pem: &[u8]) -> anyhow::Result<Self> {
        let (_, block) = x509_parser::pem::parse_x509_pem(pem).context("PEM block type must be CERTIFICATE REQUEST")?;
        let is_request = matches!(block.label.as_str(), "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST");
        anyhow::ensure!(is_request, "PEM block type must be CERTIFICATE REQUEST");
        let (_, request) =
            X509CertificationRequest::from_der(&block.contents).context("parsing the certificate request")?;
        let subject = &request.certification_request_info.subject;
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().map(str::to_owned).ok();
        let mut asked = Self {
            common_name: subject.iter_common_name().next().and_then(text).unwrap_or_default(),
            organizations: subject.iter_organization().filter_map(text).collect(),
            ..Self::default()
        };
        for extension in request.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(names) = extension {
                names.general_names.iter().for_each(|name| asked.add(name));
            }
        }
        Ok(asked)
    }

    fn add(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::DNSName(name) => self.dns.push((*name).to_owned()),
            GeneralName::RFC822Name(name) => self.emails.push((*name).to_owned()),
            GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
            GeneralName::IPAddress(bytes) => self.ips.extend(address(bytes)),
            _ => {}
        }
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(four.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn a_request_says_who_and_where() {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "system:node:n");
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.subject_alt_names =
            vec![SanType::DnsName("n".try_into().unwrap()), SanType::IpAddress([10, 0, 0, 1].into())];
        let pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
        let asked = Asked::read(pem.as_bytes()).unwrap();
        assert_eq!(
            (asked.common_name.as_str(), asked.organizations.as_slice()),
            ("system:node:n", &["system:nodes".to_owned()][..])
        );
        assert_eq!((asked.dns, asked.ips), (vec!["n".to_owned()], vec![IpAddr::from([10, 0, 0, 1])]));
        assert!(Asked::read(b"no PEM").is_err());
    }
}
