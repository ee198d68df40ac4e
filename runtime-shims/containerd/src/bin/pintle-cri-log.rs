//! The log keeper as a program of its own, for the tests of this crate; the product reaches it as `pintle cri-log`.
//!
//! Must not know: anything.

use std::process::ExitCode;

fn main() -> ExitCode {
    pintle_containerd::keeper::main(std::env::args_os().skip(1))
}
