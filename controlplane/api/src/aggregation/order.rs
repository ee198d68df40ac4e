//! The order in which groups and their versions are listed: by the APIServices' priorities, then by name and by
//! version. Source: `apiregistration/v1/helper` and `apimachinery/pkg/version` of upstream.
//!
//! Must not know: who serves a group.

use std::cmp::{Ordering, Reverse};

use super::GROUP;
use crate::discovery::Group;

/// A group and version that is served, with its APIService's priorities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub group: String,
    pub version: String,
    pub group_priority: i64,
    pub version_priority: i64,
}

/// The named groups, most wanted first, each with its versions in order; the group of APIServices is always first.
/// What is there twice counts once, as it was first.
pub fn groups(listed: impl IntoIterator<Item = Listed>) -> Vec<Group> {
    let mut all: Vec<(i64, String, Vec<Listed>)> = Vec::new();
    for it in listed.into_iter().filter(|it| !it.group.is_empty()) {
        match all.iter_mut().find(|(_, name, _)| *name == it.group) {
            None => all.push((it.group_priority, it.group.clone(), vec![it])),
            Some((_, _, versions)) if versions.iter().any(|known| known.version == it.version) => {}
            Some((priority, _, versions)) => {
                *priority = (*priority).max(it.group_priority);
                versions.push(it);
            }
        }
    }
    all.sort_by(|(a_priority, a, _), (b_priority, b, _)| {
        let key = |priority: &i64, name: &str| (Reverse(name == GROUP), Reverse(*priority));
        key(a_priority, a).cmp(&key(b_priority, b)).then_with(|| a.cmp(b))
    });
    let ordered = |(_, name, mut versions): (i64, String, Vec<Listed>)| {
        versions.sort_by(|a, b| {
            b.version_priority.cmp(&a.version_priority).then_with(|| versions_compared(&b.version, &a.version))
        });
        Group { name, versions: versions.into_iter().map(|it| it.version).collect() }
    };
    all.into_iter().map(ordered).collect()
}

/// `v2` is greater than `v1`, which is greater than `v10beta1`, `v1beta2`, `v1alpha1`, and all of them than other names;
/// of those the one first in the alphabet is.
fn versions_compared(a: &str, b: &str) -> Ordering {
    match (parsed(a), parsed(b)) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(_), None) => Ordering::Greater,
        (None, Some(_)) => Ordering::Less,
        (None, None) => b.cmp(a),
    }
}

/// Stability, major and minor number of `v1`, `v1beta2`.
fn parsed(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let (major, rest) = number(rest)?;
    let (stability, minor) = match (rest, rest.strip_prefix("alpha"), rest.strip_prefix("beta")) {
        ("", ..) => return Some((2, major, 0)),
        (_, Some(minor), _) => (0, minor),
        (_, _, Some(minor)) => (1, minor),
        _ => return None,
    };
    let (minor, end) = number(minor)?;
    end.is_empty().then_some((stability, major, minor))
}

/// A number without a leading zero, and what follows it.
fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    if digits.starts_with('0') {
        return None;
    }
    Some((digits.parse().ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(group: &str, version: &str, group_priority: i64, version_priority: i64) -> Listed {
        Listed { group: group.to_owned(), version: version.to_owned(), group_priority, version_priority }
    }

    #[test]
    fn groups_come_by_priority_and_versions_as_kubernetes_counts_them() {
        let found = groups([
            listed("b.example.com", "v1", 1000, 100),
            listed("a.example.com", "v1alpha1", 1000, 100),
            listed("a.example.com", "v1", 10, 100),
            listed("a.example.com", "v10beta1", 1000, 100),
            listed("a.example.com", "old", 1000, 101),
            listed("apps", "v1", 17800, 15),
            listed("apps", "v1", 1, 1),
            listed("", "v1", 18000, 1),
            listed("apiregistration.k8s.io", "v1", 0, 0),
        ]);
        let told: Vec<String> = found.iter().map(|it| format!("{} {}", it.name, it.versions.join(","))).collect();
        let expected =
            ["apiregistration.k8s.io v1", "apps v1", "a.example.com old,v1,v10beta1,v1alpha1", "b.example.com v1"];
        assert_eq!(told, expected);
    }

    #[test]
    fn names_that_are_no_versions_come_last() {
        let mut all = vec!["foo1", "v1", "v11alpha2", "foo10", "v10", "v12alpha1", "v3beta1", "v2", "v11beta2", "v0"];
        all.sort_by(|a, b| versions_compared(b, a));
        assert_eq!(all, ["v10", "v2", "v1", "v11beta2", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10", "v0"]);
    }
}
