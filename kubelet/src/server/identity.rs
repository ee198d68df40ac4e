//! Who a client certificate names, and the server's own TLS settings.
//!
//! Must not know: permissions.

use std::sync::Arc;

use anyhow::Context as _;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::ServerTls;

/// A user as access reviews take it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct User {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
}

impl User {
    pub fn anonymous() -> Self {
        Self { name: "system:anonymous".into(), uid: String::new(), groups: vec!["system:unauthenticated".into()] }
    }
}

/// The subject's common name is the user, its organizations are the groups. The chain was verified in the handshake.
pub fn of_certificates(chain: Option<&[CertificateDer<'_>]>) -> Option<User> {
    let first = chain?.first()?;
    let (_, certificate) = X509Certificate::from_der(first).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_string();
    let organizations = subject.iter_organization().filter_map(|one| one.as_str().ok().map(str::to_string));
    let groups = organizations.chain(["system:authenticated".to_string()]).collect();
    Some(User { name, uid: String::new(), groups })
}

/// # Errors
/// A certificate or key that cannot be read or used.
pub fn server_config(tls: &ServerTls) -> anyhow::Result<ServerConfig> {
    let chain = CertificateDer::pem_slice_iter(&tls.certificate)
        .collect::<Result<Vec<_>, _>>()
        .context("reading the serving certificate")?;
    let key = PrivateKeyDer::from_pem_slice(&tls.key).context("reading the serving certificate's key")?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for authority in CertificateDer::pem_slice_iter(ca) {
                roots.add(authority.context("reading the clients' authority")?)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).context("using the serving certificate")?;
    // upgrades (exec, port-forward) are HTTP/1.1
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
