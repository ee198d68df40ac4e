//! A path and a method as upstream's `RequestInfoFactory` reads them: which verb on which resource.
//!
//! Must not know: whether the resource exists, or who asks.

use http::Method;

use super::query::Query;

/// Source: `k8s.io/apiserver/pkg/endpoints/request/requestinfo.go`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestInfo {
    pub is_resource: bool,
    /// Percent-decoded.
    pub path: String,
    /// `get`, `list`, `deletecollection`, …; the lower-case HTTP method for paths that are no resource's.
    pub verb: String,
    pub group: String,
    pub version: String,
    /// Empty for cluster-scoped resources and across all namespaces.
    pub namespace: String,
    pub resource: String,
    pub subresource: String,
    /// Empty where the request is about many objects.
    pub name: String,
    /// Resource, name, subresource and what follows: the path that `…/proxy/…` forwards.
    pub parts: Vec<String>,
}

/// The path names a special verb and nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPath(pub String);

impl RequestInfo {
    /// `path` is still percent-encoded, as it came.
    pub fn new(method: &Method, path: &str, query: &Query) -> Result<Self, BadPath> {
        let decoded = decode(path);
        let mut info = Self { path: decoded, verb: method.as_str().to_ascii_lowercase(), ..Self::default() };
        // split first, decode after: an encoded slash belongs to its segment
        let all: Vec<String> = path.trim_matches('/').split('/').map(decode).collect();
        let Some(rest) = info.read_group(&all) else { return Ok(info) };
        info.is_resource = true;
        info.version = rest[0].clone();
        let rest = info.read_verb(method, &rest[1..], path)?;
        info.read_parts(rest);
        info.refine(query);
        Ok(info)
    }

    /// What follows `/api` or `/apis/<group>`; `None` where the path is no resource's.
    fn read_group<'a>(&mut self, all: &'a [String]) -> Option<&'a [String]> {
        match all.first().map(String::as_str) {
            Some("api") if all.len() >= 3 => Some(&all[1..]),
            Some("apis") if all.len() >= 4 => {
                self.group = all[1].clone();
                Some(&all[2..])
            }
            _ => None,
        }
    }

    fn read_verb<'a>(&mut self, method: &Method, rest: &'a [String], path: &str) -> Result<&'a [String], BadPath> {
        if matches!(rest[0].as_str(), "proxy" | "watch") {
            if rest.len() < 2 {
                return Err(BadPath(format!("unable to determine kind and namespace from url, {path}")));
            }
            self.verb = rest[0].clone();
            return Ok(&rest[1..]);
        }
        self.verb = match method.as_str() {
            "POST" => "create",
            "GET" | "HEAD" => "get",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            _ => "",
        }
        .to_owned();
        Ok(rest)
    }

    fn read_parts(&mut self, mut rest: &[String]) {
        if rest[0] == "namespaces" && rest.len() > 1 {
            self.namespace = rest[1].clone();
            if rest.len() > 2 && !matches!(rest[2].as_str(), "status" | "finalize") {
                rest = &rest[2..];
            }
        }
        self.parts = rest.to_vec();
        self.resource = rest[0].clone();
        self.name = rest.get(1).cloned().unwrap_or_default();
        if self.verb != "proxy" {
            self.subresource = rest.get(2).cloned().unwrap_or_default();
        }
    }

    /// A get or delete without a name is about many.
    fn refine(&mut self, query: &Query) {
        if self.name.is_empty() && self.verb == "get" {
            self.verb = if query.flag("watch") { "watch" } else { "list" }.to_owned();
            if let Some(name) = name_selected(query.get("fieldSelector").unwrap_or_default()) {
                self.name = name.to_owned();
            }
        }
        if self.name.is_empty() && self.verb == "delete" {
            self.verb = "deletecollection".to_owned();
        }
    }

    /// Requests that may last: no deadline, not counted among those in flight.
    pub fn is_long_running(&self) -> bool {
        matches!(self.verb.as_str(), "watch" | "proxy")
            || (self.is_resource
                && matches!(self.subresource.as_str(), "attach" | "exec" | "proxy" | "log" | "portforward"))
    }
}

/// The one name a field selector asks for, where it is a legal path segment.
fn name_selected(selector: &str) -> Option<&str> {
    let name = selector
        .split(',')
        .filter(|term| !term.contains("!="))
        .find_map(|term| term.strip_prefix("metadata.name="))
        .map(|name| name.trim_start_matches('='))?;
    let legal = !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '%', '\\']);
    legal.then_some(name)
}

fn decode(text: impl AsRef<str>) -> String {
    percent_encoding::percent_decode_str(text.as_ref()).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, target: &str) -> RequestInfo {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        RequestInfo::new(&method, path, &Query::parse(query)).unwrap()
    }

    fn short(method: &str, target: &str) -> String {
        let it = read(method, target);
        format!(
            "{} {}/{} ns={} {}/{} name={}",
            it.verb, it.group, it.version, it.namespace, it.resource, it.subresource, it.name
        )
    }

    #[test]
    fn resources_of_the_core_group_and_of_others() {
        assert_eq!(short("GET", "/api/v1/namespaces/a/pods"), "list /v1 ns=a pods/ name=");
        assert_eq!(short("GET", "/api/v1/pods?watch=1"), "watch /v1 ns= pods/ name=");
        assert_eq!(short("GET", "/api/v1/watch/pods"), "watch /v1 ns= pods/ name=");
        assert_eq!(short("PUT", "/apis/apps/v1/namespaces/a/deployments/d"), "update apps/v1 ns=a deployments/ name=d");
        assert_eq!(short("POST", "/api/v1/namespaces/a/pods/p/exec"), "create /v1 ns=a pods/exec name=p");
        assert_eq!(short("DELETE", "/api/v1/namespaces/a/pods"), "deletecollection /v1 ns=a pods/ name=");
    }

    #[test]
    fn a_namespace_is_a_resource_and_a_scope() {
        assert_eq!(short("GET", "/api/v1/namespaces/a"), "get /v1 ns=a namespaces/ name=a");
        assert_eq!(short("PUT", "/api/v1/namespaces/a/finalize"), "update /v1 ns=a namespaces/finalize name=a");
        assert_eq!(short("GET", "/api/v1/namespaces"), "list /v1 ns= namespaces/ name=");
    }

    #[test]
    fn a_field_selector_may_name_the_one_object() {
        let it = read("GET", "/api/v1/namespaces/a/pods?watch=true&fieldSelector=metadata.name%3Dp");
        assert_eq!((it.verb.as_str(), it.name.as_str()), ("watch", "p"));
        assert_eq!(read("GET", "/api/v1/pods?fieldSelector=metadata.name!%3Dp").name, "");
    }

    #[test]
    fn other_paths_are_no_resources() {
        for path in ["/", "/healthz", "/api", "/api/v1", "/apis/apps/v1", "/openapi/v3/apis/apps/v1"] {
            assert!(!read("GET", path).is_resource, "{path}");
        }
        assert!(RequestInfo::new(&Method::GET, "/api/v1/watch", &Query::parse("")).is_err());
    }

    #[test]
    fn names_are_decoded_after_the_path_is_split() {
        assert_eq!(read("GET", "/api/v1/nodes/a%2Fb").name, "a/b");
    }
}
