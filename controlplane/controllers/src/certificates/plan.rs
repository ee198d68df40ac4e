//! Which requests the `kubernetes.io` signers sign: subject, names and usages as upstream demands them
//! (`pkg/apis/certificates/helpers.go`).
//!
//! Must not know: the API, keys, clocks.

use std::collections::BTreeSet;

use pintle_pki::Usage;
use pintle_pki::request::Asked;

pub const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
pub const LEGACY: &str = "kubernetes.io/legacy-unknown";

pub fn is_ours(signer: &str) -> bool {
    [CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY].contains(&signer)
}

/// Whether the signer may sign it, or why not.
pub fn check(signer: &str, asked: &Asked, usages: &[String]) -> Result<(), String> {
    let usages: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    match signer {
        KUBELET_CLIENT => kubelet_client(asked, &usages),
        KUBELET_SERVING => kubelet_serving(asked, &usages),
        CLIENT => {
            let allowed = ["digital signature", "key encipherment", "client auth"];
            let fine = usages.contains("client auth") && usages.iter().all(|usage| allowed.contains(usage));
            if fine { Ok(()) } else { Err(format!("invalid usages for client certificate: {}", listed(&usages))) }
        }
        _ => Ok(()),
    }
}

fn listed(usages: &BTreeSet<&str>) -> String {
    format!("[{}]", usages.iter().copied().collect::<Vec<_>>().join(" "))
}

fn of_a_node(asked: &Asked) -> Result<(), String> {
    if asked.organizations != ["system:nodes"] {
        return Err("subject organization is not system:nodes".to_owned());
    }
    Ok(())
}

fn named_as_a_node(asked: &Asked) -> Result<(), String> {
    let named = asked.common_name.starts_with("system:node:");
    if named { Ok(()) } else { Err("subject common name does not begin with system:node:".to_owned()) }
}

/// With or without the usage that only RSA keys need.
fn exactly(usages: &BTreeSet<&str>, purpose: &'static str) -> Result<(), String> {
    let required: BTreeSet<&str> = ["digital signature", "key encipherment", purpose].into();
    let mut without = required.clone();
    without.remove("key encipherment");
    if *usages == required || *usages == without {
        return Ok(());
    }
    Err(format!("usages did not match {}", listed(&required)))
}

/// The first kind of name that is there and may not be.
fn none_of(names: &[(bool, &str)]) -> Result<(), String> {
    match names.iter().find(|(there, _)| *there) {
        Some((_, kind)) => Err(format!("{kind} subjectAltNames are not allowed")),
        None => Ok(()),
    }
}

fn kubelet_client(asked: &Asked, usages: &BTreeSet<&str>) -> Result<(), String> {
    of_a_node(asked)?;
    none_of(&[
        (!asked.dns.is_empty(), "DNS"),
        (!asked.emails.is_empty(), "Email"),
        (!asked.ips.is_empty(), "IP"),
        (!asked.uris.is_empty(), "URI"),
    ])?;
    named_as_a_node(asked)?;
    exactly(usages, "client auth")
}

fn kubelet_serving(asked: &Asked, usages: &BTreeSet<&str>) -> Result<(), String> {
    of_a_node(asked)?;
    if asked.dns.is_empty() && asked.ips.is_empty() {
        return Err("DNS or IP subjectAltName is required".to_owned());
    }
    none_of(&[(!asked.emails.is_empty(), "Email"), (!asked.uris.is_empty(), "URI")])?;
    exactly(usages, "server auth")?;
    named_as_a_node(asked)
}

/// What the certificate is for.
pub fn usage(usages: &[String]) -> Usage {
    let has = |usage: &str| usages.iter().any(|one| one == usage);
    match (has("client auth"), has("server auth")) {
        (true, true) => Usage::Both,
        (false, true) => Usage::Server,
        _ => Usage::Client,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usages(last: &str) -> Vec<String> {
        vec!["digital signature".to_owned(), last.to_owned()]
    }

    #[test]
    fn a_kubelet_asks_as_itself() {
        let node = Asked {
            common_name: "system:node:n".to_owned(),
            organizations: vec!["system:nodes".to_owned()],
            ..Asked::default()
        };
        assert_eq!(check(KUBELET_CLIENT, &node, &usages("client auth")), Ok(()));
        assert_eq!(
            check(KUBELET_SERVING, &node, &usages("server auth")).unwrap_err(),
            "DNS or IP subjectAltName is required"
        );
        let named = Asked { dns: vec!["n".to_owned()], ..node.clone() };
        assert_eq!(check(KUBELET_SERVING, &named, &usages("server auth")), Ok(()));
        assert_eq!(
            check(KUBELET_CLIENT, &named, &usages("client auth")).unwrap_err(),
            "DNS subjectAltNames are not allowed"
        );
        assert_eq!(
            check(KUBELET_CLIENT, &node, &usages("server auth")).unwrap_err(),
            "usages did not match [client auth digital signature key encipherment]"
        );
        let other = Asked { organizations: vec!["admins".to_owned()], ..node };
        assert_eq!(
            check(KUBELET_CLIENT, &other, &usages("client auth")).unwrap_err(),
            "subject organization is not system:nodes"
        );
    }

    #[test]
    fn a_clients_certificate_is_for_clients() {
        assert_eq!(check(CLIENT, &Asked::default(), &usages("client auth")), Ok(()));
        assert!(check(CLIENT, &Asked::default(), &usages("server auth")).is_err());
    }
}
