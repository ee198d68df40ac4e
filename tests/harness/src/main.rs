//! Starts the registry with its images and prints their references, one per line, until it is interrupted.

use pintle_harness::{Registry, images};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let registry = Registry::start().await?;
    for reference in images::build_and_push(&registry).await?.all() {
        println!("{reference}");
    }
    Ok(tokio::signal::ctrl_c().await?)
}
