//! Cgroups above containers as slices of systemd's (v2): what systemd manages is told to it as properties, so that it
//! does not take it back; the files are written as well, by the caller.
//!
//! Must not know: pods.

use anyhow::Context as _;
use pintle_systemd::{Error, Systemd, from_cgroup_file, names};
use tokio::runtime::{Handle, RuntimeFlavor};

/// A file of a cgroup and what it is to hold.
pub type Setting = (String, String);

/// The slice of nested levels, `kubepods-burstable.slice`; dashes within a level become underscores, as upstream's.
pub fn name(levels: &[String]) -> String {
    names::slice(levels.iter().map(String::as_str))
}

/// Where it is below the root, without the leading slash.
pub fn path(levels: &[String]) -> String {
    names::slice_path(&name(levels)).unwrap_or_default().trim_start_matches('/').to_owned()
}

/// Makes the slice, or changes the one that is there.
pub fn ensure(slice: &str, settings: &[Setting]) -> anyhow::Result<()> {
    let properties: Vec<_> = settings.iter().flat_map(|(file, value)| from_cgroup_file(file, value)).collect();
    ask(|systemd| systemd.ensure_slice(slice, &properties)).with_context(|| format!("slice {slice}"))
}

/// Stops the slice, and with it whatever is in it.
pub fn stop(slice: &str) -> anyhow::Result<()> {
    ask(|systemd| systemd.stop(slice)).with_context(|| format!("slice {slice}"))
}

/// systemd answers within milliseconds, or other tasks are to go on meanwhile.
fn ask(what: impl FnOnce(&mut Systemd) -> Result<(), Error>) -> Result<(), Error> {
    let ask = || what(&mut Systemd::connect()?);
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(ask),
        _ => ask(),
    }
}
