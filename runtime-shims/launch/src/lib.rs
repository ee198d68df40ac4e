//! An OCI runtime: one container, one call, one throwaway process.
//!
//! Must not know: CRI, pods, images, who calls.
