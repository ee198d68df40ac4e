//! The one program of the suite's images: it does what its first argument names, and says what it found.
//!
//! Must not know: any test. No crate but std, which is linked in whole, so that the images hold nothing else.

use std::env;
use std::ffi::{CString, c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::process::exit;
use std::thread;
use std::time::Duration;

unsafe extern "C" {
    fn mount(from: *const c_char, at: *const c_char, kind: *const c_char, flags: c_ulong, data: *const c_void) -> c_int;
    fn ioctl(fd: c_int, request: c_ulong, size: *mut [u16; 4]) -> c_int;
    fn clock_gettime(clock: c_int, time: *mut [i64; 2]) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn mknod(path: *const c_char, mode: c_uint, device: c_ulong) -> c_int;
    fn sigprocmask(how: c_int, set: *const [u64; 16], old: *mut [u64; 16]) -> c_int;
    fn sigwait(set: *const [u64; 16], found: *mut c_int) -> c_int;
}

const SIG_BLOCK: c_int = 0;
const SIGTERM: u32 = 15;
const SIGUSR1: u32 = 10;
const BLOCK_DEVICE: c_uint = 0o060_600;
const CLOCK_PROCESS_CPUTIME_ID: c_int = 2;
const TIOCGWINSZ: c_ulong = 0x5413;
const ADD_KEY: c_long = if cfg!(target_arch = "x86_64") { 248 } else { 217 };
/// The keyring of this thread.
const THREAD_KEYRING: c_int = -1;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let Err(error) = act(&words) {
        eprintln!("{error}");
        exit(1);
    }
}

fn act(words: &[&str]) -> io::Result<()> {
    match words {
        ["args", rest @ ..] => rest.iter().for_each(|word| println!("{word}")),
        ["env"] => env::vars().for_each(|(name, value)| println!("{name}={value}")),
        ["cwd"] => println!("{}", env::current_dir()?.display()),
        ["out", text] => println!("{text}"),
        ["err", text] => eprintln!("{text}"),
        ["both", out, err] => {
            println!("{out}");
            eprintln!("{err}");
        }
        ["both-and-exit", out, err, code] => {
            println!("{out}");
            eprintln!("{err}");
            exit(number(code)? as i32);
        }
        ["long", count] => println!("{}", "x".repeat(number(count)?)),
        ["exit", code] => exit(number(code)? as i32),
        ["cat", path] => io::stdout().write_all(&fs::read(path)?)?,
        ["stdin"] => copy_stdin()?,
        ["echo", code] => {
            copy_stdin()?;
            eprintln!("ends");
            exit(number(code)? as i32);
        }
        ["answer", port] => answer(number(port)? as u16)?,
        ["ask", address] => io::copy(&mut TcpStream::connect(address)?, &mut io::stdout()).map(drop)?,
        ["link", path] => println!("{}", fs::read_link(path)?.display()),
        ["write", path, text] => fs::write(path, text)?,
        ["open", path] => drop(OpenOptions::new().read(true).write(true).open(path)?),
        ["open-to-read", path] => drop(fs::File::open(path)?),
        ["mkdir", path] => fs::create_dir(path)?,
        ["ls", path] => list(path)?,
        ["block-device", path, major, minor] => block_device(path, number(major)?, number(minor)?)?,
        ["print", text] => io::stdout().write_all(text.as_bytes())?,
        ["all-bytes"] => io::stdout().write_all(&(0..=255).chain([b'\n']).collect::<Vec<u8>>())?,
        ["lines", count] => lines(number(count)?)?,
        ["repeat"] => repeat()?,
        ["terminals"] => terminals(),
        ["size", columns] => size(number(columns)? as u16)?,
        ["stat", path] => stat(path)?,
        ["mount-tmpfs", path] => mount_tmpfs(path)?,
        ["add-key"] => add_key()?,
        ["hog", mebibytes] => hog(number(mebibytes)?),
        ["spin", milliseconds] => spin(Duration::from_millis(number(milliseconds)? as u64)),
        ["crash"] => crash(),
        ["echo-server", address] => echo_server(address)?,
        ["udp-answer", port] => udp_answer(number(port)? as u16)?,
        ["wait"] => wait(),
        ["stubborn"] => stubborn(),
        ["every", pause] => every(Duration::from_millis(number(pause)? as u64))?,
        _ => return Err(io::Error::other(format!("no such action: {words:?}"))),
    }
    Ok(())
}

fn number(text: &str) -> io::Result<usize> {
    text.parse().map_err(|_| io::Error::other(format!("{text:?} is no number")))
}

fn copy_stdin() -> io::Result<()> {
    let mut text = Vec::new();
    io::stdin().read_to_end(&mut text)?;
    io::stdout().write_all(&text)
}

/// Tells everybody who connects the same.
fn answer(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    println!("ready");
    loop {
        listener.accept()?.0.write_all(b"the answer")?;
    }
}

fn list(path: &str) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        println!("{}", entry?.file_name().to_string_lossy());
    }
    Ok(())
}

/// Makes the node of a block device and opens it.
fn block_device(path: &str, major: usize, minor: usize) -> io::Result<()> {
    let name = CString::new(path)?;
    // SAFETY: a C string that lives over the call, and numbers.
    let made = unsafe { mknod(name.as_ptr(), BLOCK_DEVICE, (major << 8 | minor) as c_ulong) };
    if made != 0 {
        return Err(io::Error::last_os_error());
    }
    fs::File::open(path).map(drop)
}

/// Says that it is ready, waits for SIGTERM or SIGUSR1, says which, and ends in order.
fn wait() {
    let waited = blocked(&[SIGTERM, SIGUSR1]);
    println!("ready");
    let mut found = 0;
    // SAFETY: both live over the call; the set is as large as the C library's.
    unsafe { sigwait(&raw const waited, &raw mut found) };
    println!("signal {found}");
}

/// Ends on SIGKILL alone.
fn stubborn() {
    blocked(&[SIGTERM, SIGUSR1]);
    println!("ready");
    loop {
        thread::park();
    }
}

fn blocked(signals: &[u32]) -> [u64; 16] {
    let mut set = [0; 16];
    set[0] = signals.iter().map(|signal| 1 << (signal - 1)).sum();
    // SAFETY: the set lives over the call and is as large as the C library's; the old one is not asked for.
    unsafe { sigprocmask(SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
    set
}

/// A numbered line at every pause, without end.
fn every(pause: Duration) -> io::Result<()> {
    for line in 0u64.. {
        writeln!(io::stdout(), "line {line}")?;
        thread::sleep(pause);
    }
    Ok(())
}

/// Numbered lines, as fast as they are taken.
fn lines(count: usize) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stdout());
    for line in 0..count {
        writeln!(out, "line {line}")?;
    }
    out.flush()
}

/// Says every line of its input again at once, and at the end that it ended.
fn repeat() -> io::Result<()> {
    println!("ready");
    for line in io::stdin().lock().lines() {
        println!("got {}", line?);
    }
    println!("end");
    Ok(())
}

fn terminals() {
    let word = |is: bool| if is { "terminal" } else { "none" };
    let (input, out, err) = (io::stdin().is_terminal(), io::stdout().is_terminal(), io::stderr().is_terminal());
    println!("{} {} {}", word(input), word(out), word(err));
}

/// Says its terminal's size whenever that changes, until it has so many columns.
fn size(columns: u16) -> io::Result<()> {
    let mut last = [u16::MAX; 4];
    while last[1] != columns {
        let mut now = [0; 4];
        // SAFETY: the array is as large as a winsize and lives over the call.
        if unsafe { ioctl(1, TIOCGWINSZ, &raw mut now) } != 0 {
            return Err(io::Error::last_os_error());
        }
        if now != last {
            println!("size {} {}", now[0], now[1]);
            last = now;
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Owner, group, mode and kind of a file.
fn stat(path: &str) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    let kind = found.file_type();
    let kind = if kind.is_char_device() { "device" } else if kind.is_dir() { "folder" } else { "file" };
    println!("{} {} {:o} {kind}", found.uid(), found.gid(), found.mode() & 0o7777);
    Ok(())
}

fn mount_tmpfs(path: &str) -> io::Result<()> {
    let (at, kind) = (CString::new(path)?, CString::new("tmpfs")?);
    // SAFETY: C strings that live over the call; tmpfs needs no data.
    let mounted = unsafe { mount(kind.as_ptr(), at.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    if mounted == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A call that default filters keep from containers, since the kernel's keyrings know no namespaces.
fn add_key() -> io::Result<()> {
    let (kind, name) = (CString::new("user")?, CString::new("conformance")?);
    // SAFETY: C strings that live over the call; one byte of payload is read.
    let added = unsafe { syscall(ADD_KEY, kind.as_ptr(), name.as_ptr(), name.as_ptr(), 1_usize, THREAD_KEYRING) };
    if added >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Uses so much memory, and waits.
fn hog(mebibytes: usize) {
    let mut held = Vec::new();
    for _ in 0..mebibytes {
        held.push(std::hint::black_box(vec![1_u8; 1 << 20]));
    }
    println!("holds {}", held.len());
    loop {
        thread::park();
    }
}

/// Until it has had so much of a processor, however long that takes.
fn spin(time: Duration) {
    let mut used = [0_i64; 2];
    while Duration::new(used[0] as u64, used[1] as u32) < time {
        // SAFETY: the array is as large as a timespec and lives over the call.
        unsafe { clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &raw mut used) };
    }
}

/// Ends by a fault of its own, which the kernel spares no first process.
fn crash() {
    // SAFETY: none: the write is meant to fault, and the process ends with it.
    unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) };
}

/// Says everything back to each who connects, as it comes.
fn echo_server(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    println!("ready");
    loop {
        let connection = listener.accept()?.0;
        thread::spawn(move || {
            let said = io::copy(&mut &connection, &mut &connection);
            // the peer may be gone
            let _ = said.and_then(|_| connection.shutdown(Shutdown::Write));
        });
    }
}

fn udp_answer(port: u16) -> io::Result<()> {
    let socket = UdpSocket::bind(("0.0.0.0", port))?;
    println!("ready");
    let mut asked = [0; 64];
    loop {
        let (_, from) = socket.recv_from(&mut asked)?;
        socket.send_to(b"the answer", from)?;
    }
}
