//! What a container wrote, as a layer of an image: overlayfs' marks of what was deleted become those of OCI's layers.
//!
//! Must not know: containers, what the layer is for.

use std::collections::HashMap;
use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::libc;
use tar::{Builder, EntryType, Header, HeaderMode};

const WHITEOUT: &str = ".wh.";
/// In a folder of which lower layers show nothing.
const OPAQUE: &str = ".wh..wh..opq";
const OVERLAY_OPAQUE: &str = "trusted.overlay.opaque";
/// Longest extended attribute, and list of their names, that the kernel gives.
const LONGEST_XATTR: usize = 64 << 10;

/// Writes the upper folder of an overlay as a tar archive. Nothing may write below it meanwhile. Owners are the host's;
/// of extended attributes, capabilities and users' own are kept; sockets are left out.
///
/// # Errors
/// Something cannot be read, or the archive not be written.
pub fn write(upper: &Path, to: impl Write) -> anyhow::Result<()> {
    let mut writer = Writer { archive: Builder::new(to), linked: HashMap::new() };
    writer.folder(upper, Path::new("")).with_context(|| format!("archiving {}", upper.display()))?;
    Ok(writer.archive.into_inner().and_then(|mut to| to.flush())?)
}

struct Writer<W: Write> {
    archive: Builder<W>,
    /// Files of more than one name that are in the archive, by inode.
    linked: HashMap<u64, PathBuf>,
}

impl<W: Write> Writer<W> {
    fn folder(&mut self, from: &Path, path: &Path) -> io::Result<()> {
        let mut names: Vec<OsString> =
            fs::read_dir(from)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
        names.sort();
        for name in names {
            let (from, to) = (from.join(&name), path.join(&name));
            let found = fs::symlink_metadata(&from)?;
            if found.file_type().is_char_device() && found.rdev() == 0 {
                self.mark(&path.join(whiteout(&name)))?;
                continue;
            }
            self.entry(&from, &to, &found)?;
            if found.is_dir() {
                if xattr(&from, OVERLAY_OPAQUE)?.is_some_and(|value| value == b"y") {
                    self.mark(&to.join(OPAQUE))?;
                }
                self.folder(&from, &to)?;
            }
        }
        Ok(())
    }

    fn entry(&mut self, from: &Path, to: &Path, found: &Metadata) -> io::Result<()> {
        let kind = found.file_type();
        let mut header = Header::new_gnu();
        header.set_metadata_in_mode(found, HeaderMode::Complete);
        header.set_size(0);
        if kind.is_socket() {
            return Ok(());
        }
        if kind.is_symlink() {
            return self.archive.append_link(&mut header, to, fs::read_link(from)?);
        }
        if kind.is_file() && found.nlink() > 1 {
            if let Some(first) = self.linked.get(&found.ino()) {
                header.set_entry_type(EntryType::Link);
                return self.archive.append_link(&mut header, to, first);
            }
            self.linked.insert(found.ino(), to.to_owned());
        }
        if kind.is_char_device() || kind.is_block_device() {
            header.set_device_major(libc::major(found.rdev()))?;
            header.set_device_minor(libc::minor(found.rdev()))?;
        }
        let kept = attributes(from)?;
        self.archive.append_pax_extensions(kept.iter().map(|(name, value)| (name.as_str(), value.as_slice())))?;
        if kind.is_file() {
            header.set_size(found.len());
            return self.archive.append_data(&mut header, to, File::open(from)?);
        }
        self.archive.append_data(&mut header, to, io::empty())
    }

    /// An empty file whose name says something.
    fn mark(&mut self, path: &Path) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(0);
        self.archive.append_data(&mut header, path, io::empty())
    }
}

/// The name under which a layer says that another is deleted.
fn whiteout(name: &OsStr) -> OsString {
    OsString::from_vec([WHITEOUT.as_bytes(), name.as_bytes()].concat())
}

/// Those that a layer carries, under the names that archives have for them.
fn attributes(path: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut kept = Vec::new();
    for name in xattr_names(path)? {
        let carried = name == "security.capability" || name.starts_with("user.") && !name.starts_with("user.overlay.");
        if let (true, Some(value)) = (carried, xattr(path, &name)?) {
            kept.push((format!("SCHILY.xattr.{name}"), value));
        }
    }
    Ok(kept)
}

fn xattr_names(path: &Path) -> io::Result<Vec<String>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut names = vec![0_u8; LONGEST_XATTR];
    // SAFETY: the path ends in NUL, the buffer's pointer and length belong together.
    let length = unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let names = filled(names, length)?.unwrap_or_default();
    let names = names.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

fn xattr(path: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    let (path, name) = (CString::new(path.as_os_str().as_bytes())?, CString::new(name)?);
    let mut value = vec![0_u8; LONGEST_XATTR];
    // SAFETY: both strings end in NUL, the buffer's pointer and length belong together.
    let length = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    filled(value, length)
}

/// What the kernel wrote; none where there is no such attribute, or none at all.
fn filled(mut buffer: Vec<u8>, length: isize) -> io::Result<Option<Vec<u8>>> {
    match Errno::result(length) {
        Ok(length) => {
            buffer.truncate(usize::try_from(length).unwrap_or_default());
            Ok(Some(buffer))
        }
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn what_was_written_is_in_the_layer_with_its_links_and_modes() {
        let dir = tempfile::tempdir().unwrap();
        let long = "n".repeat(120);
        fs::create_dir_all(dir.path().join("etc")).unwrap();
        fs::write(dir.path().join("etc/a"), "text").unwrap();
        fs::hard_link(dir.path().join("etc/a"), dir.path().join("etc/b")).unwrap();
        fs::write(dir.path().join(&long), "long").unwrap();
        std::os::unix::fs::symlink("/etc/a", dir.path().join("link")).unwrap();
        let mut bytes = Vec::new();
        write(dir.path(), &mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let mut told = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let (path, kind) = (entry.path().unwrap().display().to_string(), entry.header().entry_type());
            let link = entry.link_name().unwrap().map(|link| link.display().to_string()).unwrap_or_default();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            told.push(format!("{path} {} {link}{text}", char::from(kind.as_byte())));
        }
        told.sort();
        let expected =
            ["etc 5 ", "etc/a 0 text", "etc/b 1 etc/a", "link 2 /etc/a", &format!("{long} 0 long")].map(str::to_owned);
        assert_eq!(told, expected);
    }

    #[test]
    fn what_was_deleted_is_marked() {
        let dir = tempfile::tempdir().unwrap();
        let gone = dir.path().join("gone");
        let mode = nix::sys::stat::Mode::empty();
        match nix::sys::stat::mknod(&gone, nix::sys::stat::SFlag::S_IFCHR, mode, 0) {
            // not root
            Err(Errno::EPERM) => return,
            made => made.unwrap(),
        }
        let mut bytes = Vec::new();
        write(dir.path(), &mut bytes).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let paths: Vec<_> =
            archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
        assert_eq!(paths, [Path::new(".wh.gone")]);
    }
}
