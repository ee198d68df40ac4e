//! What names, keys and values may look like (`k8s.io/apimachinery/pkg/util/validation`). Every function answers
//! what is wrong with the value, in upstream's words; an empty list means that it is fine.
//!
//! Must not know: any kind, or which field it is.

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

/// What is wrong with a value.
pub type Problems = Vec<String>;

fn max_len(max: usize, unit: &str) -> String {
    format!("must be no more than {max} {unit}")
}

/// Upstream's `RegexError`; `msg`, then examples, then the expression.
pub fn mismatch(msg: &str, expression: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{msg} (regex used for validation is '{expression}')");
    }
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{msg} (e.g. {}regex used for validation is '{expression}')", examples.join(" or "))
}

fn lower(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn label_like(value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.first().copied().is_some_and(lower)
        && bytes.last().copied().is_some_and(lower)
        && bytes.iter().all(|&b| lower(b) || b == b'-')
}

fn subdomain_like(value: &str) -> bool {
    value.split('.').all(label_like)
}

/// A DNS label of at most 63 characters: namespaces, containers, volumes.
pub fn dns1123_label(value: &str) -> Problems {
    let mut problems = Problems::new();
    if value.len() > 63 {
        problems.push(max_len(63, "characters"));
    }
    if !label_like(value) {
        problems.push(if subdomain_like(value) {
            "must not contain dots".to_owned()
        } else {
            let msg = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                       start and end with an alphanumeric character";
            mismatch(msg, LABEL, &["my-name", "123-abc"])
        });
    }
    problems
}

/// A DNS subdomain of at most 253 characters: the names of most objects.
pub fn dns1123_subdomain(value: &str) -> Problems {
    subdomain(value, "characters")
}

fn subdomain(value: &str, unit: &str) -> Problems {
    let mut problems = Problems::new();
    if value.len() > 253 {
        problems.push(max_len(253, unit));
    }
    if !subdomain_like(value) {
        let msg = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
                   must start and end with an alphanumeric character";
        problems.push(mismatch(msg, &format!("{LABEL}(\\.{LABEL})*"), &["example.com"]));
    }
    problems
}

/// A DNS label that starts with a letter: Services.
pub fn dns1035_label(value: &str) -> Problems {
    let mut problems = Problems::new();
    if value.len() > 63 {
        problems.push(max_len(63, "characters"));
    }
    if !label_like(value) || !value.starts_with(|c: char| c.is_ascii_lowercase()) {
        let msg = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                   alphabetic character, and end with an alphanumeric character";
        problems.push(mismatch(msg, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"]));
    }
    problems
}

/// `*.example.com`: Ingress hosts.
pub fn wildcard_subdomain(value: &str) -> Problems {
    let mut problems = Problems::new();
    if value.len() > 253 {
        problems.push(max_len(253, "characters"));
    }
    if !value.strip_prefix("*.").is_some_and(subdomain_like) {
        let msg = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
                   consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        problems.push(mismatch(msg, &format!("\\*\\.{LABEL}(\\.{LABEL})*"), &["*.example.com"]));
    }
    problems
}

fn key_like(value: &str) -> bool {
    let bytes = value.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn key_mismatch() -> String {
    let msg = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
               character";
    mismatch(msg, KEY, &["MyName", "my.name", "123-abc"])
}

/// `name` or `prefix/name`: label and annotation keys, resources, finalizers, conditions.
pub fn qualified_name(value: &str) -> Problems {
    let mut problems = Problems::new();
    let parts: Vec<&str> = value.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".to_owned());
            } else {
                problems.extend(subdomain(prefix, "bytes").into_iter().map(|p| format!("prefix part {p}")));
            }
            name
        }
        _ => {
            let tail = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a valid label key {} {tail}", key_mismatch())];
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        problems.push(format!("name part {}", max_len(63, "bytes")));
    }
    if !key_like(name) {
        problems.push(format!("name part {}", key_mismatch()));
    }
    problems
}

/// The value of a label: empty, or like a key without prefix.
pub fn label_value(value: &str) -> Problems {
    let mut problems = Problems::new();
    if value.len() > 63 {
        problems.push(max_len(63, "bytes"));
    }
    if !value.is_empty() && !key_like(value) {
        let msg = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
                   must start and end with an alphanumeric character";
        problems.push(mismatch(msg, &format!("({KEY})?"), &["MyValue", "my_value", "12345"]));
    }
    problems
}

/// The name of a container's or Service's port as an IANA service name.
pub fn port_name(value: &str) -> Problems {
    let mut problems = Problems::new();
    if value.len() > 15 {
        problems.push(max_len(15, "characters"));
    }
    if value.is_empty() || !value.bytes().all(|b| lower(b) || b == b'-') {
        problems.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        problems.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        problems.push("must not begin or end with a hyphen".to_owned());
    }
    problems
}

/// A TCP, UDP or SCTP port.
pub fn port_number(port: i64) -> Problems {
    in_range(port, 1, 65535)
}

pub fn in_range(value: i64, low: i64, high: i64) -> Problems {
    if (low..=high).contains(&value) {
        Problems::new()
    } else {
        vec![format!("must be between {low} and {high}, inclusive")]
    }
}

/// A user or group: 0 to 2³¹-1.
pub fn user_id(id: i64) -> Problems {
    in_range(id, 0, i64::from(i32::MAX))
}

/// A key of a ConfigMap or Secret.
pub fn config_key(value: &str) -> Problems {
    let mut problems = Problems::new();
    if value.len() > 253 {
        problems.push(max_len(253, "characters"));
    }
    let fine = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if value.is_empty() || !value.bytes().all(fine) {
        let msg = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        problems.push(mismatch(msg, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    problems.extend(parent_folder(value));
    problems
}

fn parent_folder(value: &str) -> Option<String> {
    match value {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ if value.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

/// The name of an environment variable (any printable ASCII but `=`, as since 1.34).
pub fn env_var_name(value: &str) -> Problems {
    if value.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    if value.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        return Problems::new();
    }
    let msg = "a valid environment variable name must consist only of printable ASCII characters other than '='";
    vec![msg.to_owned()]
}

/// `25%`.
pub fn percent(value: &str) -> Problems {
    let digits = value.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Problems::new();
    }
    let msg = "a valid percent string must be a numeric string followed by an ending '%'";
    vec![mismatch(msg, "[0-9]+%", &["1%", "93%"])]
}

/// A name in a URL's path: RBAC objects and other names that need not be DNS names.
pub fn path_segment(value: &str) -> Problems {
    if matches!(value, "." | "..") {
        return vec![format!("may not be '{value}'")];
    }
    let bad = ["/", "%"].iter().filter(|c| value.contains(**c));
    bad.map(|c| format!("may not contain '{c}'")).collect()
}

/// An IPv4 or IPv6 address.
pub fn ip(value: &str) -> Problems {
    match value.parse::<std::net::IpAddr>() {
        Ok(_) => Problems::new(),
        Err(_) => vec!["must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)".to_owned()],
    }
}

/// `10.0.0.0/8`, `2001:db8::/64`.
pub fn cidr(value: &str) -> Problems {
    let fine = value.split_once('/').is_some_and(|(address, bits)| {
        let most = match address.parse() {
            Ok(std::net::IpAddr::V4(_)) => 32,
            Ok(std::net::IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        bits.parse::<u32>().is_ok_and(|bits| bits <= most)
    });
    if fine {
        return Problems::new();
    }
    vec!["must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)".to_owned()]
}

/// The name of an HTTP header.
pub fn http_header_name(value: &str) -> Problems {
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Problems::new();
    }
    let msg = "a valid HTTP header must consist of alphanumeric characters or '-'";
    vec![mismatch(msg, "[-A-Za-z0-9]+", &["X-Header-Name"])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_say_what_is_wrong_in_upstreams_words() {
        assert!(dns1123_label("web-1").is_empty());
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        let upper = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                     start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for \
                     validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
        assert_eq!(dns1123_label("Web"), [upper]);
    }

    #[test]
    fn qualified_names_may_have_one_prefix() {
        assert!(qualified_name("app.kubernetes.io/name").is_empty());
        assert_eq!(qualified_name("/name"), ["prefix part must be non-empty"]);
        assert!(qualified_name("a/b/c")[0].starts_with("a valid label key must consist of"));
        assert!(qualified_name("")[0].starts_with("name part must be non-empty"));
    }

    #[test]
    fn config_keys_are_file_names() {
        assert!(config_key("nginx.conf").is_empty());
        assert_eq!(config_key(".."), ["must not be '..'"]);
        assert!(!config_key("a/b").is_empty());
    }

    #[test]
    fn port_names_need_a_letter() {
        assert!(port_name("http-2").is_empty());
        assert_eq!(port_name("80"), ["must contain at least one letter (a-z)"]);
    }
}
