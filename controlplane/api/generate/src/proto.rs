//! Reads field numbers from a `generated.proto`: the source where a Go tag has none.
//!
//! Must not know: Go.

use std::collections::HashMap;

/// `(message, field) -> number`.
pub fn numbers(text: &str) -> HashMap<(String, String), u32> {
    let mut found = HashMap::new();
    let mut message = String::new();
    for line in text.lines().map(str::trim) {
        if line.starts_with("//") {
            continue;
        }
        if let Some(rest) = line.strip_prefix("message ") {
            message = rest.trim_end_matches('{').trim().to_owned();
        } else if let Some((name, number)) = field(line) {
            found.insert((message.clone(), name.to_owned()), number);
        }
    }
    found
}

/// `optional string name = 1;`
fn field(line: &str) -> Option<(&str, u32)> {
    let (head, tail) = line.strip_suffix(';')?.rsplit_once(" = ")?;
    Some((head.rsplit(' ').next()?, tail.parse().ok()?))
}
