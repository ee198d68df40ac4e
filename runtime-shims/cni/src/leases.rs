//! Who has which address, on disk: a symbolic link per address, named like it, that leads to `<container>/<ifname>`, and
//! beside them (`held/`) one per attachment that leads to its addresses.
//!
//! Making a link is atomic and fails when it is there: calls at once, of several processes too, need no lock, and a
//! crash leaves no half of one. An address whose other link is missing is found by collection.
//! Must not know: links of the network, namespaces.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::error::{CniError, Code, Context, Result};
use crate::range::Range;
use crate::request::Attachment;

const HELD: &str = "held";

/// The leases of one network.
pub struct Leases {
    dir: PathBuf,
}

impl Leases {
    pub fn open(data_dir: &Path, network: &str) -> Result<Self> {
        let dir = data_dir.join(network);
        let held = dir.join(HELD);
        if !held.is_dir() {
            fs::create_dir_all(&held).context(Code::Io, || format!("cannot make {}", held.display()))?;
        }
        Ok(Self { dir })
    }

    /// The attachment's addresses, one of each range: those it has, else those that are `wanted`, else the next free
    /// ones after the last given, so that an address rests as long as possible before it comes back.
    pub fn take(&self, ranges: &[Range], wanted: &[IpAddr], attachment: &Attachment) -> Result<Vec<IpAddr>> {
        if let Some(addresses) = self.held(attachment)? {
            return Ok(addresses);
        }
        let mut taken = Vec::new();
        for range in ranges {
            let wanted = wanted.iter().find(|address| range.position(**address).is_some());
            let address = match wanted {
                Some(address) => self.claim(*address, attachment),
                None => self.next(*range, attachment),
            };
            taken.push(address.inspect_err(|_| self.give_back(&taken))?);
        }
        let text = taken.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",");
        let path = self.of(attachment);
        let linked = symlink(text, &path).context(Code::Io, || format!("cannot make {}", path.display()));
        linked.inspect_err(|_| self.give_back(&taken))?;
        Ok(taken)
    }

    /// The addresses that an attachment has; none when it has none.
    pub fn held(&self, attachment: &Attachment) -> Result<Option<Vec<IpAddr>>> {
        let path = self.of(attachment);
        let text = match fs::read_link(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context(Code::Io, || format!("cannot read {}", path.display())),
        };
        let addresses = text.to_string_lossy().split(',').map(str::parse).collect::<std::result::Result<Vec<_>, _>>();
        addresses.map(Some).context(Code::Io, || format!("{} is broken", path.display()))
    }

    /// Gives an attachment's addresses back; nothing to do when it has none.
    pub fn release(&self, attachment: &Attachment) -> Result<()> {
        for address in self.held(attachment)?.unwrap_or_default() {
            if self.holder(address).as_ref() == Some(attachment) {
                self.remove(&self.dir.join(address.to_string()))?;
            }
        }
        self.remove(&self.of(attachment))
    }

    /// Every attachment that has something, complete or not.
    pub fn attachments(&self) -> Result<Vec<Attachment>> {
        let mut found: Vec<Attachment> = self.addresses()?.into_iter().filter_map(|it| self.holder(it)).collect();
        let names = self.names(&self.dir.join(HELD))?;
        found.extend(names.iter().filter_map(|name| {
            let (container, ifname) = name.split_once('@')?;
            Some(Attachment { container: container.into(), ifname: ifname.into() })
        }));
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Every address that somebody has.
    pub fn addresses(&self) -> Result<Vec<IpAddr>> {
        Ok(self.names(&self.dir)?.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Removes whatever leads to this attachment, also what a crash left incomplete.
    pub fn purge(&self, attachment: &Attachment) -> Result<()> {
        self.release(attachment)?;
        for address in self.addresses()?.into_iter().filter(|it| self.holder(*it).as_ref() == Some(attachment)) {
            self.remove(&self.dir.join(address.to_string()))?;
        }
        Ok(())
    }

    fn next(&self, range: Range, attachment: &Attachment) -> Result<IpAddr> {
        let start = self.last(range).map_or(0, |n| n.wrapping_add(1));
        for n in (0..range.size()).map(|n| start.wrapping_add(n)) {
            let address = range.address(n);
            if self.create(address, attachment)? {
                // Only a hint: when it is lost, the search begins at the start.
                let _ = fs::write(self.hint(range), address.to_string());
                return Ok(address);
            }
        }
        Err(CniError::new(Code::NoAddress, format!("all {} addresses for pods are taken", range.size())))
    }

    fn claim(&self, address: IpAddr, attachment: &Attachment) -> Result<IpAddr> {
        if self.create(address, attachment)? {
            return Ok(address);
        }
        Err(CniError::new(Code::NoAddress, format!("the address {address} is taken")))
    }

    fn create(&self, address: IpAddr, attachment: &Attachment) -> Result<bool> {
        let path = self.dir.join(address.to_string());
        match symlink(format!("{}/{}", attachment.container, attachment.ifname), &path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error).context(Code::Io, || format!("cannot make {}", path.display())),
        }
    }

    fn holder(&self, address: IpAddr) -> Option<Attachment> {
        let to = fs::read_link(self.dir.join(address.to_string())).ok()?;
        let (container, ifname) = to.to_str()?.split_once('/')?;
        Some(Attachment { container: container.into(), ifname: ifname.into() })
    }

    fn give_back(&self, addresses: &[IpAddr]) {
        for address in addresses {
            // What stays is found by collection.
            let _ = fs::remove_file(self.dir.join(address.to_string()));
        }
    }

    fn of(&self, attachment: &Attachment) -> PathBuf {
        self.dir.join(HELD).join(format!("{}@{}", attachment.container, attachment.ifname))
    }

    fn last(&self, range: Range) -> Option<u32> {
        range.position(fs::read_to_string(self.hint(range)).ok()?.trim().parse().ok()?)
    }

    fn hint(&self, range: Range) -> PathBuf {
        self.dir.join(if range.is_ipv6 { "last.ipv6" } else { "last.ipv4" })
    }

    fn names(&self, dir: &Path) -> Result<Vec<String>> {
        let listed = fs::read_dir(dir).context(Code::Io, || format!("cannot list {}", dir.display()))?;
        Ok(listed.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).context(Code::Io, || format!("cannot remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges() -> [Range; 2] {
        [Range::parse("10.0.0.0/29").unwrap(), Range::parse("fd00::/64").unwrap()]
    }

    fn pod(name: &str) -> Attachment {
        Attachment { container: name.into(), ifname: "eth0".into() }
    }

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn addresses_are_given_in_turn_and_rest_before_they_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::open(dir.path(), "pods").unwrap();
        let take = |name: &str| leases.take(&ranges(), &[], &pod(name)).unwrap();
        assert_eq!(take("a"), ips(&["10.0.0.2", "fd00::2"]));
        assert_eq!(take("a"), ips(&["10.0.0.2", "fd00::2"]), "asked again");
        leases.release(&pod("a")).unwrap();
        leases.release(&pod("a")).unwrap();
        assert_eq!(take("b"), ips(&["10.0.0.3", "fd00::3"]));
        assert_eq!(leases.attachments().unwrap(), [pod("b")]);
    }

    #[test]
    fn a_full_range_says_so_and_a_release_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::open(dir.path(), "pods").unwrap();
        for n in 0..ranges()[0].size() {
            leases.take(&ranges(), &[], &pod(&format!("p{n}"))).unwrap();
        }
        let reversed = [ranges()[1], ranges()[0]];
        assert_eq!(leases.take(&reversed, &[], &pod("more")).unwrap_err().code, Code::NoAddress);
        assert_eq!(leases.addresses().unwrap().len(), 10, "what was taken of the other range is free again");
        leases.release(&pod("p3")).unwrap();
        assert_eq!(leases.take(&ranges(), &[], &pod("more")).unwrap()[0], ips(&["10.0.0.5"])[0]);
    }

    #[test]
    fn an_address_that_is_asked_for_is_given_once() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::open(dir.path(), "pods").unwrap();
        let wanted = ips(&["10.0.0.4"]);
        assert_eq!(leases.take(&ranges(), &wanted, &pod("a")).unwrap(), ips(&["10.0.0.4", "fd00::2"]));
        assert_eq!(leases.take(&ranges(), &wanted, &pod("b")).unwrap_err().code, Code::NoAddress);
    }

    #[test]
    fn what_a_crash_left_is_seen_and_can_be_purged() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::open(dir.path(), "pods").unwrap();
        symlink("a/eth0", dir.path().join("pods/10.0.0.2")).unwrap();
        fs::write(dir.path().join("pods/notes"), "x").unwrap();
        assert_eq!(leases.attachments().unwrap(), [pod("a")]);
        leases.purge(&pod("a")).unwrap();
        assert!(leases.attachments().unwrap().is_empty() && leases.addresses().unwrap().is_empty());
    }

    #[test]
    fn callers_at_once_get_different_addresses() {
        let dir = tempfile::tempdir().unwrap();
        let leases = Leases::open(dir.path(), "pods").unwrap();
        let range = [Range::parse("10.0.0.0/24").unwrap()];
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (leases, range) = (&leases, &range);
                scope.spawn(move || {
                    for n in 0..20 {
                        leases.take(range, &[], &pod(&format!("{thread}-{n}"))).unwrap();
                    }
                });
            }
        });
        assert_eq!((leases.addresses().unwrap().len(), leases.attachments().unwrap().len()), (160, 160));
    }
}
