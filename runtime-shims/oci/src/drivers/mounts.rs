//! Mounts: the overlay that is a container's root, a sandbox's shared memory, and taking them away.
//!
//! Must not know: which container or sandbox they are for.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use pintle_launch::Mapped;

/// The kernel takes no more than a page of options.
const MOST_OPTIONS: usize = 4095;

/// What a container wrote is not flushed to the disk: its file system does not outlive the machine. Without this, taking it
/// away would flush the whole disk.
const VOLATILE: &str = ",volatile";

/// The folders of one container's file system.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Where it is mounted.
    pub root: PathBuf,
    /// What the container wrote.
    pub upper: PathBuf,
    work: PathBuf,
}

impl Snapshot {
    pub fn of(dir: &Path) -> Self {
        Self { root: dir.join("rootfs"), upper: dir.join("upper"), work: dir.join("work") }
    }

    /// As [`Snapshot::mount`], for users who are others on the host: what belongs to the host's root in the layers
    /// belongs to theirs (`root`: user and group). `dir` is a new folder that is there meanwhile.
    pub fn mount_mapped(
        &self,
        layers: &[PathBuf],
        namespace: &Path,
        root: (u32, u32),
        dir: &Path,
        label: Option<&str>,
    ) -> anyhow::Result<()> {
        let mut mapped = Mapped::by(namespace, dir)?;
        let layers: anyhow::Result<Vec<PathBuf>> = layers.iter().map(|layer| mapped.add(layer, true)).collect();
        make_dir(&self.upper)?;
        std::os::unix::fs::chown(&self.upper, Some(root.0), Some(root.1)).context("giving a folder to mapped users")?;
        self.mount(&layers?, label)
    }

    /// Mounts `layers` (the topmost first) below the container's own. All files have SELinux' label, where one is given.
    pub fn mount(&self, layers: &[PathBuf], label: Option<&str>) -> anyhow::Result<()> {
        for dir in [&self.root, &self.upper, &self.work] {
            make_dir(dir)?;
        }
        let mut options = self.options(layers);
        if let Some(label) = label {
            options.push(format!(",context=\"{label}\""));
        }
        anyhow::ensure!(
            options.len() + VOLATILE.len() <= MOST_OPTIONS,
            "{} layers are too many to mount",
            layers.len()
        );
        let overlay = |options: &OsString| {
            mount(Some("overlay"), &self.root, Some("overlay"), MsFlags::empty(), Some(options.as_os_str()))
        };
        let lasting = options.clone();
        options.push(VOLATILE);
        let mounted = match overlay(&options) {
            // kernels before 5.10
            Err(Errno::EINVAL) => overlay(&lasting),
            mounted => mounted,
        };
        mounted.with_context(|| format!("mounting the layers at {}", self.root.display()))
    }

    fn options(&self, layers: &[PathBuf]) -> OsString {
        let mut options = OsString::from("lowerdir=");
        for (index, layer) in layers.iter().enumerate() {
            options.push(if index == 0 { "" } else { ":" });
            options.push(layer);
        }
        // an image without layers is an empty root
        if layers.is_empty() {
            options.push(self.root.as_os_str());
        }
        for (key, dir) in [(",upperdir=", &self.upper), (",workdir=", &self.work)] {
            options.push(key);
            options.push(dir);
        }
        options
    }
}

/// Makes the layer that images have below their own: folders and files that something is mounted at in every container.
/// Where an image lacks one, the kernel would make it in the container's own layer, a dozen changes of the disk for each
/// container. Whatever an image has there, or has removed, covers it.
pub fn make_mount_points(dir: &Path) -> anyhow::Result<()> {
    const FOLDERS: [&str; 5] = ["", "dev", "etc", "proc", "sys"];
    const FILES: [&str; 3] = ["etc/hostname", "etc/hosts", "etc/resolv.conf"];
    let made = |path: &Path, mode: u32| {
        // whatever the umask was
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .with_context(|| format!("making {}", path.display()))
    };
    for path in FOLDERS.map(|name| dir.join(name)) {
        make_dir(&path)?;
        made(&path, 0o755)?;
    }
    for path in FILES.map(|name| dir.join(name)) {
        fs::File::create(&path).with_context(|| format!("making {}", path.display()))?;
        made(&path, 0o644)?;
    }
    Ok(())
}

fn make_dir(dir: &Path) -> anyhow::Result<()> {
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made.with_context(|| format!("making {}", dir.display())),
    }
}

/// A sandbox's `/dev/shm`, of containerd's size, that belongs to this user and group of the host.
pub fn shared_memory(at: &Path, (user, group): (u32, u32)) -> anyhow::Result<()> {
    make_dir(at)?;
    let flags = MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = format!("mode=1777,size=65536k,uid={user},gid={group}");
    mount(Some("shm"), at, Some("tmpfs"), flags, Some(&*options))
        .with_context(|| format!("mounting shared memory at {}", at.display()))
}

/// Takes away what is mounted there, however often; nothing there is no error.
pub fn unmount(at: &Path) -> anyhow::Result<()> {
    loop {
        match umount2(at, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("unmounting {}", at.display())),
        }
    }
}

/// Takes away everything mounted below a folder, the innermost first.
pub fn unmount_below(dir: &Path) -> anyhow::Result<()> {
    let table = fs::read("/proc/self/mountinfo").context("reading the mounts")?;
    let mut points: Vec<PathBuf> = table.split(|byte| *byte == b'\n').filter_map(mount_point).collect();
    points.retain(|point| point.starts_with(dir));
    points.sort_by_key(|point| std::cmp::Reverse(point.as_os_str().len()));
    points.iter().try_for_each(|point| unmount(point))
}

/// The fifth field of a line of `mountinfo`, with its octal escapes undone.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|byte| *byte == b' ').nth(4)?;
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = (*first == b'\\').then(|| after.get(..3)).flatten();
        let value = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match value {
            Some(byte) => {
                path.push(byte);
                rest = after.get(3..)?;
            }
            None => {
                path.push(*first);
                rest = after;
            }
        }
    }
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(&path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topmost_layer_comes_first() {
        let options = Snapshot::of(Path::new("/c")).options(&["/top".into(), "/base".into()]);
        assert_eq!(options, "lowerdir=/top:/base,upperdir=/c/upper,workdir=/c/work");
    }

    #[test]
    fn mount_points_are_read_with_their_escapes() {
        let line = br"36 35 98:0 /mnt1 /mnt/a\040b\134c rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line), Some(PathBuf::from(r"/mnt/a b\c")));
        assert_eq!(mount_point(b""), None);
    }
}
