//! Where objects are kept: `trait Store`, with etcd's semantics, and `Embedded`, one file on this machine.
//!
//! Must not know: Kubernetes. A key is a string, a value is bytes.

pub mod embedded;
mod model;
mod watch;

pub use embedded::{Embedded, Options, open};
pub use model::{Entry, Error, Event, MAX_VALUE, Page, Range, Store, Write, WriteError};
pub use watch::{Batch, Watch, WatchEnd};
