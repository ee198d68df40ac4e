//! A request as authorization sees it: who, which verb, on what.
//!
//! Must not know: how it is decided.

use super::UserInfo;

/// What is asked for. For a request that is not for a resource (`/healthz`), only `verb` and `path` are set.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    pub user: &'a UserInfo,
    /// Lower case: `get`, `list`, `create`, …; for non-resources the HTTP method.
    pub verb: &'a str,
    pub namespace: &'a str,
    pub group: &'a str,
    pub version: &'a str,
    pub resource: &'a str,
    pub subresource: &'a str,
    pub name: &'a str,
    pub path: &'a str,
    pub is_resource: bool,
}
