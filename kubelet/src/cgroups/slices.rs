//! Cgroups above containers as slices of systemd's: what systemd manages is told to it as properties, so that it
//! does not take it back; the files are written as well, by the caller.
//!
//! Must not know: pods.

use anyhow::Context as _;
use pintle_systemd::{Error, Systemd, from_cgroup_files, names, round_quotas};
use tokio::runtime::{Handle, RuntimeFlavor};

/// A file of a cgroup and what it is to hold.
pub type Setting = (String, String);

/// The slice of nested levels, `kubepods-burstable.slice`; dashes within a level become underscores, as upstream's.
pub fn name(levels: &[String]) -> String {
    names::slice(levels.iter().map(String::as_str))
}

/// Where it is below the root, without the leading slash.
pub fn path(levels: &[String]) -> String {
    path_of(&name(levels))
}

/// Makes the slice, or changes the one that is there; and `settings` to what systemd makes of them.
pub fn ensure(slice: &str, settings: &mut [Setting]) -> anyhow::Result<()> {
    round_quotas(settings.iter_mut().map(|(file, value)| (file.as_str(), value)));
    let properties = from_cgroup_files(settings.iter().map(|(file, value)| (file.as_str(), value.as_str())));
    ask(|systemd| systemd.ensure_slice(slice, &properties)).with_context(|| format!("slice {slice}"))
}

/// Stops the slices, and with them whatever is in them; those that are not there are stopped.
pub fn stop(slices: &[String]) -> anyhow::Result<()> {
    ask(|systemd| slices.iter().try_for_each(|slice| systemd.stop(slice))).with_context(|| slices.join(", "))
}

/// The slices of pods below this level, whether or not their cgroups are there.
pub fn of_pods(level: &[String]) -> anyhow::Result<Vec<String>> {
    let name = name(level);
    let stem = name.strip_suffix(".slice").unwrap_or(&name);
    let mut found = Vec::new();
    ask(|systemd| systemd.units(&format!("{stem}-*pod*.slice")).map(|units| found = units))?;
    Ok(found)
}

/// Where a slice's cgroup is below the root, without the leading slash.
pub fn path_of(slice: &str) -> String {
    names::slice_path(slice).unwrap_or_default().trim_start_matches('/').to_owned()
}

/// systemd answers within milliseconds, or other tasks are to go on meanwhile.
fn ask(what: impl FnOnce(&mut Systemd) -> Result<(), Error>) -> Result<(), Error> {
    let ask = || what(&mut Systemd::connect()?);
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(ask),
        _ => ask(),
    }
}
