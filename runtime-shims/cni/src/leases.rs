//! Who has which address, on disk: a file per address, named like it, holding the container id and the interface.
//!
//! A lock file makes it safe against other processes; files are created whole, so that a crash leaves no half of one.
//! Must not know: links, namespaces.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use crate::error::{CniError, Code, Context, Result};
use crate::request::{Attachment, Range};

const LAST: &str = "last";
/// How long another call may hold the lock: it holds it for some file operations.
const LOCK_WITHIN: Duration = Duration::from_secs(10);

/// The leases of one network, locked while this lives.
pub struct Leases {
    dir: PathBuf,
    _lock: Flock<File>,
}

impl Leases {
    pub fn lock(data_dir: &Path, network: &str) -> Result<Self> {
        let dir = data_dir.join(network);
        fs::create_dir_all(&dir).context(Code::Io, || format!("cannot make {}", dir.display()))?;
        let path = dir.join("lock");
        let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let mut file = open.context(Code::Io, || format!("cannot open {}", path.display()))?;
        let began = Instant::now();
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Self { dir, _lock: lock }),
                // flock has no timeout, and nothing may wait for ever.
                Err((back, _)) if began.elapsed() < LOCK_WITHIN => file = back,
                Err((_, error)) => return Err(error).context(Code::Io, || format!("{} stays locked", path.display())),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The attachment's address: the one it has, else the next free one after the last given, so that an address rests
    /// as long as possible before it comes back.
    pub fn take(&self, range: Range, attachment: &Attachment) -> Result<Ipv4Addr> {
        if let Some(address) = self.of(attachment)? {
            return Ok(address);
        }
        let start = self.last(range).map_or(0, |n| n + 1);
        for n in (0..range.size()).map(|n| start.wrapping_add(n)) {
            let address = range.address(n);
            if self.create(address, attachment)? {
                self.remember(address)?;
                return Ok(address);
            }
        }
        Err(CniError::new(Code::NoAddress, format!("all {} addresses for pods are taken", range.size())))
    }

    /// The address that an attachment has.
    pub fn of(&self, attachment: &Attachment) -> Result<Option<Ipv4Addr>> {
        Ok(self.all()?.into_iter().find(|(_, holder)| holder == attachment).map(|(address, _)| address))
    }

    /// Gives an attachment's address back; nothing to do when it has none.
    pub fn release(&self, attachment: &Attachment) -> Result<()> {
        for (address, _) in self.all()?.into_iter().filter(|(_, holder)| holder == attachment) {
            let path = self.dir.join(address.to_string());
            fs::remove_file(&path).context(Code::Io, || format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    /// Every lease. Files that are none are not ours to judge.
    pub fn all(&self) -> Result<Vec<(Ipv4Addr, Attachment)>> {
        let listed = fs::read_dir(&self.dir).context(Code::Io, || format!("cannot list {}", self.dir.display()))?;
        let leases = listed.flatten().filter_map(|entry| {
            let address = entry.file_name().to_str()?.parse().ok()?;
            let content = fs::read_to_string(entry.path()).ok()?;
            let (container, ifname) = content.split_once('\n')?;
            Some((address, Attachment { container: container.into(), ifname: ifname.trim_end().into() }))
        });
        Ok(leases.collect())
    }

    fn create(&self, address: Ipv4Addr, attachment: &Attachment) -> Result<bool> {
        let content = format!("{}\n{}\n", attachment.container, attachment.ifname);
        let path = self.dir.join(address.to_string());
        if path.exists() {
            return Ok(false);
        }
        self.write(&path, &content).context(Code::Io, || format!("cannot write {}", path.display()))?;
        Ok(true)
    }

    fn last(&self, range: Range) -> Option<u32> {
        range.position(fs::read_to_string(self.dir.join(LAST)).ok()?.trim().parse().ok()?)
    }

    fn remember(&self, address: Ipv4Addr) -> Result<()> {
        let path = self.dir.join(LAST);
        self.write(&path, &address.to_string()).context(Code::Io, || format!("cannot write {}", path.display()))
    }

    /// Whole or not at all.
    fn write(&self, path: &Path, content: &str) -> io::Result<()> {
        let new = self.dir.join("new");
        let mut file = File::create(&new)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(new, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Conf;

    fn range() -> Range {
        Conf::parse(br#"{"podCIDR":"10.0.0.0/29"}"#).unwrap().range().unwrap()
    }

    fn pod(name: &str) -> Attachment {
        Attachment { container: name.into(), ifname: "eth0".into() }
    }

    #[test]
    fn addresses_are_given_in_turn_and_rest_before_they_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::lock(dir.path(), "pods").unwrap();
        assert_eq!(leases.take(range(), &pod("a")).unwrap(), Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(leases.take(range(), &pod("a")).unwrap(), Ipv4Addr::new(10, 0, 0, 2), "asked again");
        leases.release(&pod("a")).unwrap();
        leases.release(&pod("a")).unwrap();
        assert_eq!(leases.take(range(), &pod("b")).unwrap(), Ipv4Addr::new(10, 0, 0, 3));
    }

    #[test]
    fn a_full_range_says_so_and_a_release_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::lock(dir.path(), "pods").unwrap();
        for n in 0..range().size() {
            leases.take(range(), &pod(&format!("p{n}"))).unwrap();
        }
        assert_eq!(leases.take(range(), &pod("more")).unwrap_err().code, Code::NoAddress);
        leases.release(&pod("p3")).unwrap();
        assert_eq!(leases.take(range(), &pod("more")).unwrap(), Ipv4Addr::new(10, 0, 0, 5));
    }

    #[test]
    fn leases_survive_the_process_and_ignore_what_is_not_theirs() {
        let dir = tempfile::tempdir().unwrap();
        let first = Leases::lock(dir.path(), "pods").unwrap();
        let address = first.take(range(), &pod("a")).unwrap();
        fs::write(dir.path().join("pods/notes"), "x").unwrap();
        fs::write(dir.path().join("pods/10.0.0.4"), "broken").unwrap();
        drop(first);
        let second = Leases::lock(dir.path(), "pods").unwrap();
        assert_eq!(second.of(&pod("a")).unwrap(), Some(address));
    }
}
