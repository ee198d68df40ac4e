//! Compiles the CRI's protocol files with protox, so that no `protoc` is needed for them.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
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
