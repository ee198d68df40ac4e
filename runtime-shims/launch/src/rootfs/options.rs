//! What the options of a mount in an OCI specification mean. Pure.
//!
//! Must not know: what is mounted, or where.

use nix::libc;

use crate::sys::mount::{ATIME, Change, NOATIME, NODEV, NODIRATIME, NOEXEC, NOSUID, NOSYMFOLLOW, RDONLY, STRICTATIME};

/// The options of one mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// A bind mount; and with the mounts below it.
    pub bind: bool,
    pub recursive_bind: bool,
    /// Attributes of the mount itself.
    pub own: Change,
    /// Attributes of it and all below (`rro`).
    pub recursive: Change,
    /// What propagates: MS_PRIVATE and its like; whether for all below too.
    pub propagation: Option<(u64, bool)>,
    /// Whose IDs are mapped as the container's user namespace maps them; whether for all below too.
    pub id_mapped: Option<bool>,
    /// Everything else: the file system's own options.
    pub data: Vec<(String, Option<String>)>,
}

/// Reads options. A later one wins over an earlier one.
pub fn read(words: &[String]) -> Options {
    let mut options = Options::default();
    words.iter().for_each(|word| options.take(word));
    options
}

impl Options {
    fn take(&mut self, word: &str) {
        if let Some((set, clear)) = attribute(word) {
            return apply(&mut self.own, set, clear);
        }
        if let Some((set, clear)) = word.strip_prefix('r').and_then(attribute) {
            return apply(&mut self.recursive, set, clear);
        }
        match word {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive_bind) = (true, true),
            "idmap" => self.id_mapped = Some(false),
            "ridmap" => self.id_mapped = Some(true),
            "" | "defaults" | "remount" => {}
            _ => match propagation(word) {
                Some(found) => self.propagation = Some(found),
                None => self.data.push(datum(word)),
            },
        }
    }
}

fn apply(change: &mut Change, set: u64, clear: u64) {
    change.set = change.set & !clear | set;
    change.clear = change.clear & !set | clear;
}

fn datum(word: &str) -> (String, Option<String>) {
    match word.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (word.to_owned(), None),
    }
}

/// What an attribute's name sets and clears.
fn attribute(word: &str) -> Option<(u64, u64)> {
    Some(match word {
        "ro" => (RDONLY, 0),
        "rw" => (0, RDONLY),
        "nosuid" => (NOSUID, 0),
        "suid" => (0, NOSUID),
        "nodev" => (NODEV, 0),
        "dev" => (0, NODEV),
        "noexec" => (NOEXEC, 0),
        "exec" => (0, NOEXEC),
        "noatime" => (NOATIME, ATIME),
        "strictatime" => (STRICTATIME, ATIME),
        "relatime" | "atime" | "nostrictatime" => (0, ATIME),
        "norelatime" => (STRICTATIME, ATIME),
        "nodiratime" => (NODIRATIME, 0),
        "diratime" => (0, NODIRATIME),
        "nosymfollow" => (NOSYMFOLLOW, 0),
        "symfollow" => (0, NOSYMFOLLOW),
        _ => return None,
    })
}

/// What a propagation's name is, and whether it holds for all mounts below.
pub fn propagation(word: &str) -> Option<(u64, bool)> {
    let (name, recursive) = match word {
        "rprivate" | "rslave" | "rshared" | "runbindable" => (word.trim_start_matches('r'), true),
        _ => (word, false),
    };
    let flag = match name {
        "private" => libc::MS_PRIVATE,
        "slave" => libc::MS_SLAVE,
        "shared" => libc::MS_SHARED,
        "unbindable" => libc::MS_UNBINDABLE,
        _ => return None,
    };
    Some((flag, recursive))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &str) -> Options {
        read(&words.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_attributes_propagation_or_data() {
        let tmpfs = of("nosuid,strictatime,mode=755,size=65536k,newinstance");
        assert_eq!((tmpfs.own.set, tmpfs.own.clear), (NOSUID | STRICTATIME, ATIME));
        let data = [("mode", Some("755")), ("size", Some("65536k")), ("newinstance", None)];
        let data = data.map(|(name, value)| (name.to_owned(), value.map(str::to_owned)));
        assert_eq!(tmpfs.data, data);
        let volume = of("rbind,rslave,ro,rw,rro");
        assert!(volume.bind && volume.recursive_bind);
        assert_eq!(volume.propagation, Some((libc::MS_SLAVE, true)));
        assert_eq!((volume.own.set, volume.own.clear, volume.recursive.set), (0, RDONLY, RDONLY));
    }

    #[test]
    fn relatime_is_no_recursive_elatime() {
        assert_eq!(of("relatime").own.clear, ATIME);
        assert_eq!(of("relatime").recursive, Change::default());
    }
}
