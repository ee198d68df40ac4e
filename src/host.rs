//! What Pintle changes on the host itself, noted before it is changed so that `pintle reset` can put it back.
//!
//! Must not know: who changes it.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

/// Settings below /proc/sys that parts write, beside every link's `accept_ra`.
const SETTINGS: [&str; 4] = [
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/send_redirects",
    "net/ipv6/conf/all/forwarding",
    "net/bridge/bridge-nf-call-iptables",
];
const LINKS: &str = "net/ipv6/conf";
const NOTE: &str = "host-before";

/// Notes the settings as they are, unless that was done before: the first note is the one that counts.
pub fn note(data_dir: &Path) -> anyhow::Result<()> {
    let file = data_dir.join(NOTE);
    if file.exists() {
        return Ok(());
    }
    fs::create_dir_all(data_dir).with_context(|| format!("making {}", data_dir.display()))?;
    let fixed = SETTINGS.iter().map(|name| (*name).to_owned());
    let lines = fixed.chain(of_links()).filter_map(|name| Some(format!("{name} {}\n", read(&name)?)));
    fs::write(&file, lines.collect::<String>()).with_context(|| format!("writing {}", file.display()))
}

/// Puts the noted settings back; answers those that had changed.
pub fn restore(data_dir: &Path) -> anyhow::Result<Vec<String>> {
    let Ok(noted) = fs::read_to_string(data_dir.join(NOTE)) else { return Ok(Vec::new()) };
    let mut changed = Vec::new();
    for (name, before) in noted.lines().filter_map(|line| line.split_once(' ')) {
        if is_written(name) && read(name).is_some_and(|now| now != before) {
            fs::write(Path::new("/proc/sys").join(name), before).with_context(|| format!("setting {name}"))?;
            changed.push(format!("{name} is {before} again"));
        }
    }
    Ok(changed)
}

/// A host that forwards IPv6 has to be told to go on taking routes from advertisements, link by link.
fn of_links() -> impl Iterator<Item = String> {
    let links = fs::read_dir(Path::new("/proc/sys").join(LINKS)).into_iter().flatten().flatten();
    links.filter_map(|link| Some(format!("{LINKS}/{}/accept_ra", link.file_name().to_str()?)))
}

/// Whether it is one that parts write: a note is trusted no further.
fn is_written(name: &str) -> bool {
    let link = || name.strip_prefix(LINKS)?.strip_prefix('/')?.strip_suffix("/accept_ra");
    SETTINGS.contains(&name) || link().is_some_and(|link| !link.contains('/') && link != "..")
}

fn read(name: &str) -> Option<String> {
    fs::read_to_string(Path::new("/proc/sys").join(name)).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_sets_nothing_that_parts_do_not_write() {
        for name in ["net/ipv4/ip_forward", "net/ipv6/conf/eth0/accept_ra"] {
            assert!(is_written(name), "{name}");
        }
        for name in
            ["kernel/core_pattern", "net/ipv6/conf/../accept_ra", "net/ipv6/conf/a/b/accept_ra", "net/ipv6/conf/"]
        {
            assert!(!is_written(name), "{name}");
        }
    }
}
