//! A sandbox ("pause") image of our own, for machines whose runtime cannot pull one.
//!
//! Must not know: how it gets into a runtime.

use crate::archive::{Entry, Image, ImageConfig, layer};

/// The static program of a few KiB that every pod sandbox runs; see `pause/main.rs`.
pub const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/pause"));

/// The image as a tar archive (OCI layout, with docker's `manifest.json` beside it), named `reference`.
pub fn archive(reference: &str) -> Vec<u8> {
    let config = ImageConfig { entrypoint: vec!["/pause".into()], ..ImageConfig::default() };
    Image::build(&config, vec![layer(&[Entry::file("pause", 0o755, PROGRAM)])]).archive(reference)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    #[test]
    fn pause_ends_in_order_when_it_is_told_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pause");
        std::fs::write(&path, super::PROGRAM).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let mut running = Command::new(&path).spawn().unwrap();
            let pid = running.id();
            wait_until_blocked(pid);
            kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
            let status = running.wait().unwrap();
            assert_eq!((status.code(), status.signal()), (Some(0), None), "{signal}");
        }
    }

    /// Before it waits for signals, one would end it the hard way. (Asleep is waiting: it does nothing else.)
    fn wait_until_blocked(pid: u32) {
        while !std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap().contains("State:\tS") {
            std::thread::yield_now();
        }
    }
}
