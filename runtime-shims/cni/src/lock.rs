//! One at a time, over processes: for what is read, decided and then changed in the kernel.
//!
//! Must not know: what is done meanwhile.

use std::fs::{self, File, OpenOptions};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use crate::error::{Code, Context, Result};

/// How long another call may hold the lock: it holds it for some messages to the kernel.
const WITHIN: Duration = Duration::from_secs(10);

/// The lock of `data_dir`, held while the answer lives; a process that dies gives it back.
pub fn take(data_dir: &Path) -> Result<Flock<File>> {
    fs::create_dir_all(data_dir).context(Code::Io, || format!("cannot make {}", data_dir.display()))?;
    let path = data_dir.join("lock");
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let mut file = open.context(Code::Io, || format!("cannot open {}", path.display()))?;
    let began = Instant::now();
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            // flock has no timeout, and nothing may wait for ever.
            Err((back, _)) if began.elapsed() < WITHIN => file = back,
            Err((_, error)) => return Err(error).context(Code::Io, || format!("{} stays locked", path.display())),
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
