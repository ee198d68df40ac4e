//! Processes that work below a folder, and their end.
//!
//! Must not know: what they do.

use std::fs;
use std::io;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Other processes that have something below `dir` open, or name it in their command line.
pub fn below(dir: &Path) -> Vec<i32> {
    let own = std::process::id().cast_signed();
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != own && works_below(*pid, dir)).collect()
}

fn works_below(pid: i32, dir: &Path) -> bool {
    let mut opened = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let named = || {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| Path::new(&*String::from_utf8_lossy(word)).starts_with(dir))
    };
    opened.any(|fd| fs::read_link(fd.path()).is_ok_and(|path| path.starts_with(dir))) || named()
}

/// Waits for the end of a process that is no child of ours.
///
/// # Errors
/// The kernel gives no handle of it.
pub async fn ended(pid: i32) -> io::Result<()> {
    // SAFETY: the call takes two numbers and gives a new descriptor or an error.
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = match Errno::result(opened) {
        Err(Errno::ESRCH) => return Ok(()),
        opened => i32::try_from(opened?).map_err(io::Error::other)?,
    };
    // SAFETY: the descriptor was opened right above and belongs to nobody else.
    let process = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: the descriptor stays open and the same as long as its owner, which is moved in here, lives.
    let process = unsafe { AsyncFd::register_with_interest(process, Interest::READABLE) };
    process.map_err(io::Error::other)?.readable().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_works_below_a_folder_is_found_until_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let file = fs::File::create(dir.path().join("open")).unwrap();
        let mut child = tokio::process::Command::new("sleep").arg("1000").stdin(file).spawn().unwrap();
        let pid = child.id().unwrap().cast_signed();
        assert_eq!(below(dir.path()), [pid]);
        child.start_kill().unwrap();
        ended(pid).await.unwrap();
        child.wait().await.unwrap();
        assert_eq!(below(dir.path()), [] as [i32; 0]);
        ended(pid).await.unwrap();
    }
}
