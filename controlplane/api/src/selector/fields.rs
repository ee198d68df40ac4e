//! Field selectors, as `k8s.io/apimachinery/pkg/fields` has them: `status.phase=Running,metadata.name!=a`.
//!
//! Must not know: which fields a kind lets select.

use std::fmt;

/// One condition on one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    pub field: String,
    pub value: String,
    /// `!=` rather than `=`.
    pub negated: bool,
}

/// All of its terms together.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    pub terms: Vec<Term>,
}

impl FieldSelector {
    /// A written selector; `\` escapes `,`, `=` and itself in values. Errors are upstream's.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = split_terms(text);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let Some((field, negated, value)) = split_term(part) else {
                return Err(format!("invalid selector: '{text}'; can't understand '{part}'"));
            };
            terms.push(Term { field: field.to_owned(), value: unescape(value)?, negated });
        }
        Ok(Self { terms })
    }

    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether fields, read through `get`, meet it; an absent field is empty.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.terms.iter().all(|term| (get(&term.field).unwrap_or_default() == term.value) != term.negated)
    }

    /// Whether an object's selectable fields (as `fields::selectable` gives them) meet it.
    pub fn matches(&self, fields: &[(&'static str, String)]) -> bool {
        self.matches_with(|name| fields.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str()))
    }

    /// The one value that `field` must have, if the selector asks for one: `metadata.name=x` makes a list a get.
    pub fn requires(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| term.field == field && !term.negated).map(|term| term.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            let operator = if term.negated { "!=" } else { "=" };
            let value = term.value.replace('\\', "\\\\").replace(',', "\\,").replace('=', "\\=");
            write!(f, "{}{}{operator}{value}", if i == 0 { "" } else { "," }, term.field)?;
        }
        Ok(())
    }
}

/// Splits at commas that no backslash protects.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut escaped) = (Vec::new(), 0, false);
    for (i, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let at = term.bytes().enumerate().find(|&(i, b)| b == b'=' || (b == b'!' && term[i..].starts_with("!=")))?.0;
    let (field, rest) = term.split_at(at);
    if let Some(value) = rest.strip_prefix("!=") {
        return Some((field, true, value));
    }
    let value = rest.strip_prefix("==").or_else(|| rest.strip_prefix('='))?;
    Some((field, false, value))
}

fn unescape(value: &str) -> Result<String, String> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next @ ('\\' | ',' | '=')) => plain.push(next),
                other => {
                    let sequence: String = ['\\'].into_iter().chain(other).collect();
                    return Err(format!("invalid field selector: invalid escape sequence: {sequence}"));
                }
            },
            // upstream prints the character's number
            ',' | '=' => {
                return Err(format!("invalid field selector: unescaped character in value: {}", u32::from(c)));
            }
            _ => plain.push(c),
        }
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_equal_or_not() {
        let selector = FieldSelector::parse("status.phase==Running,metadata.name!=a\\,b,spec.x=").expect("parses");
        assert_eq!(selector.to_string(), "metadata.name!=a\\,b,spec.x=,status.phase=Running");
        assert!(selector.matches(&[("status.phase", "Running".to_owned()), ("metadata.name", "c".to_owned())]));
        assert!(!selector.matches(&[("status.phase", "Running".to_owned()), ("metadata.name", "a,b".to_owned())]));
        assert_eq!(selector.requires("status.phase"), Some("Running"));
        assert_eq!(selector.requires("metadata.name"), None);
    }

    #[test]
    fn errors_are_upstreams() {
        let error = FieldSelector::parse("nonsense").expect_err("no operator");
        assert_eq!(error, "invalid selector: 'nonsense'; can't understand 'nonsense'");
        let error = FieldSelector::parse("a=b=c").expect_err("two operators");
        assert_eq!(error, "invalid field selector: unescaped character in value: 61");
        let error = FieldSelector::parse("a=b\\x").expect_err("unknown escape");
        assert_eq!(error, "invalid field selector: invalid escape sequence: \\x");
    }
}
