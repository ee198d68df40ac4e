//! Compiles the monitor: a static program without libc, so that it is not a crate of the workspace.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=program");
    println!("cargo::rerun-if-changed=src/protocol");
    let variable = |name: &str| env::var_os(name).ok_or(format!("cargo sets no {name}"));
    let out = PathBuf::from(variable("OUT_DIR")?).join("monitor");
    let mut rustc = Command::new(variable("RUSTC")?);
    rustc.args(["--edition", "2024", "--crate-type", "bin", "--crate-name", "pintle_monitor"]);
    rustc.args(["program/main.rs", "-o"]).arg(out).arg("--target").arg(variable("TARGET")?);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = OsString::from("linker=");
        option.push(linker);
        rustc.arg("-C").arg(option);
    }
    // A small file at a fixed address: nothing to relocate, nothing to load.
    let options = [
        "panic=abort",
        "opt-level=s",
        "lto=fat",
        "codegen-units=1",
        "relocation-model=static",
        "target-feature=+crt-static",
        "strip=symbols",
        "link-arg=-nostartfiles",
        "link-arg=-nostdlib",
        "link-arg=-static",
        "link-arg=-Wl,--build-id=none,-z,noseparate-code",
    ];
    rustc.args(options.iter().flat_map(|option| ["-C", option]));
    if rustc.status()?.success() { Ok(()) } else { Err("the monitor does not compile".into()) }
}
