//! The one program of the suite's images: it does what its first argument names, and says what it found.
//!
//! Must not know: any test. No crate but std, which is linked in whole, so that the images hold nothing else.

use std::env;
use std::ffi::{CString, c_char, c_int, c_uint, c_ulong};
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::TcpListener;
use std::process::exit;
use std::thread;
use std::time::Duration;

unsafe extern "C" {
    fn mknod(path: *const c_char, mode: c_uint, device: c_ulong) -> c_int;
    fn sigprocmask(how: c_int, set: *const [u64; 16], old: *mut [u64; 16]) -> c_int;
    fn sigwait(set: *const [u64; 16], found: *mut c_int) -> c_int;
}

const SIG_BLOCK: c_int = 0;
const SIGTERM: u32 = 15;
const SIGUSR1: u32 = 10;
const BLOCK_DEVICE: c_uint = 0o060_600;

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
        ["link", path] => println!("{}", fs::read_link(path)?.display()),
        ["write", path, text] => fs::write(path, text)?,
        ["open", path] => drop(OpenOptions::new().read(true).write(true).open(path)?),
        ["mkdir", path] => fs::create_dir(path)?,
        ["ls", path] => list(path)?,
        ["block-device", path, major, minor] => block_device(path, number(major)?, number(minor)?)?,
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
