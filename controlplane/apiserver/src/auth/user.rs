//! An authenticated identity and the names that Kubernetes reserves.
//!
//! Must not know: how it was proven.

use std::collections::BTreeMap;

/// Holders may do anything: authorization is skipped.
pub const MASTERS: &str = "system:masters";
pub const AUTHENTICATED: &str = "system:authenticated";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
pub const ANONYMOUS: &str = "system:anonymous";
pub const NODES: &str = "system:nodes";
pub const NODE_PREFIX: &str = "system:node:";
pub const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";

/// Who a request comes from; a request extension that only authentication and the in-process client set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserInfo {
    pub name: String,
    pub uid: String,
    pub groups: Vec<String>,
    pub extra: BTreeMap<String, Vec<String>>,
}

impl UserInfo {
    /// `name` in `groups`, and in `system:authenticated` as everybody is who is known.
    pub fn new(name: impl Into<String>, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|&group| group.to_owned()).collect();
        groups.push(AUTHENTICATED.to_owned());
        Self { name: name.into(), groups, ..Self::default() }
    }

    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..Self::default() }
    }

    /// The API server itself, for what it does on nobody's behalf.
    pub fn apiserver() -> Self {
        Self::new("system:apiserver", &[MASTERS])
    }

    pub fn service_account(namespace: &str, name: &str, uid: &str) -> Self {
        let all = "system:serviceaccounts";
        let mut user =
            Self::new(format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}"), &[all, &format!("{all}:{namespace}")]);
        user.uid = uid.to_owned();
        user
    }

    pub fn is_in(&self, group: &str) -> bool {
        self.groups.iter().any(|held| held == group)
    }

    /// The node's name, where the user is a node's kubelet.
    pub fn node_name(&self) -> Option<&str> {
        self.name.strip_prefix(NODE_PREFIX).filter(|name| !name.is_empty() && self.is_in(NODES))
    }

    /// `(namespace, name)`, where the user is a service account.
    pub fn service_account_name(&self) -> Option<(&str, &str)> {
        self.name.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')
    }
}
