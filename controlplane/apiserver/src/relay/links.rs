//! Addresses that a proxied answer names, as its reader reaches them: through the proxy. Pure.
//! Source: `k8s.io/apimachinery/pkg/util/proxy/transport.go`.
//!
//! Must not know: where in an answer they stand.

/// What stands around one proxied request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Around {
    /// The path under which the other end's root is reached: `/api/v1/namespaces/a/pods/b/proxy`.
    pub prefix: String,
    /// The other end's host and port, as its own pages may name it.
    pub backend: String,
    /// The `Host` that the reader asked.
    pub asked: String,
}

/// An address in its parts: `scheme://authority/path?query#fragment`, of which any may be missing.
struct Address<'a> {
    /// With its colon.
    scheme: &'a str,
    authority: &'a str,
    path: &'a str,
    /// Query and fragment.
    tail: &'a str,
}

impl<'a> Address<'a> {
    fn split(text: &'a str) -> Self {
        let colon = text.find([':', '/', '?', '#']).filter(|at| text[*at..].starts_with(':'));
        let named = colon.filter(|at| text[..*at].chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)));
        let (scheme, rest) = text.split_at(named.map_or(0, |at| at + 1));
        let (authority, rest) = match rest.strip_prefix("//") {
            Some(after) => after.split_at(after.find(['/', '?', '#']).unwrap_or(after.len())),
            None => ("", rest),
        };
        let (path, tail) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
        Self { scheme, authority, path, tail }
    }
}

impl Around {
    /// The address that leads through the proxy; `None` where it is to stay as it is: another host's, a relative one.
    pub fn changed(&self, address: &str) -> Option<String> {
        let it = Address::split(address);
        let same_host = it.authority.is_empty() || it.authority == self.backend || it.authority == self.asked;
        if !same_host || !it.path.starts_with('/') {
            return None;
        }
        let keeps_host = !it.authority.is_empty() && it.authority == self.asked;
        let host = if keeps_host { format!("{}//{}", it.scheme, it.authority) } else { String::new() };
        let path = match it.path.starts_with(&self.prefix) {
            true => it.path.to_owned(),
            false => joined(&self.prefix, it.path),
        };
        Some(format!("{host}{path}{}", it.tail))
    }
}

/// Both paths as one, without empty, `.` and `..` segments; a slash at the end stays.
fn joined(prefix: &str, path: &str) -> String {
    let mut segments = Vec::new();
    for segment in prefix.split('/').chain(path.split('/')) {
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    let slash = if path.ends_with('/') { "/" } else { "" };
    format!("/{}{slash}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(address: &str) -> Option<String> {
        let around = Around {
            prefix: "/api/v1/namespaces/a/pods/p:80/proxy".to_owned(),
            backend: "10.244.0.5:80".to_owned(),
            asked: "localhost:8001".to_owned(),
        };
        around.changed(address)
    }

    #[test]
    fn addresses_of_the_same_host_lead_through_the_proxy() {
        let prefix = "/api/v1/namespaces/a/pods/p:80/proxy";
        assert_eq!(changed("/x/?a=b#c").unwrap(), format!("{prefix}/x/?a=b#c"));
        assert_eq!(changed("/x/../y").unwrap(), format!("{prefix}/y"));
        assert_eq!(changed("http://10.244.0.5:80/x").unwrap(), format!("{prefix}/x"));
        assert_eq!(changed("//10.244.0.5:80/x").unwrap(), format!("{prefix}/x"));
        assert_eq!(changed("http://localhost:8001/x").unwrap(), format!("http://localhost:8001{prefix}/x"));
        assert_eq!(changed(&format!("{prefix}/x")).unwrap(), format!("{prefix}/x"));
    }

    #[test]
    fn other_hosts_and_relative_addresses_stay() {
        for address in
            ["http://example.com/x", "x/y", "?a=b", "#top", "", "mailto:a@b", "javascript:x", "http://10.244.0.5:80"]
        {
            assert_eq!(changed(address), None, "{address}");
        }
    }
}
