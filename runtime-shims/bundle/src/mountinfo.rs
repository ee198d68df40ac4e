//! How mounts of the host propagate: read from the text of `/proc/self/mountinfo`.
//!
//! Must not know: where the text was read.

use std::path::{Path, PathBuf};

/// Whether what is mounted below a path is seen elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Peers {
    Shared,
    Slave,
    #[default]
    Private,
}

/// What the caller found of a mount's source: its path without symbolic links (made, if it was missing), and how the
/// mount it lies on propagates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountSource {
    pub path: PathBuf,
    /// Where the file system that holds `path` is mounted.
    pub mountpoint: PathBuf,
    pub peers: Peers,
}

/// The mount that holds `path` (absolute, without symbolic links), and how it propagates. A mount over another hides it.
pub fn peers(mountinfo: &str, path: &Path) -> (PathBuf, Peers) {
    let mut best = (PathBuf::from("/"), Peers::Private);
    for (mountpoint, peers) in mountinfo.lines().filter_map(parse) {
        if path.starts_with(&mountpoint) && mountpoint.starts_with(&best.0) {
            best = (mountpoint, peers);
        }
    }
    best
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`: optional fields lie before the dash.
fn parse(line: &str) -> Option<(PathBuf, Peers)> {
    let mut fields = line.split(' ');
    let mountpoint = unescape(fields.nth(4)?);
    let mut peers = Peers::Private;
    for field in fields.skip(1).take_while(|field| *field != "-") {
        if field.starts_with("shared:") {
            peers = Peers::Shared;
        } else if field.starts_with("master:") && peers == Peers::Private {
            peers = Peers::Slave;
        }
    }
    Some((PathBuf::from(mountpoint), peers))
}

/// The kernel writes blank, tab, newline and backslash as three octal digits.
fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let code = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        plain.push(code.map_or('\\', char::from));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /run rw,nosuid - tmpfs tmpfs rw
31 30 0:27 / /run/with\\040blank rw master:7 - tmpfs tmpfs rw
32 30 0:28 / /run/both rw shared:9 master:7 - tmpfs tmpfs rw
";

    #[test]
    fn the_innermost_mount_decides() {
        for (path, mountpoint, expected) in [
            ("/var/lib", "/", Peers::Shared),
            ("/run/x", "/run", Peers::Private),
            ("/running", "/", Peers::Shared),
            ("/run/with blank/a", "/run/with blank", Peers::Slave),
            ("/run/both", "/run/both", Peers::Shared),
        ] {
            assert_eq!(peers(INFO, Path::new(path)), (PathBuf::from(mountpoint), expected), "{path}");
        }
        assert_eq!(peers("nonsense", Path::new("/a")), (PathBuf::from("/"), Peers::Private));
    }
}
