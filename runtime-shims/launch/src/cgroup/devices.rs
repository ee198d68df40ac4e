//! Which devices a container may make and open: the rules of its specification, and the harmless devices every
//! container has. Pure.
//!
//! runc also lets every container *make* any device node; nothing needs that, so it is not allowed here.
//! Must not know: how a kernel is told.

use anyhow::{Result, bail};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use pintle_systemd::{Property, Value};

/// The accesses of a rule, as bits of the kernel's BPF_DEVCG_ACC.
pub const MKNOD: u8 = 1;
pub const READ: u8 = 2;
pub const WRITE: u8 = 4;
pub const ALL: u8 = MKNOD | READ | WRITE;

/// null, zero, full, random, urandom, tty, ptmx, and every pseudo-terminal.
const HARMLESS: [(u32, Option<u32>); 8] =
    [(1, Some(3)), (1, Some(5)), (1, Some(7)), (1, Some(8)), (1, Some(9)), (5, Some(0)), (5, Some(2)), (136, None)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Any,
    Block,
    Char,
}

/// One rule; where several match, the last one counts. None is any number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub allow: bool,
    pub kind: Kind,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub access: u8,
}

const NONE: Rule = Rule { allow: false, kind: Kind::Any, major: None, minor: None, access: ALL };

/// The rules of a container, in order: nothing is allowed that no rule allows.
pub fn rules(asked: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>> {
    let mut all = vec![NONE];
    for one in asked {
        all.push(rule(one)?);
    }
    let harmless = |(major, minor)| Rule { allow: true, kind: Kind::Char, major: Some(major), minor, access: ALL };
    let harmless = HARMLESS.map(harmless);
    // they come last, and specifications name them too
    all.retain(|rule| !harmless.contains(rule));
    all.extend(harmless);
    // whatever stands before a rule for everything never counts
    let last_whole = all.iter().rposition(matches_everything).unwrap_or(0);
    Ok(all.split_off(last_whole))
}

/// Whether a rule is for every access to every device.
pub fn matches_everything(rule: &Rule) -> bool {
    Rule { allow: false, ..*rule } == NONE
}

fn rule(asked: &LinuxDeviceCgroup) -> Result<Rule> {
    let kind = match asked.typ() {
        None | Some(LinuxDeviceType::A) => Kind::Any,
        Some(LinuxDeviceType::B) => Kind::Block,
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => Kind::Char,
        Some(LinuxDeviceType::P) => bail!("a pipe is no device"),
    };
    let number = |number: Option<i64>| number.and_then(|number| u32::try_from(number).ok());
    let access = accesses(asked.access().as_deref().unwrap_or("rwm"))?;
    Ok(Rule { allow: asked.allow(), kind, major: number(asked.major()), minor: number(asked.minor()), access })
}

fn accesses(text: &str) -> Result<u8> {
    text.chars().try_fold(0, |bits, c| {
        Ok(bits
            | match c {
                'r' => READ,
                'w' => WRITE,
                'm' => MKNOD,
                _ => bail!("{text:?} is no access to a device: r, w, m"),
            })
    })
}

/// What cgroup v1 is told: `(file, line)`, in order.
pub fn lines(rules: &[Rule]) -> Vec<(&'static str, String)> {
    rules.iter().flat_map(lines_of).collect()
}

fn lines_of(rule: &Rule) -> Vec<(&'static str, String)> {
    let file = if rule.allow { "devices.allow" } else { "devices.deny" };
    if matches_everything(rule) {
        // a bare "a" is the one line that changes what holds by default
        return vec![(file, "a".to_owned())];
    }
    let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
    let letters = letters(rule.access);
    let kinds: &[char] = match rule.kind {
        Kind::Block => &['b'],
        Kind::Char => &['c'],
        Kind::Any => &['b', 'c'],
    };
    let line = |kind: &char| (file, format!("{kind} {}:{} {letters}", number(rule.major), number(rule.minor)));
    kinds.iter().map(line).collect()
}

/// What systemd is told of them, for whom devices are a controller of v1: it writes its own rules over the files' when
/// a unit beside this one has any, and at a reload.
///
/// It knows only what is allowed, so an allowed device that a later rule touches is not told: a reload may take it away,
/// never give it. What runc's driver tells it is the same, but for such rules.
pub fn properties(rules: &[Rule]) -> Vec<Property> {
    let whole = rules.iter().all(|rule| rule.allow) && rules.first().is_some_and(matches_everything);
    let policy = if whole { "auto" } else { "strict" };
    let mut allowed = Vec::new();
    for (at, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.allow && !whole && !matches_everything(rule)) {
        let later = rules.get(at + 1..).unwrap_or_default();
        if !later.iter().any(|other| !other.allow && overlap(rule, other)) {
            allowed.extend(entries(rule));
        }
    }
    let policy = Property::new("DevicePolicy", Value::Text(policy.into()));
    vec![policy, Property::new("DeviceAllow", Value::Pairs(allowed))]
}

fn overlap(one: &Rule, other: &Rule) -> bool {
    let number = |one: Option<u32>, other: Option<u32>| one.is_none() || other.is_none() || one == other;
    let kind = one.kind == Kind::Any || other.kind == Kind::Any || one.kind == other.kind;
    kind && number(one.major, other.major) && number(one.minor, other.minor) && one.access & other.access != 0
}

/// Devices as systemd names them: one by its path, all of a number by that, `char-136`. It has no name for a minor number
/// of any major.
fn entries(rule: &Rule) -> Vec<(String, String)> {
    let kinds: &[&str] = match rule.kind {
        Kind::Block => &["block"],
        Kind::Char => &["char"],
        Kind::Any => &["block", "char"],
    };
    let name = |kind: &&str| match (rule.major, rule.minor) {
        (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
        (Some(major), None) => Some(format!("{kind}-{major}")),
        (None, None) => Some(format!("{kind}-*")),
        (None, Some(_)) => None,
    };
    kinds.iter().filter_map(name).map(|name| (name, letters(rule.access))).collect()
}

fn letters(access: u8) -> String {
    [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')].iter().filter(|(bit, _)| access & bit != 0).map(|(_, c)| c).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(json: &str) -> Vec<LinuxDeviceCgroup> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn nothing_but_the_harmless_is_allowed_by_itself() {
        let lines = lines(&rules(&[]).unwrap());
        assert_eq!(lines[0], ("devices.deny", "a".to_owned()));
        assert_eq!(lines[1], ("devices.allow", "c 1:3 rwm".to_owned()));
        assert_eq!(lines.last().unwrap().1, "c 136:* rwm");
        assert!(lines[1..].iter().all(|(file, line)| *file == "devices.allow" && line.starts_with("c ")));
    }

    #[test]
    fn rules_keep_their_order_from_the_last_for_everything_on() {
        let rules = rules(&asked(
            r#"[{"allow":true,"type":"b","major":8,"minor":0,"access":"r"},{"allow":false,"access":"rwm"},
                {"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}]"#,
        ))
        .unwrap();
        let lines = lines(&rules);
        assert_eq!(lines[0].1, "a");
        assert_eq!(lines[1], ("devices.allow", "c 10:229 rw".to_owned()));
        assert!(!lines.iter().any(|(_, line)| line.contains("8:0")));
    }

    #[test]
    fn what_is_harmless_is_told_once() {
        let null = r#"{"allow":true,"type":"c","major":1,"minor":3,"access":"rwm"}"#;
        let asked = asked(&format!(r#"[{null},{{"allow":false,"type":"c","major":1,"minor":3}}]"#));
        let lines = lines(&rules(&asked).unwrap());
        let of_null: Vec<&str> = lines.iter().filter(|(_, line)| line == "c 1:3 rwm").map(|(file, _)| *file).collect();
        assert_eq!(of_null, ["devices.deny", "devices.allow"]);
    }

    #[test]
    fn a_privileged_container_is_allowed_everything() {
        let lines = lines(&rules(&asked(r#"[{"allow":true,"access":"rwm"}]"#)).unwrap());
        assert_eq!(lines[0], ("devices.allow", "a".to_owned()));
    }

    fn told(json: &str) -> String {
        let told = properties(&rules(&asked(json)).unwrap());
        let [policy, allow] = told.as_slice() else { panic!("{told:?}") };
        let (Value::Text(policy), Value::Pairs(allow)) = (&policy.value, &allow.value) else { panic!("{told:?}") };
        let own =
            allow.iter().filter(|(name, _)| !name.starts_with("/dev/char/1:") && !name.starts_with("/dev/char/5:"));
        own.fold(policy.clone(), |shown, (name, letters)| format!("{shown} {name}={letters}"))
    }

    #[test]
    fn systemd_is_told_what_is_allowed() {
        let some = r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"b","major":8,"minor":0,"access":"r"},
                       {"allow":true,"type":"c","major":10,"access":"rw"},{"allow":true,"type":"c","access":"m"},
                       {"allow":true,"type":"c","minor":7,"access":"m"}]"#;
        assert_eq!(told(some), "strict /dev/block/8:0=r char-10=rw char-*=m char-136=rwm");
        assert_eq!(told("[]"), "strict char-136=rwm");
        assert_eq!(told(r#"[{"allow":true,"access":"rwm"}]"#), "auto");
    }

    #[test]
    fn systemd_is_never_told_to_allow_what_is_forbidden() {
        let again =
            r#"[{"allow":true,"type":"b","major":8,"access":"rw"},{"allow":false,"type":"b","major":8,"minor":1}]"#;
        assert_eq!(told(again), "strict char-136=rwm");
        let all_but = r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"b","major":8,"minor":1}]"#;
        assert_eq!(told(all_but), "strict char-136=rwm");
    }

    #[test]
    fn accesses_are_three_letters() {
        assert!(rules(&asked(r#"[{"allow":true,"access":"rx"}]"#)).is_err());
    }
}
