//! Reads an archive once, front to back: every member becomes a blob, whatever it is for; only the tables of contents are
//! kept in memory.
//!
//! Must not know: what the tables say.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufReader, Read};

use super::{DOCKER, INDEX, LAYOUT};
use crate::content::Ingest;
use crate::digest::Digest;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::keep::Lease;
use crate::manifest::LONGEST;
use crate::store::Store;
use crate::unpack::{Kind, TarReader, decompress};

/// Members of an archive; honest ones have a few per layer.
const MOST_MEMBERS: usize = 50_000;
/// Links from member to member that are followed.
const MOST_LINKS: u32 = 8;

/// What was in an archive.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// Tables of contents, by name.
    pub tables: BTreeMap<&'static str, Vec<u8>>,
    /// Digest and length of members, by path.
    blobs: HashMap<String, (Digest, u64)>,
    links: HashMap<String, String>,
}

impl Contents {
    /// Takes in a whole archive, compressed or not. Its blobs stay as long as the lease.
    pub fn read(store: &Store, archive: impl Read + Send + 'static, lease: &mut Lease) -> Result<Self> {
        let plain = decompress(archive).context(|| "cannot read archive")?;
        let mut tar = TarReader::new(BufReader::with_capacity(128 << 10, plain));
        let mut contents = Self::default();
        let mut members = 0;
        while let Some(entry) = tar.next_entry()? {
            members += 1;
            if members > MOST_MEMBERS {
                return Err(Error::new(ErrorKind::Refused, format!("archive has more than {MOST_MEMBERS} members")));
            }
            let path = clean("", &String::from_utf8_lossy(&entry.path));
            match entry.kind {
                Kind::File => contents.member(store, path, entry.size, &mut tar, lease)?,
                Kind::SymbolicLink => {
                    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                    let target = clean(folder, &String::from_utf8_lossy(&entry.link));
                    contents.links.insert(path, target);
                }
                Kind::HardLink => {
                    contents.links.insert(path, clean("", &String::from_utf8_lossy(&entry.link)));
                }
                _ => {}
            }
        }
        Ok(contents)
    }

    fn member(
        &mut self,
        store: &Store,
        path: String,
        size: u64,
        content: &mut impl Read,
        lease: &mut Lease,
    ) -> Result<()> {
        if let Some(table) = [INDEX, DOCKER, LAYOUT].into_iter().find(|it| *it == path) {
            if size > LONGEST {
                return Err(Error::new(ErrorKind::Refused, format!("{table} of the archive is too long")));
            }
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes).context(|| "cannot read archive")?;
            self.tables.insert(table, bytes);
            return Ok(());
        }
        if size > store.limits().blob_bytes {
            return Err(Error::new(ErrorKind::Refused, format!("{path} of the archive is too long")));
        }
        let named = path.strip_prefix("blobs/sha256/").map(Digest::from_hex).transpose()?;
        let digest = match named.filter(|digest| store.leased_size(lease, digest).is_ok_and(|it| it == Some(size))) {
            Some(known) => known,
            None => take_in(store, &path, content, lease)?,
        };
        self.blobs.insert(path, (digest, size));
        Ok(())
    }

    /// A member's blob, links followed.
    pub fn blob(&self, path: &str) -> Result<&(Digest, u64)> {
        let mut path = clean("", path);
        for _ in 0..MOST_LINKS {
            if let Some(found) = self.blobs.get(&path) {
                return Ok(found);
            }
            let Some(target) = self.links.get(&path) else { break };
            path = target.clone();
        }
        Err(Error::new(ErrorKind::Corrupt, format!("archive has no {path}")))
    }
}

fn take_in(store: &Store, path: &str, content: &mut impl Read, lease: &mut Lease) -> Result<Digest> {
    let mut ingest = store.content().ingest_unnamed()?;
    match copy(store, path, content, &mut ingest, lease) {
        Err(error) => {
            ingest.discard();
            Err(error)
        }
        Ok(()) => ingest.commit(),
    }
}

fn copy(store: &Store, path: &str, content: &mut impl Read, ingest: &mut Ingest, lease: &mut Lease) -> Result<()> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match content.read(&mut buffer).map_err(crate::unpack::stream_error)? {
            0 => break,
            read => ingest.write(&buffer[..read])?,
        }
    }
    let digest = ingest.digest();
    if path.strip_prefix("blobs/sha256/").is_some_and(|hex| hex != digest.hex()) {
        return Err(Error::new(ErrorKind::Corrupt, format!("{path} of the archive has digest {digest}")));
    }
    store.lease(lease, [&digest])
}

/// A path of a member without `.` and `..`, starting in a folder.
fn clean(folder: &str, path: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}
