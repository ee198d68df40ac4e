//! `$(NAME)` in commands, arguments, environment values and subPathExpr. Source: upstream's third_party expansion.
//!
//! Must not know: where the values come from.

/// Replaces every `$(NAME)` that `lookup` knows; `$$` is a dollar sign; anything else stays as written.
pub fn expand(text: &str, lookup: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        rest = if let Some(escaped) = after.strip_prefix('$') {
            out.push('$');
            escaped
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&format!("$({name})")),
            }
            tail
        } else {
            out.push('$');
            after
        };
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_expand_and_the_rest_stays() {
        let lookup = |name: &str| (name == "A").then(|| "1".to_string());
        let cases = [("x$(A)y", "x1y"), ("$$(A)", "$(A)"), ("$(B)", "$(B)"), ("$", "$"), ("$(A", "$(A"), ("$A", "$A")];
        for (from, to) in cases {
            assert_eq!(expand(from, &lookup), to, "{from}");
        }
    }
}
