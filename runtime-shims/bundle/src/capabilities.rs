//! Linux capabilities of a container's process.
//!
//! Must not know: which ones the kernel has, beyond what the host's facts say.

use std::str::FromStr;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};
use pintle_cri::v1::LinuxContainerSecurityContext;

use crate::Invalid;

const FIELD: &str = "linux.security_context.capabilities";

/// What a container has that asks for nothing: containerd's set, which is Docker's.
pub const DEFAULT: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// The sets of a container. `all` is what "ALL" and privileged mean: what the runtime itself can hand on.
///
/// "ALL" is taken first, so that single names still count beside it: add ALL, drop CHOWN is all but CHOWN. A name that
/// is added and dropped is dropped. Names come with or without `CAP_`, in any case. Ambient ones must be held.
pub(crate) fn of(context: &LinuxContainerSecurityContext, all: &[Capability]) -> Result<LinuxCapabilities, Invalid> {
    if context.privileged {
        return Ok(sets(all.iter().copied().collect(), Capabilities::new()));
    }
    let Some(asked) = &context.capabilities else { return Ok(default()) };
    let (add, add_all) = names("add_capabilities", &asked.add_capabilities)?;
    let (drop, drop_all) = names("drop_capabilities", &asked.drop_capabilities)?;
    let mut held: Capabilities = match (add_all, drop_all) {
        (_, true) => Capabilities::new(),
        (true, false) => all.iter().copied().collect(),
        (false, false) => DEFAULT.into_iter().collect(),
    };
    held.extend(add);
    held.retain(|capability| !drop.contains(capability));
    let ambient = ambient(&asked.add_ambient_capabilities, &held)?;
    Ok(sets(held, ambient))
}

pub(crate) fn default() -> LinuxCapabilities {
    sets(DEFAULT.into_iter().collect(), Capabilities::new())
}

fn sets(held: Capabilities, ambient: Capabilities) -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(held.clone()));
    sets.set_permitted(Some(held.clone()));
    sets.set_effective(Some(held));
    // The kernel lets only inheritable ones be ambient. Nothing else is inheritable (CVE-2022-24769).
    sets.set_inheritable(Some(ambient.clone()).filter(|ambient| !ambient.is_empty()));
    sets.set_ambient(Some(ambient).filter(|ambient| !ambient.is_empty()));
    sets
}

/// The capabilities named, and whether "ALL" is among them.
fn names(list: &str, names: &[String]) -> Result<(Capabilities, bool), Invalid> {
    let is_all = |name: &str| name.eq_ignore_ascii_case("ALL");
    let single = names.iter().filter(|name| !is_all(name));
    let found = single.map(|name| parse(list, name)).collect::<Result<_, _>>()?;
    Ok((found, names.iter().any(|name| is_all(name))))
}

fn parse(list: &str, name: &str) -> Result<Capability, Invalid> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    Capability::from_str(bare)
        .map_err(|_| Invalid::new(format!("{FIELD}.{list}"), format!("unknown capability {name:?}")))
}

fn ambient(asked: &[String], held: &Capabilities) -> Result<Capabilities, Invalid> {
    let (ambient, every) = names("add_ambient_capabilities", asked)?;
    if every {
        return Ok(held.clone());
    }
    match ambient.iter().find(|capability| !held.contains(capability)) {
        None => Ok(ambient),
        Some(missing) => {
            let reason = format!("CAP_{missing} is not among the container's capabilities, add it to add_capabilities");
            Err(Invalid::new(format!("{FIELD}.add_ambient_capabilities"), reason))
        }
    }
}

#[cfg(test)]
mod tests {
    use pintle_cri::v1::Capability as Asked;
    use proptest::prelude::*;

    use super::*;

    const ALL: [Capability; 4] = [Capability::Chown, Capability::SysAdmin, Capability::NetAdmin, Capability::Kill];

    fn held(add: &[&str], drop: &[&str], ambient: &[&str]) -> String {
        let own = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let capabilities = Some(Asked {
            add_capabilities: own(add),
            drop_capabilities: own(drop),
            add_ambient_capabilities: own(ambient),
        });
        match of(&LinuxContainerSecurityContext { capabilities, ..Default::default() }, &ALL) {
            Ok(sets) => format!("{} ambient {}", text(sets.bounding()), text(sets.ambient())),
            Err(error) => error.to_string(),
        }
    }

    fn text(set: &Option<Capabilities>) -> String {
        let mut names: Vec<_> = set.iter().flatten().map(ToString::to_string).collect();
        names.sort();
        names.join(",")
    }

    #[test]
    fn all_comes_first_and_single_names_count_beside_it() {
        assert_eq!(held(&["ALL"], &["CHOWN"], &[]), "KILL,NET_ADMIN,SYS_ADMIN ambient ");
        assert_eq!(held(&["net_admin"], &["all"], &[]), "NET_ADMIN ambient ");
        assert_eq!(held(&["CAP_NET_ADMIN"], &["ALL", "NET_ADMIN"], &[]), " ambient ");
        assert_eq!(held(&["ALL"], &["ALL"], &[]), " ambient ");
        assert!(held(&["SYS_ADMIN"], &["MKNOD"], &[]).starts_with("AUDIT_WRITE,CHOWN,"));
    }

    #[test]
    fn ambient_ones_are_inheritable_and_must_be_held() {
        assert_eq!(held(&["KILL"], &["ALL"], &["KILL"]), "KILL ambient KILL");
        assert_eq!(
            held(&[], &["ALL"], &["KILL"]),
            "linux.security_context.capabilities.add_ambient_capabilities: CAP_KILL is not among the container's \
             capabilities, add it to add_capabilities"
        );
    }

    #[test]
    fn an_unknown_name_is_told() {
        assert_eq!(
            held(&["FLY"], &[], &[]),
            "linux.security_context.capabilities.add_capabilities: unknown capability \"FLY\""
        );
    }

    #[test]
    fn privileged_has_what_the_runtime_has() {
        let sets = of(&LinuxContainerSecurityContext { privileged: true, ..Default::default() }, &ALL).unwrap();
        assert_eq!(text(sets.effective()), "CHOWN,KILL,NET_ADMIN,SYS_ADMIN");
        assert_eq!(*sets.ambient(), None);
    }

    proptest! {
        #[test]
        fn what_is_dropped_is_never_held(
            add in prop::sample::subsequence(vec!["ALL", "CHOWN", "SYS_ADMIN", "KILL"], 0..4),
            drop in prop::sample::subsequence(vec!["CHOWN", "SYS_ADMIN", "KILL"], 0..3),
        ) {
            let got = held(&add, &drop, &[]);
            for name in drop {
                prop_assert!(!got.split([',', ' ']).any(|held| held == name), "{got}");
            }
        }
    }
}
