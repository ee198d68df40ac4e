//! Names of images, parsed and normalised as Docker and containerd do (distribution/reference's grammar).
//!
//! Must not know: registries' addresses, what is stored.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;
use crate::error::{Error, ErrorKind};

const DEFAULT_DOMAIN: &str = "docker.io";
const OFFICIAL: &str = "library";
const LONGEST_PATH: usize = 255;

/// A normalised reference: `domain/path:tag` or `domain/path@digest`. Of a reference with both, the digest counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    domain: String,
    path: String,
    object: Object,
}

/// What of a repository is meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    Tag(String),
    Digest(Digest),
}

impl Reference {
    /// The registry as the name says it: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The path in the registry: `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `domain/path`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    pub fn object(&self) -> &Object {
        &self.object
    }

    pub fn tag(&self) -> Option<&str> {
        match &self.object {
            Object::Tag(tag) => Some(tag),
            Object::Digest(_) => None,
        }
    }

    pub fn digest(&self) -> Option<&Digest> {
        match &self.object {
            Object::Tag(_) => None,
            Object::Digest(digest) => Some(digest),
        }
    }

    /// The same repository, by digest.
    #[must_use]
    pub fn with_digest(&self, digest: &Digest) -> Self {
        Self { object: Object::Digest(digest.clone()), ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.object {
            Object::Tag(tag) => write!(f, "{}/{}:{tag}", self.domain, self.path),
            Object::Digest(digest) => write!(f, "{}/{}@{digest}", self.domain, self.path),
        }
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).map_err(|why| {
            let shown: String = text.chars().take(300).collect();
            Error::new(ErrorKind::InvalidReference, why).context(format!("failed to parse image reference {shown:?}"))
        })
    }
}

fn parse(text: &str) -> Result<Reference, String> {
    if text.is_empty() {
        return Err("repository name must have at least one component".into());
    }
    if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(format!("invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"));
    }
    let (domain, remainder) = split_domain(text);
    let (named, digest) = match remainder.split_once('@') {
        Some((named, digest)) => (named, Some(digest)),
        None => (remainder.as_str(), None),
    };
    let (path, tag) = match named.split_once(':') {
        Some((path, tag)) => (path, Some(tag)),
        None => (named, None),
    };
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(format!("invalid reference format: repository name ({path}) must be lowercase"));
    }
    if !is_domain(&domain) || !path.split('/').all(is_path_component) || !tag.is_none_or(is_tag) {
        return Err("invalid reference format".into());
    }
    if path.len() > LONGEST_PATH {
        return Err(format!("repository name must not be more than {LONGEST_PATH} characters"));
    }
    Ok(Reference { domain, path: path.into(), object: object(tag, digest)? })
}

fn object(tag: Option<&str>, digest: Option<&str>) -> Result<Object, String> {
    match digest {
        Some(digest) if digest.contains(':') => digest.parse().map(Object::Digest).map_err(|error| error.to_string()),
        Some(_) => Err("invalid reference format".into()),
        None => Ok(Object::Tag(tag.unwrap_or("latest").into())),
    }
}

/// What is before the first slash is a registry if it looks like a host: a dot, a port, `localhost`, or upper case.
fn split_domain(name: &str) -> (String, String) {
    let host = name.split_once('/').filter(|(first, _)| {
        first.contains(['.', ':']) || *first == "localhost" || first.bytes().any(|byte| byte.is_ascii_uppercase())
    });
    let (domain, path) = host.unwrap_or((DEFAULT_DOMAIN, name));
    let domain = if domain == "index.docker.io" { DEFAULT_DOMAIN } else { domain };
    match domain == DEFAULT_DOMAIN && !path.contains('/') {
        true => (domain.into(), format!("{OFFICIAL}/{path}")),
        false => (domain.into(), path.into()),
    }
}

fn is_domain(domain: &str) -> bool {
    if let Some((address, port)) = domain.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let address = !address.is_empty() && address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':');
        return address && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (host, port) = domain.split_once(':').map_or((domain, None), |(host, port)| (host, Some(port)));
    host.split('.').all(is_domain_component) && port.is_none_or(is_port)
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_domain_component(part: &str) -> bool {
    let inner = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    inner && !part.is_empty() && !part.starts_with('-') && !part.ends_with('-')
}

/// Lower-case letters and digits, separated by `.`, `_`, `__` or dashes.
fn is_path_component(part: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = part.as_bytes();
    let ends = bytes.first().zip(bytes.last()).is_some_and(|(a, b)| alphanumeric(*a) && alphanumeric(*b));
    let separators = part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let separator = |it: &str| matches!(it, "" | "." | "_" | "__") || it.bytes().all(|byte| byte == b'-');
    ends && separators.into_iter().all(separator)
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let first = tag.bytes().next().is_some_and(word);
    first && tag.len() <= 128 && tag.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUM: &str = "sha256:ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff";

    fn normal(text: &str) -> String {
        text.parse::<Reference>().map_or_else(|error| format!("! {error}"), |it| it.to_string())
    }

    #[test]
    fn short_names_become_full_ones() {
        for (text, full) in [
            ("busybox", "docker.io/library/busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36"),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest"),
            ("docker.io/busybox", "docker.io/library/busybox:latest"),
            ("me/app", "docker.io/me/app:latest"),
            ("test.com:5000", "docker.io/library/test.com:5000"),
            ("test:5000/repo", "test:5000/repo:latest"),
            ("localhost/a/b:T_1.x-y", "localhost/a/b:T_1.x-y"),
            ("LOCAL/app", "LOCAL/app:latest"),
            ("[::1]:5000/app:1", "[::1]:5000/app:1"),
            ("a__b/c---d.e_f", "docker.io/a__b/c---d.e_f:latest"),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        ] {
            assert_eq!(normal(text), full, "{text}");
        }
    }

    #[test]
    fn of_tag_and_digest_the_digest_counts() {
        assert_eq!(normal(&format!("a.io/b:1@{SUM}")), format!("a.io/b@{SUM}"));
        assert_eq!(normal(&format!("b@{SUM}")), format!("docker.io/library/b@{SUM}"));
    }

    #[test]
    fn what_is_no_reference_says_why() {
        let hex = "f".repeat(64);
        for (text, why) in [
            ("", "at least one component"),
            (hex.as_str(), "64-byte hexadecimal"),
            ("Busybox", "must be lowercase"),
            ("a.io/B", "must be lowercase"),
            (":tag", "invalid reference format"),
            ("a:", "invalid reference format"),
            ("a//b", "invalid reference format"),
            ("a.io/../b", "invalid reference format"),
            ("a/b_-c", "invalid reference format"),
            ("-a.io/b", "invalid reference format"),
            ("a b", "invalid reference format"),
            ("a@sha256:12", "invalid checksum digest length"),
            ("a@12", "invalid reference format"),
        ] {
            let shown = normal(text);
            assert!(shown.starts_with('!') && shown.contains(why), "{text:?}: {shown}");
        }
        assert!(normal(&format!("{}b", "a/".repeat(200))).contains("255"));
    }
}
