//! The forms of names, labels and keys, with upstream's messages
//! (`k8s.io/apimachinery/pkg/util/validation` and `api/validate/content`).
//!
//! Must not know: which field is checked.

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";

/// How the name of a kind must look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameForm {
    Subdomain,
    Label,
    Label1035,
    PathSegment,
}

impl NameForm {
    /// What is wrong with `name`; with the beginning of one, where `prefix` says so.
    pub fn check(self, name: &str, prefix: bool) -> Vec<String> {
        // a generated suffix may follow, so a trailing dash or dot is well
        let masked = if prefix { masked(name) } else { name.to_owned() };
        match self {
            Self::Subdomain => subdomain(&masked),
            Self::Label => label(&masked),
            Self::Label1035 => label_1035(&masked),
            Self::PathSegment => path_segment(name, prefix),
        }
    }
}

fn masked(name: &str) -> String {
    match name.strip_suffix('-') {
        Some(start) if !start.is_empty() => format!("{start}a"),
        _ => name.to_owned(),
    }
}

fn too_long(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn regex_error(message: &str, format: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}'")).collect();
    match examples.as_slice() {
        [] => format!("{message} (regex used for validation is '{format}')"),
        _ => format!("{message} (e.g. {}, regex used for validation is '{format}')", examples.join(",  or ")),
    }
}

fn is_lower_alnum(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            is_lower_alnum(*first) && is_lower_alnum(*last) && bytes.iter().all(|b| is_lower_alnum(*b) || *b == b'-')
        }
        _ => false,
    }
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(is_label)
}

pub fn label(text: &str) -> Vec<String> {
    const MESSAGE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and \
                           must start and end with an alphanumeric character";
    let mut errors = Vec::new();
    if text.len() > 63 {
        errors.push(too_long(63));
    }
    if !is_label(text) {
        errors.push(match is_subdomain(text) {
            true => "must not contain dots".to_owned(),
            false => regex_error(MESSAGE, LABEL, &["my-name", "123-abc"]),
        });
    }
    errors
}

pub fn subdomain(text: &str) -> Vec<String> {
    const MESSAGE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
                           '.', and must start and end with an alphanumeric character";
    let mut errors = Vec::new();
    if text.len() > 253 {
        errors.push(too_long(253));
    }
    if !is_subdomain(text) {
        errors.push(regex_error(MESSAGE, &format!("{LABEL}(\\.{LABEL})*"), &["example.com"]));
    }
    errors
}

pub fn label_1035(text: &str) -> Vec<String> {
    const MESSAGE: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                           alphabetic character, and end with an alphanumeric character";
    let mut errors = Vec::new();
    if text.len() > 63 {
        errors.push(too_long(63));
    }
    if !is_label(text) || text.starts_with(|c: char| c.is_ascii_digit()) {
        errors.push(regex_error(MESSAGE, "[a-z]([-a-z0-9]*[a-z0-9])?", &["my-name", "abc-123"]));
    }
    errors
}

/// What may stand between two slashes of a URL.
pub fn path_segment(text: &str, prefix: bool) -> Vec<String> {
    if !prefix && matches!(text, "." | "..") {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"].into_iter().filter(|part| text.contains(part)).map(|part| format!("may not contain '{part}'")).collect()
}

/// `name` or `dns.subdomain/name`: keys of labels and annotations, finalizers.
pub fn qualified(text: &str) -> Vec<String> {
    let parts: Vec<&str> = text.split('/').collect();
    let mut errors = Vec::new();
    let name = match parts.as_slice() {
        [name] => *name,
        [prefix, name] => {
            match prefix.is_empty() {
                true => errors.push("prefix part must be non-empty".to_owned()),
                false => errors.extend(subdomain(prefix).into_iter().map(|e| format!("prefix part {e}"))),
            }
            *name
        }
        _ => {
            let message = "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start \
                           and end with an alphanumeric character";
            let error = regex_error(message, QUALIFIED, &["MyName", "my.name", "123-abc"]);
            return vec![format!("{error} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')")];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        errors.push(format!("name part {}", too_long(63)));
    }
    if !is_qualified_name(name) {
        let message = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
                       with an alphanumeric character";
        errors.push(regex_error(message, QUALIFIED, &["MyName", "my.name", "123-abc"]));
    }
    errors
}

const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

fn is_qualified_name(text: &str) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(first), Some(last)) => {
            first.is_ascii_alphanumeric()
                && last.is_ascii_alphanumeric()
                && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        }
        _ => false,
    }
}

pub fn label_value(text: &str) -> Vec<String> {
    const MESSAGE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
                           '.', and must start and end with an alphanumeric character";
    let mut errors = Vec::new();
    if text.len() > 63 {
        errors.push(too_long(63));
    }
    if !text.is_empty() && !is_qualified_name(text) {
        let format = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
        errors.push(regex_error(MESSAGE, format, &["MyValue", "my_value", "12345"]));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_subdomain_is_explained_as_upstream_does() {
        assert_eq!(
            subdomain("A"),
            [
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
              start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
              '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
    }

    #[test]
    fn the_beginning_of_a_name_may_end_in_a_dash() {
        assert!(NameForm::Subdomain.check("web-", true).is_empty());
        assert!(!NameForm::Subdomain.check("web-", false).is_empty());
    }

    #[test]
    fn keys_may_carry_a_prefix() {
        assert!(qualified("app.kubernetes.io/name").is_empty());
        assert!(qualified("Name_1").is_empty());
        assert_eq!(qualified("a/b/c").len(), 1);
        assert!(!qualified("/b").is_empty());
    }

    #[test]
    fn a_segment_of_a_path_stays_one() {
        assert!(path_segment("system:node", false).is_empty());
        assert_eq!(path_segment("a/b%", false), ["may not contain '/'", "may not contain '%'"]);
    }
}
