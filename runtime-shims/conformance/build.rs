//! Compiles the program of the suite's images: a static one, so that it is not a crate of the workspace.

use std::env;
use std::error::Error;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=program");
    let variable = |name: &str| env::var_os(name).ok_or(format!("cargo sets no {name}"));
    let out = PathBuf::from(variable("OUT_DIR")?).join("program");
    let mut rustc = Command::new(variable("RUSTC")?);
    rustc.args(["--edition", "2024", "--crate-type", "bin", "program/main.rs", "-o"]).arg(out);
    rustc.arg("--target").arg(variable("TARGET")?);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = OsString::from("linker=");
        option.push(linker);
        rustc.arg("-C").arg(option);
    }
    let options =
        ["panic=abort", "opt-level=s", "relocation-model=static", "target-feature=+crt-static", "strip=symbols"];
    rustc.args(options.iter().flat_map(|option| ["-C", option]));
    if rustc.status()?.success() { Ok(()) } else { Err("the images' program does not compile".into()) }
}
