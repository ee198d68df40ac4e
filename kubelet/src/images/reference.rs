//! Image references: the default tag, and the registry part. Source: the distribution reference grammar.
//!
//! Must not know: registries.

/// The reference with `:latest` where it has neither tag nor digest.
///
/// # Errors
/// The text upstream's reference parser gives.
pub fn with_default_tag(image: &str) -> Result<String, String> {
    let wrong = |what: &str| Err(format!("couldn't parse image name \"{image}\": {what}"));
    if image.is_empty() {
        return wrong("invalid reference format");
    }
    let (name, digest) = match image.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (image, None),
    };
    if digest.is_some_and(|digest| !valid_digest(digest)) {
        return wrong("invalid reference format");
    }
    let (repository, tag) = split_tag(name);
    if tag.is_some_and(|tag| !valid_tag(tag)) {
        return wrong("invalid reference format");
    }
    let (_, path) = split_registry(repository);
    if path.chars().any(|one| one.is_ascii_uppercase()) {
        return wrong("invalid reference format: repository name must be lowercase");
    }
    if !path.split('/').all(valid_component) {
        return wrong("invalid reference format");
    }
    Ok(if tag.is_none() && digest.is_none() { format!("{image}:latest") } else { image.into() })
}

/// The tag is after a colon behind the last slash.
fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (name, None),
    }
}

/// The registry's host and the path: the first component is a host when it has a dot, a colon, or is `localhost`.
pub fn split_registry(repository: &str) -> (Option<&str>, &str) {
    match repository.split_once('/') {
        Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (Some(host), path),
        _ => (None, repository),
    }
}

fn valid_tag(tag: &str) -> bool {
    let allowed = |one: char| one.is_ascii_alphanumeric() || "_.-".contains(one);
    (1..=128).contains(&tag.len()) && !tag.starts_with(['.', '-']) && tag.chars().all(allowed)
}

fn valid_digest(digest: &str) -> bool {
    digest.split_once(':').is_some_and(|(algorithm, hex)| {
        !algorithm.is_empty() && hex.len() >= 32 && hex.chars().all(|one| one.is_ascii_hexdigit())
    })
}

fn valid_component(component: &str) -> bool {
    let allowed = |one: char| one.is_ascii_lowercase() || one.is_ascii_digit() || "._-".contains(one);
    let edge = |one: Option<char>| one.is_some_and(|one| one.is_ascii_lowercase() || one.is_ascii_digit());
    component.chars().all(allowed) && edge(component.chars().next()) && edge(component.chars().next_back())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_tag_is_added_where_nothing_else_says_which() {
        let of = |image: &str| with_default_tag(image).unwrap();
        assert_eq!(of("busybox"), "busybox:latest");
        assert_eq!(of("localhost:5000/a/b"), "localhost:5000/a/b:latest");
        assert_eq!(of("busybox:1.36"), "busybox:1.36");
    }

    #[test]
    fn broken_names_are_refused() {
        for image in ["", "UPPER/x", "a b", "x:", "x@sha256:zz", "-x"] {
            assert!(with_default_tag(image).unwrap_err().starts_with("couldn't parse image name"), "{image}");
        }
    }
}
