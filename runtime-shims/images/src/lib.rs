//! Images: pulled, verified, unpacked once, shared.
//!
//! ```text
//! ROOT/images.json          names and images, replaced atomically; `lock` guards changes and collection
//!      blobs/sha256/HEX     manifests, configurations, compressed layers; verified before they are here
//!      ingest/HEX           blobs that are not finished, to be resumed
//!      layers/HEX/fs        unpacked layers by diffID, in overlayfs' form
//!      l/HEX                short ways to them, for mount options
//!      leases/ holds/       what collection must leave alone
//!      boot                 the machine's start that last looked for damage
//! ```
//!
//! Must not know: containers, sandboxes, CRI.

mod archive;
mod config;
mod content;
mod digest;
mod error;
mod fetch;
mod growth;
mod index;
mod inherit;
mod keep;
mod layers;
mod lock;
mod manifest;
#[doc(hidden)]
pub mod parsers;
mod progress;
mod pull;
mod reference;
mod registry;
mod repair;
mod store;
mod unpack;

pub use archive::Compression;
pub use config::{Config, Credentials, Endpoint, Limits, Registry};
pub use digest::Digest;
pub use error::{Error, ErrorKind, Result};
pub use keep::Hold;
pub use progress::{Event, Progress};
pub use reference::{Object, Reference};
pub use registry::Auth;
pub use store::{Image, Store, Usage};
pub use unpack::{Unpacked, unpack};
