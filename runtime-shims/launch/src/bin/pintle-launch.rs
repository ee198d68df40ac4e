//! The launcher alone, for tests and for use as an OCI runtime by itself.
//!
//! Must not know: anything but where `main` is.

fn main() -> std::process::ExitCode {
    pintle_launch::main(std::env::args_os())
}
