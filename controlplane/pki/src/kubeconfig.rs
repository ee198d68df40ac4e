//! kubeconfig files.
//!
//! Must not know: where they are written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::authority::Pair;

/// A kubeconfig with one cluster, user and context, everything inlined. `server` is a URL.
pub fn render(cluster: &str, server: &str, authority_pem: &str, user: &str, client: &Pair) -> anyhow::Result<String> {
    let data = |pem: &str| STANDARD.encode(pem);
    let context = format!("{user}@{cluster}");
    let config: Value = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": cluster, "cluster": {
            "server": server, "certificate-authority-data": data(authority_pem),
        }}],
        "users": [{ "name": user, "user": {
            "client-certificate-data": data(&client.certificate), "client-key-data": data(&client.key),
        }}],
        "contexts": [{ "name": context, "context": { "cluster": cluster, "user": user } }],
        "current-context": context,
    });
    Ok(serde_yaml_ng::to_string(&config)?)
}
