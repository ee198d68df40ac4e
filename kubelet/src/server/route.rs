//! The paths the server knows. Source: upstream's server.go.
//!
//! Must not know: what they answer.

use http::Uri;

/// A container by its pod's names; the UID only where the path has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub namespace: String,
    pub pod: String,
    pub uid: Option<String>,
    pub container: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    Healthz,
    Pods,
    Configz,
    Metrics,
    Summary,
    ResourceMetrics,
    CadvisorMetrics,
    ProbeMetrics,
    NodeLogs(String),
    ContainerLogs(Place),
    Exec(Place),
    Attach(Place),
    Run(Place),
    PortForward(Place),
    Checkpoint(Place),
}

impl Route {
    pub fn of(uri: &Uri) -> Option<Self> {
        let path = uri.path().trim_end_matches('/');
        let parts: Vec<&str> = path.split('/').skip(1).collect();
        Some(match parts.as_slice() {
            ["healthz" | "livez" | "readyz"] | ["healthz", "ping" | "log" | "syncloop"] => Self::Healthz,
            ["pods"] | ["runningpods"] => Self::Pods,
            ["configz"] => Self::Configz,
            ["metrics"] => Self::Metrics,
            ["metrics", "resource"] => Self::ResourceMetrics,
            ["metrics", "cadvisor"] => Self::CadvisorMetrics,
            ["metrics", "probes"] => Self::ProbeMetrics,
            ["stats", "summary"] => Self::Summary,
            ["logs", rest @ ..] => Self::NodeLogs(rest.join("/")),
            ["containerLogs", rest @ ..] => Self::ContainerLogs(place(rest)?),
            ["exec", rest @ ..] => Self::Exec(place(rest)?),
            ["attach", rest @ ..] => Self::Attach(place(rest)?),
            ["run", rest @ ..] => Self::Run(place(rest)?),
            ["checkpoint", namespace, pod, container] => {
                Self::Checkpoint(Place { container: (*container).into(), ..pod_place(namespace, pod, None) })
            }
            ["portForward", namespace, pod] => Self::PortForward(pod_place(namespace, pod, None)),
            ["portForward", namespace, pod, uid] => Self::PortForward(pod_place(namespace, pod, Some(uid))),
            _ => return None,
        })
    }
}

fn pod_place(namespace: &str, pod: &str, uid: Option<&str>) -> Place {
    Place { namespace: namespace.into(), pod: pod.into(), uid: uid.map(Into::into), container: String::new() }
}

fn place(parts: &[&str]) -> Option<Place> {
    let (place, container) = match parts {
        [namespace, pod, container] => (pod_place(namespace, pod, None), container),
        [namespace, pod, uid, container] => (pod_place(namespace, pod, Some(uid)), container),
        _ => return None,
    };
    Some(Place { container: (*container).into(), ..place })
}

/// The query's pairs, decoded.
pub fn query(uri: &Uri) -> Vec<(String, String)> {
    let pairs = uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(key, value)| (decode(key), decode(value)))
        .collect()
}

/// `%41` and `+`, as forms are encoded.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (byte, hex) {
            (b'%', Some(value)) => {
                out.push(value);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_queries_are_read() {
        let uri: Uri = "/exec/ns/p/u1/c?command=sh&command=-c&command=echo%20a%2Bb+c&tty=1".parse().unwrap();
        let place = Place { namespace: "ns".into(), pod: "p".into(), uid: Some("u1".into()), container: "c".into() };
        assert_eq!(Route::of(&uri), Some(Route::Exec(place)));
        let commands: Vec<String> =
            query(&uri).into_iter().filter(|(key, _)| key == "command").map(|(_, value)| value).collect();
        assert_eq!(commands, ["sh", "-c", "echo a+b c"]);
        assert_eq!(
            Route::of(&"/portForward/ns/p".parse().unwrap()),
            Some(Route::PortForward(pod_place("ns", "p", None)))
        );
        assert_eq!(Route::of(&"/nothing".parse().unwrap()), None);
    }
}
