//! What a CRI request makes of an OCI bundle: the runtime specification, DNS files, mounts.
//!
//! Must not know: the host, the disk, any runtime.
