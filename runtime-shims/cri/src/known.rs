//! The runtimes that are known by name, as data: where they listen, since when they speak CRI v1, what they leave to do.
//!
//! Must not know: how anything is done about it.

use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crate::Runtime;

/// What is known of one runtime.
#[derive(Debug, PartialEq, Eq)]
pub struct Known {
    /// As `Version` says it, and `kubectl` shows it before containers' IDs.
    pub name: &'static str,
    /// As people write it.
    pub title: &'static str,
    /// Where its packages make it listen.
    pub socket: &'static str,
    /// Its first release with CRI v1.
    pub since: &'static str,
    /// It takes images over its socket otherwise than from a registry.
    pub takes_images: bool,
}

/// In the order they are looked for.
pub const RUNTIMES: [Known; 2] = [
    Known {
        name: "containerd",
        title: "containerd",
        socket: "/run/containerd/containerd.sock",
        since: "1.6",
        takes_images: true,
    },
    Known { name: "cri-o", title: "CRI-O", socket: "/run/crio/crio.sock", since: "1.20", takes_images: false },
];

impl Known {
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket)
    }
}

impl Runtime {
    /// What is known of this runtime, by the name it says.
    pub fn known(&self) -> Option<&'static Known> {
        RUNTIMES.iter().find(|one| one.name == self.version.runtime_name)
    }
}

/// The known runtimes at whose sockets somebody listens on this machine.
pub fn found() -> Vec<&'static Known> {
    RUNTIMES.iter().filter(|one| UnixStream::connect(PathBuf::from(one.socket)).is_ok()).collect()
}

/// What follows an error about a runtime that is not where it was looked for.
pub(crate) fn told(others: &[&Known]) -> String {
    others.iter().map(|one| format!(" {} listens at {}.", one.title, one.endpoint())).collect()
}

/// `containerd 1.6, CRI-O 1.20 and later`
pub(crate) fn first_releases() -> String {
    let each: Vec<String> = RUNTIMES.iter().map(|one| format!("{} {}", one.title, one.since)).collect();
    format!("{} and later", each.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_in_the_wrong_place_is_told_of_the_right_one() {
        let all: Vec<&Known> = RUNTIMES.iter().collect();
        assert_eq!(
            told(&all),
            " containerd listens at unix:///run/containerd/containerd.sock. CRI-O listens at unix:///run/crio/crio.sock."
        );
        assert_eq!(told(&[]), "");
    }

    #[test]
    fn the_first_releases_with_cri_v1_are_named() {
        assert_eq!(first_releases(), "containerd 1.6, CRI-O 1.20 and later");
    }
}
