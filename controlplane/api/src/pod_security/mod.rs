//! The Pod Security Standards: what a namespace's labels ask of its pods, and what a pod does that they forbid.
//!
//! Source: `k8s.io/pod-security-admission` (`api/helpers.go`, `policy/`); names, levels and words are upstream's.
//!
//! Must not know: who asks, or what becomes of the answer.

mod checks;
mod profiles;
mod subject;
#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::Value;

use crate::field::{Error, Errors, Path};
use subject::Subject;

/// How much a pod may do; less is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

/// `v1.<minor>`, or the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Minor(u32),
    Latest,
}

/// A standard: a level as of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standard {
    pub level: Level,
    pub version: Version,
}

/// What a namespace enforces, and what it warns of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    pub enforce: Standard,
    pub warn: Standard,
}

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
const WARN: &str = "pod-security.kubernetes.io/warn";
const AUDIT: &str = "pod-security.kubernetes.io/audit";

impl Level {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "privileged" => Ok(Self::Privileged),
            "baseline" => Ok(Self::Baseline),
            "restricted" => Ok(Self::Restricted),
            _ => Err("must be one of privileged, baseline, restricted".to_owned()),
        }
    }
}

impl Version {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let minor = text.strip_prefix("v1.").filter(|minor| *minor == "0" || !minor.starts_with('0'));
        let minor = minor.filter(|minor| minor.bytes().all(|byte| byte.is_ascii_digit()));
        let minor = minor.and_then(|minor| minor.parse().ok()).map(Self::Minor);
        minor.ok_or_else(|| "must be \"latest\" or \"v1.x\"".to_owned())
    }

    /// As a number that versions of checks compare with.
    fn minor(self) -> u32 {
        match self {
            Self::Minor(minor) => minor,
            Self::Latest => u32::MAX,
        }
    }
}

impl fmt::Display for Standard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        };
        match self.version {
            Version::Latest => write!(f, "{level}:latest"),
            Version::Minor(minor) => write!(f, "{level}:v1.{minor}"),
        }
    }
}

impl Policy {
    /// What a namespace's labels ask for, and what is wrong with them: a level to enforce that cannot be read is the
    /// strictest, one to warn of is none.
    pub fn of<'l>(label: impl Fn(&str) -> Option<&'l str>) -> (Self, Errors) {
        let none = Standard { level: Level::Privileged, version: Version::Latest };
        let (mut policy, mut errors) = (Self { enforce: none, warn: none }, Errors::new());
        let enforced = read(&label, ENFORCE, Level::Restricted, &mut policy.enforce, &mut errors);
        read(&label, AUDIT, Level::Privileged, &mut { none }, &mut errors);
        let warned = read(&label, WARN, Level::Privileged, &mut policy.warn, &mut errors);
        if warned.is_none() && enforced == Some(true) && policy.enforce.level > policy.warn.level {
            policy.warn.level = policy.enforce.level;
            if label(&format!("{WARN}-version")).is_none() {
                policy.warn.version = policy.enforce.version;
            }
        }
        (policy, errors)
    }

    pub fn is_privileged(&self) -> bool {
        self.enforce.level == Level::Privileged && self.warn.level == Level::Privileged
    }
}

/// Reads level and version of one mode; whether its level was there and could be read.
fn read<'l>(
    label: &impl Fn(&str) -> Option<&'l str>,
    mode: &str,
    otherwise: Level,
    standard: &mut Standard,
    errors: &mut Errors,
) -> Option<bool> {
    let path = Path::new("metadata").child("labels");
    let mut wrong = |key: &str, value: &str, why: String| errors.push(Error::invalid(&path.key(key), value, why));
    let level = label(mode).map(|text| {
        let level = Level::parse(text);
        standard.level = level.as_ref().copied().unwrap_or(otherwise);
        level.map_err(|why| wrong(mode, text, why)).is_ok()
    });
    let key = format!("{mode}-version");
    if let Some(text) = label(&key) {
        standard.version = Version::parse(text).unwrap_or_else(|why| {
            wrong(&key, text, why);
            Version::Latest
        });
    }
    level
}

/// Something that a standard forbids: in short, and who does it how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub reason: String,
    pub detail: String,
}

/// What a pod, or a template of pods, does that the standard forbids; upstream's checks in upstream's order.
pub fn violations(standard: Standard, pod: &Value) -> Vec<Violation> {
    let subject = Subject::new(pod, standard.version.minor());
    let active = |check: &&checks::Check| subject.minor >= check.since;
    let strict = || checks::RESTRICTED.iter().filter(active);
    let (baseline, restricted): (Vec<_>, Vec<_>) = match standard.level {
        Level::Privileged => return Vec::new(),
        Level::Baseline => (checks::BASELINE.iter().filter(active).collect(), Vec::new()),
        Level::Restricted => {
            let overridden = |check: &&checks::Check| strict().any(|other| other.overrides == Some(check.id));
            (checks::BASELINE.iter().filter(active).filter(|check| !overridden(check)).collect(), strict().collect())
        }
    };
    baseline.into_iter().chain(restricted).filter_map(|check| (check.test)(&subject)).collect()
}

/// `privileged (container "c" must not set …), host namespaces (hostPID=true)`.
pub fn details(violations: &[Violation]) -> String {
    let one = |violation: &Violation| match violation.detail.is_empty() {
        true => violation.reason.clone(),
        false => format!("{} ({})", violation.reason, violation.detail),
    };
    violations.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// `privileged, host namespaces`.
pub fn reasons(violations: &[Violation]) -> String {
    violations.iter().map(|violation| violation.reason.as_str()).collect::<Vec<_>>().join(", ")
}

/// Whether a pod has changed in what the standards look at: its containers and their images.
pub fn is_significant(new: &Value, old: &Value) -> bool {
    let images = |pod: &Value, list: &str| -> Vec<Value> {
        pod["spec"][list].as_array().into_iter().flatten().map(|one| one["image"].clone()).collect()
    };
    let plain = ["containers", "initContainers"].iter().any(|list| images(new, list) != images(old, list));
    let empty = Vec::new();
    let ephemeral = |pod: &'_ Value| pod["spec"]["ephemeralContainers"].as_array().cloned().unwrap_or(empty.clone());
    let before = ephemeral(old);
    let known = |one: &Value| before.iter().any(|was| was["name"] == one["name"] && was["image"] == one["image"]);
    plain || !ephemeral(new).iter().all(known)
}
