//! How the program is linked.
//!
//! Must not know: what is in it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // At a fixed address. Every container is launched by an exec of this program: at an address of the moment, the loader
    // would write megabytes of addresses into pages of the new process's own first, which takes milliseconds.
    println!("cargo::rustc-link-arg-bins=-no-pie");
}
