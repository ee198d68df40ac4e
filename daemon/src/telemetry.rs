//! Logs to standard error: text for people, JSON on request.
//!
//! Must not know: what is logged.

use tracing_subscriber::{EnvFilter, fmt};

/// Installs the process's one subscriber. `filter` is in `RUST_LOG`'s syntax; `RUST_LOG` wins over it.
pub fn install(filter: &str, json: bool) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_default_env().or_else(|_| EnvFilter::try_new(filter))?;
    let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = if json { builder.json().try_init() } else { builder.with_target(true).try_init() };
    installed.map_err(|error| anyhow::anyhow!("installing the log subscriber: {error}"))
}
