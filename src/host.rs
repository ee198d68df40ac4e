//! What Pintle changes on the host itself, noted before it is changed so that `pintle reset` can put it back.
//!
//! Must not know: who changes it.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// Settings below /proc/sys that parts write.
const SETTINGS: [&str; 3] =
    ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/bridge/bridge-nf-call-iptables"];
const NOTE: &str = "host-before";

/// Notes the settings as they are, unless that was done before: the first note is the one that counts.
pub fn note(data_dir: &Path) -> anyhow::Result<()> {
    let file = data_dir.join(NOTE);
    if file.exists() {
        return Ok(());
    }
    fs::create_dir_all(data_dir).with_context(|| format!("making {}", data_dir.display()))?;
    let lines = SETTINGS.iter().filter_map(|name| Some(format!("{name} {}\n", read(name)?)));
    fs::write(&file, lines.collect::<String>()).with_context(|| format!("writing {}", file.display()))
}

/// Puts the noted settings back; answers those that had changed.
pub fn restore(data_dir: &Path) -> anyhow::Result<Vec<String>> {
    let Ok(noted) = fs::read_to_string(data_dir.join(NOTE)) else { return Ok(Vec::new()) };
    let mut changed = Vec::new();
    for (name, before) in noted.lines().filter_map(|line| line.split_once(' ')) {
        if SETTINGS.contains(&name) && read(name).is_some_and(|now| now != before) {
            fs::write(Path::new("/proc/sys").join(name), before).with_context(|| format!("setting {name}"))?;
            changed.push(format!("{name} is {before} again"));
        }
    }
    Ok(changed)
}

fn read(name: &str) -> Option<String> {
    fs::read_to_string(Path::new("/proc/sys").join(name)).ok().map(|text| text.trim().to_owned())
}
