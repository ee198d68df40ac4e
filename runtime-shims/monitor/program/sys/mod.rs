//! System calls, as functions that own their descriptors. There is no libc beneath.
//!
//! Must not know: what the program is for.

#[cfg_attr(target_arch = "x86_64", path = "x86_64.rs")]
#[cfg_attr(target_arch = "aarch64", path = "aarch64.rs")]
mod machine;
mod memory;
mod process;
mod socket;

use alloc::vec::Vec;

use self::machine::call;
pub use self::process::{
    Command, SIGKILL, Signals, become_subreaper, child_status, exit, fork_and_exit_parent, kill, name_process,
    new_session, own_pid, own_uid, reset_signals, spawn, wait,
};
pub use self::socket::{accept, listen, peer_uid, receive, send};

/// An error's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno(pub i32);

impl Errno {
    pub const ENOENT: Errno = Errno(2);
    pub const EINTR: Errno = Errno(4);
    pub const EIO: Errno = Errno(5);
    pub const EAGAIN: Errno = Errno(11);
    pub const EINVAL: Errno = Errno(22);
}

pub type Result<T> = core::result::Result<T, Errno>;

/// Makes a system call again as long as a signal interrupts it.
fn checked(number: usize, arguments: [usize; 6]) -> Result<usize> {
    loop {
        // SAFETY: every caller is in this module's files and passes what the call takes.
        match unsafe { call(number, arguments) } {
            error @ -4095..0 if Errno(-error as i32) == Errno::EINTR => {}
            error @ -4095..0 => return Err(Errno(-error as i32)),
            result => return Ok(result as usize),
        }
    }
}

/// An open descriptor, closed when dropped.
#[derive(Debug)]
pub struct Fd(i32);

impl Fd {
    pub fn number(&self) -> i32 {
        self.0
    }

    fn raw(&self) -> usize {
        self.0 as usize
    }

    /// Another descriptor of the same open file.
    pub fn duplicate(&self) -> Result<Fd> {
        const F_DUPFD_CLOEXEC: usize = 1030;
        checked(machine::FCNTL, [self.raw(), F_DUPFD_CLOEXEC, 3, 0, 0, 0]).map(|fd| Fd(fd as i32))
    }

    /// Reading and writing never wait from here on, for whoever else shares the open file as well.
    pub fn never_wait(&self) -> Result<()> {
        const F_GETFL: usize = 3;
        const F_SETFL: usize = 4;
        const O_NONBLOCK: usize = 0o4000;
        let flags = checked(machine::FCNTL, [self.raw(), F_GETFL, 0, 0, 0, 0])?;
        checked(machine::FCNTL, [self.raw(), F_SETFL, flags | O_NONBLOCK, 0, 0, 0]).map(drop)
    }

    pub fn read(&self, into: &mut [u8]) -> Result<usize> {
        checked(machine::READ, [self.raw(), into.as_mut_ptr() as usize, into.len(), 0, 0, 0])
    }

    pub fn write(&self, bytes: &[u8]) -> Result<usize> {
        checked(machine::WRITE, [self.raw(), bytes.as_ptr() as usize, bytes.len(), 0, 0, 0])
    }

    pub fn write_all(&self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match self.write(bytes)? {
                0 => return Err(Errno::EIO),
                written => bytes = bytes.get(written..).unwrap_or_default(),
            }
        }
        Ok(())
    }

    /// The file's length, which is where a file opened for appending is written.
    pub fn length(&self) -> Result<usize> {
        const SEEK_END: usize = 2;
        checked(machine::LSEEK, [self.raw(), 0, SEEK_END, 0, 0, 0])
    }

    pub fn truncate(&self, length: usize) -> Result<()> {
        checked(machine::FTRUNCATE, [self.raw(), length, 0, 0, 0, 0]).map(drop)
    }

    pub fn set_window_size(&self, columns: u16, rows: u16) -> Result<()> {
        const TIOCSWINSZ: usize = 0x5414;
        let size = [rows, columns, 0, 0];
        checked(machine::IOCTL, [self.raw(), TIOCSWINSZ, size.as_ptr() as usize, 0, 0, 0]).map(drop)
    }

    /// From here on, SIGIO comes when a name disappears from this directory. (inotify's instances are few: 128 for a user.)
    pub fn notify_of_deletions(&self) -> Result<()> {
        const F_NOTIFY: usize = 1026;
        const DN_DELETE_RENAME_MULTISHOT: usize = 8 | 0x10 | 0x8000_0000;
        checked(machine::FCNTL, [self.raw(), F_NOTIFY, DN_DELETE_RENAME_MULTISHOT, 0, 0, 0]).map(drop)
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        // Whatever the kernel says, the descriptor is gone.
        let _ = checked(machine::CLOSE, [self.raw(), 0, 0, 0, 0, 0]);
    }
}

/// The bytes as the kernel reads them: ended by a NUL, with none inside.
pub fn c_string(bytes: &[u8]) -> Result<Vec<u8>> {
    if bytes.contains(&0) {
        return Err(Errno::EINVAL);
    }
    let mut string = Vec::with_capacity(bytes.len() + 1);
    string.extend_from_slice(bytes);
    string.push(0);
    Ok(string)
}

const HERE: usize = -100_isize as usize;
/// Nothing opened here passes to a program, becomes the terminal of this one, or is waited for.
const QUIET: usize = 0o2000000 | 0o400 | 0o4000;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    Read,
    Write,
    /// Made, or emptied.
    Fresh,
    /// Made when it is not there.
    Append,
    ReadWrite,
    Directory,
}

pub fn open(path: &[u8], how: Open) -> Result<Fd> {
    let (flags, mode) = match how {
        Open::Read => (0, 0),
        Open::Write => (1, 0),
        Open::Fresh => (1 | 0o100 | 0o1000, 0o600),
        Open::Append => (1 | 0o100 | 0o2000, 0o640),
        Open::ReadWrite => (2, 0),
        Open::Directory => (machine::O_DIRECTORY, 0),
    };
    let path = c_string(path)?;
    checked(machine::OPENAT, [HERE, path.as_ptr() as usize, flags | QUIET, mode, 0, 0]).map(|fd| Fd(fd as i32))
}

/// The first `most` bytes of a file.
pub fn read_file(path: &[u8], most: usize) -> Result<Vec<u8>> {
    let file = open(path, Open::Read)?;
    let mut text = alloc::vec![0; most];
    let mut length = 0;
    while let Some(room) = text.get_mut(length..).filter(|room| !room.is_empty()) {
        match file.read(room)? {
            0 => break,
            read => length += read,
        }
    }
    text.truncate(length);
    Ok(text)
}

pub fn rename(from: &[u8], to: &[u8]) -> Result<()> {
    let (from, to) = (c_string(from)?, c_string(to)?);
    checked(machine::RENAMEAT2, [HERE, from.as_ptr() as usize, HERE, to.as_ptr() as usize, 0, 0]).map(drop)
}

pub fn unlink(path: &[u8]) -> Result<()> {
    let path = c_string(path)?;
    checked(machine::UNLINKAT, [HERE, path.as_ptr() as usize, 0, 0, 0, 0]).map(drop)
}

/// What tells one file from another: inode and device.
pub fn identity(path: &[u8]) -> Result<[u64; 2]> {
    const NOFOLLOW: usize = 0x100;
    const BASIC: usize = 0x7ff;
    let path = c_string(path)?;
    let mut found = [0_u64; 32];
    checked(machine::STATX, [HERE, path.as_ptr() as usize, NOFOLLOW, BASIC, found.as_mut_ptr() as usize, 0])?;
    // stx_ino is at byte 32, the device's two halves at 136.
    Ok([found[4], found[17]])
}

/// The two ends of a pipe, the one to read first.
pub fn pipe() -> Result<(Fd, Fd)> {
    const O_CLOEXEC: usize = 0o2000000;
    let mut ends = [0_i32; 2];
    checked(machine::PIPE2, [ends.as_mut_ptr() as usize, O_CLOEXEC, 0, 0, 0, 0])?;
    Ok((Fd(ends[0]), Fd(ends[1])))
}

/// A counter of events: read, eight bytes say how often something was told since it was last read. Reading does not wait.
pub fn event_counter() -> Result<Fd> {
    const EFD_CLOEXEC_NONBLOCK: usize = 0o2000000 | 0o4000;
    checked(machine::EVENTFD2, [0, EFD_CLOEXEC_NONBLOCK, 0, 0, 0, 0]).map(|fd| Fd(fd as i32))
}

/// Another descriptor of what descriptor 0 is. That one stays taken, or the next file opened would become it.
pub fn standard_input() -> Result<Fd> {
    core::mem::ManuallyDrop::new(Fd(0)).duplicate()
}

/// Descriptor 2, which stays open.
pub fn write_standard_error(text: &[u8]) {
    let _ = core::mem::ManuallyDrop::new(Fd(2)).write_all(text);
}

/// Descriptors 0, 1 and 2 become `file`.
pub fn replace_standard(file: &Fd) -> Result<()> {
    (0..3).try_for_each(|target| replace(file, target))
}

fn replace(file: &Fd, target: usize) -> Result<()> {
    checked(machine::DUP3, [file.raw(), target, 0, 0, 0, 0]).map(drop)
}

pub fn close_from(first: usize) {
    // Kernels before 5.9 lack it; what is inherited there was marked to be closed by whoever started this program.
    let _ = checked(machine::CLOSE_RANGE, [first, u32::MAX as usize, 0, 0, 0, 0]);
}

/// One descriptor to wait for: poll(2)'s `struct pollfd`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Poll {
    pub fd: i32,
    pub events: i16,
    pub found: i16,
}

pub const POLLIN: i16 = 1;
pub const POLLOUT: i16 = 4;
/// Found without being asked for: an error, or nobody at the other end.
pub const POLLERR_HUP: i16 = 8 | 16;

/// Waits until something is found, for at most `wait_ms` when that is given.
pub fn poll(polls: &mut [Poll], wait_ms: Option<u64>) -> Result<()> {
    // The kernel writes what is left of it.
    let mut time = wait_ms.map(|ms| [ms / 1000, ms % 1000 * 1_000_000]);
    let time = time.as_mut().map_or(0, |time| time.as_mut_ptr() as usize);
    checked(machine::PPOLL, [polls.as_mut_ptr() as usize, polls.len(), time, 0, 0, 0]).map(drop)
}

#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// Since 1970.
    Real = 0,
    /// Never set back.
    Monotonic = 1,
}

/// Nanoseconds.
pub fn now(clock: Clock) -> u64 {
    let mut time = [0_u64; 2];
    // These clocks are always there.
    let _ = checked(machine::CLOCK_GETTIME, [clock as usize, time.as_mut_ptr() as usize, 0, 0, 0, 0]);
    time[0].wrapping_mul(1_000_000_000).wrapping_add(time[1])
}

pub fn start_in_root() {
    let _ = checked(machine::CHDIR, [c"/".as_ptr() as usize, 0, 0, 0, 0, 0]);
    let _ = checked(machine::UMASK, [0o022, 0, 0, 0, 0, 0]);
}

/// Fresh zeroed pages, or null.
fn map(size: usize) -> *mut u8 {
    const READ_WRITE: usize = 3;
    const PRIVATE_ANONYMOUS: usize = 0x22;
    match checked(machine::MMAP, [0, size, READ_WRITE, PRIVATE_ANONYMOUS, usize::MAX, 0]) {
        Ok(address) => address as *mut u8,
        Err(_) => core::ptr::null_mut(),
    }
}

fn unmap(block: *mut u8, size: usize) {
    let _ = checked(machine::MUNMAP, [block as usize, size, 0, 0, 0, 0]);
}
