//! The cluster's certificates and keys: which there are and what each one says. Names and places are kubeadm's.
//!
//! Must not know: who serves or dials with them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use anyhow::Context as _;
use pintle_apiserver::config::FrontProxy;
use pintle_pki::files::{Folder, write_file};
use pintle_pki::{Authority, Leaf, Pair, kubeconfig};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::config::Config;

/// The name that the API server's certificate for aggregated APIs is of; kubeadm's.
const FRONT_PROXY: &str = "front-proxy-client";

/// Everything that proves who is who.
pub struct Identity {
    pub authority: Authority,
    pub apiserver: Pair,
    pub kubelet: Pair,
    /// What the API server shows to kubelets.
    pub kubelet_client: Pair,
    /// Vouches for the API server's own word about its clients, to the servers behind aggregated APIs.
    pub front_proxy_authority: Authority,
    pub front_proxy_client: Pair,
    /// Signs service-account tokens; PEM.
    pub token_key: String,
}

impl Identity {
    /// Reads what is there, makes what is missing, writes the administrator's kubeconfig.
    pub fn prepare(config: &Config) -> anyhow::Result<Self> {
        let folder = Folder::open(&config.data_dir.join("pki"))?;
        let authority = folder.authority("ca", "kubernetes")?;
        let (dns, ips) = apiserver_names(config);
        let apiserver = folder.certificate("apiserver", &authority, &Leaf::server("kube-apiserver", &dns, &ips))?;
        let node = format!("system:node:{}", config.node_name);
        let (node_dns, node_ips) = ([config.node_name.clone()], [config.advertise_address]);
        let kubelet = folder.certificate("kubelet", &authority, &Leaf::server(&node, &node_dns, &node_ips))?;
        let masters = Some("system:masters");
        let client = Leaf::client("kube-apiserver-kubelet-client", masters);
        let kubelet_client = folder.certificate("apiserver-kubelet-client", &authority, &client)?;
        let front_proxy_authority = folder.authority("front-proxy-ca", "front-proxy-ca")?;
        let front_proxy = Leaf::client(FRONT_PROXY, None);
        let front_proxy_client = folder.certificate("front-proxy-client", &front_proxy_authority, &front_proxy)?;
        let admin = folder.certificate("admin", &authority, &Leaf::client("kubernetes-admin", masters))?;
        write_kubeconfig(config, &authority, &admin)?;
        let token_key = folder.service_account_key()?;
        Ok(Self { authority, apiserver, kubelet, kubelet_client, front_proxy_authority, front_proxy_client, token_key })
    }

    /// How the API server meets its clients: they may show a certificate of our authority.
    pub fn apiserver_tls(&self) -> anyhow::Result<Arc<rustls::ServerConfig>> {
        let roots = Arc::new(roots(&self.authority)?);
        let verifier = rustls::server::WebPkiClientVerifier::builder(roots).allow_unauthenticated().build()?;
        let (chain, key) = self.apiserver.parse()?;
        let mut tls =
            rustls::ServerConfig::builder().with_client_cert_verifier(verifier).with_single_cert(chain, key)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(tls))
    }

    /// How the API server is known to the servers behind aggregated APIs.
    pub fn front_proxy(&self) -> FrontProxy {
        FrontProxy {
            client_authority: self.authority.certificate_pem().to_owned(),
            authority: self.front_proxy_authority.certificate_pem().to_owned(),
            name: FRONT_PROXY.to_owned(),
            certificate: self.front_proxy_client.clone(),
        }
    }

    /// How the API server dials kubelets.
    pub fn kubelet_client_tls(&self) -> anyhow::Result<Arc<rustls::ClientConfig>> {
        let (chain, key) = self.kubelet_client.parse()?;
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(roots(&self.authority)?)
            .with_client_auth_cert(chain, key)?;
        Ok(Arc::new(tls))
    }
}

/// The names and addresses clients reach the API server by.
fn apiserver_names(config: &Config) -> (Vec<String>, Vec<IpAddr>) {
    let service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"].map(str::to_owned);
    let full = format!("kubernetes.default.svc.{}", config.cluster_domain);
    let mut dns: Vec<String> =
        service.into_iter().chain([full, "localhost".into(), config.node_name.clone()]).collect();
    let mut ips = vec![config.kubernetes_ip.into(), config.advertise_address, Ipv4Addr::LOCALHOST.into()];
    for name in &config.tls_san {
        match name.parse() {
            Ok(ip) => ips.push(ip),
            Err(_) => dns.push(name.clone()),
        }
    }
    (dns, ips)
}

fn write_kubeconfig(config: &Config, authority: &Authority, admin: &Pair) -> anyhow::Result<()> {
    let server = match config.advertise_address {
        IpAddr::V4(ip) => format!("https://{ip}:{}", config.secure_port),
        IpAddr::V6(ip) => format!("https://[{ip}]:{}", config.secure_port),
    };
    let text = kubeconfig::render("pintle", &server, authority.certificate_pem(), "kubernetes-admin", admin)?;
    let path = &config.kubeconfig;
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    }
    write_file(path, text.as_bytes(), 0o600)
}

fn roots(authority: &Authority) -> anyhow::Result<rustls::RootCertStore> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes())?)?;
    Ok(roots)
}
