//! The five capability sets of a process.
//!
//! Must not know: which sets are sensible.

use std::io;

use anyhow::{Context, Result};
use nix::libc;
use oci_spec::runtime::{Capabilities, LinuxCapabilities};

use crate::sys::check;

const VERSION_3: u32 = 0x2008_0522;
/// The kernel numbers capabilities from 0; none has a higher number.
const HIGHEST: u8 = 63;

/// The sets, a bit per capability.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sets {
    pub bounding: u64,
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
    pub ambient: u64,
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The sets of a specification; without any, none.
pub fn sets(asked: Option<&LinuxCapabilities>) -> Sets {
    let Some(asked) = asked else { return Sets::default() };
    Sets {
        bounding: bits(asked.bounding()),
        effective: bits(asked.effective()),
        permitted: bits(asked.permitted()),
        inheritable: bits(asked.inheritable()),
        ambient: bits(asked.ambient()),
    }
}

fn bits(names: &Option<Capabilities>) -> u64 {
    let number = |name: String| name.parse::<caps::Capability>().ok().map(|capability| capability.index());
    names.iter().flatten().filter_map(|one| number(format!("CAP_{one}"))).fold(0, |bits, number| bits | 1 << number)
}

/// What this process may have at most.
fn permitted() -> io::Result<u64> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 fills two structs.
    check(unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) })?;
    Ok(u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32)
}

fn set(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| Data {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    };
    let data = [half(0), half(32)];
    // SAFETY: version 3 reads two structs.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) }).map(drop)
}

/// Keeps what is permitted through a change of user.
pub fn keep() -> Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, 1, 0).context("cannot keep capabilities")
}

/// Makes all that is permitted effective: after a change of user nothing is.
pub fn raise_all() -> Result<()> {
    let all = permitted().context("cannot read capabilities")?;
    set(all, all, 0).context("cannot raise capabilities")
}

/// Drops from the bounding set what it must not have.
pub fn bound(sets: Sets) -> Result<()> {
    for number in (0..=HIGHEST).filter(|number| sets.bounding & 1 << number == 0) {
        let known = prctl_value(libc::PR_CAPBSET_READ, number.into());
        if known == Some(1) {
            prctl(libc::PR_CAPBSET_DROP, number.into(), 0)
                .with_context(|| format!("cannot drop capability {number}"))?;
        }
    }
    Ok(())
}

/// Sets the sets for good. Of what this process has not, nothing is given.
pub fn drop_to(sets: Sets) -> Result<()> {
    let most = permitted().context("cannot read capabilities")?;
    let (permitted, inheritable) = (sets.permitted & most, sets.inheritable & most);
    set(sets.effective & permitted, permitted, inheritable).context("cannot set capabilities")?;
    prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0)
        .context("cannot clear ambient capabilities")?;
    let ambient = sets.ambient & permitted & inheritable;
    for number in (0..=HIGHEST).filter(|number| ambient & 1 << number != 0) {
        prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, number.into())
            .with_context(|| format!("cannot raise the ambient capability {number}"))?;
    }
    Ok(())
}

fn prctl_value(option: libc::c_int, argument: u64) -> Option<libc::c_int> {
    // SAFETY: takes and returns numbers.
    let value = unsafe { libc::prctl(option, argument, 0, 0, 0) };
    (value >= 0).then_some(value)
}

pub fn prctl(option: libc::c_int, first: u64, second: u64) -> io::Result<()> {
    // SAFETY: the options used here take numbers.
    check(unsafe { libc::prctl(option, first, second, 0, 0) }.into()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_bits_by_the_kernels_numbers() {
        let asked =
            serde_json::from_str(r#"{"bounding":["CAP_CHOWN","CAP_SYS_ADMIN"],"ambient":["CAP_KILL"]}"#).unwrap();
        let sets = sets(Some(&asked));
        assert_eq!((sets.bounding, sets.ambient, sets.permitted), (1 | 1 << 21, 1 << 5, 0));
    }
}
