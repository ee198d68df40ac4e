//! Compiles the CRI's protocol files with protox, so that no `protoc` is needed for them; and the pause program, which is
//! a static one without libc, so that it is not a crate of the workspace.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    protocol()?;
    pause()
}

fn protocol() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(["proto/runtime.proto", "proto/image.proto"], ["proto"])?;
    tonic_prost_build::configure()
        // Its fields are credentials: `Debug` is written by hand, without them.
        .skip_debug(["runtime.v1.AuthConfig"])
        // The clients and servers work over any tower service; the transport is ours (`channel.rs`).
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}

fn pause() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=pause");
    let variable = |name: &str| env::var_os(name).ok_or(format!("cargo sets no {name}"));
    let out = PathBuf::from(variable("OUT_DIR")?).join("pause");
    let mut rustc = Command::new(variable("RUSTC")?);
    rustc.args(["--edition", "2024", "--crate-type", "bin", "pause/main.rs", "-o"]).arg(out);
    rustc.arg("--target").arg(variable("TARGET")?);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = OsString::from("linker=");
        option.push(linker);
        rustc.arg("-C").arg(option);
    }
    // One small file at a fixed address: nothing to relocate, nothing to load.
    let options = [
        "panic=abort",
        "opt-level=z",
        "relocation-model=static",
        "target-feature=+crt-static",
        "strip=symbols",
        "link-arg=-nostartfiles",
        "link-arg=-nostdlib",
        "link-arg=-static",
        "link-arg=-Wl,--build-id=none,-z,noseparate-code",
    ];
    rustc.args(options.iter().flat_map(|option| ["-C", option]));
    if rustc.status()?.success() { Ok(()) } else { Err("the pause program does not compile".into()) }
}
