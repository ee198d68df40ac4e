//! The containers' parent: the protocol spoken with it, and the program itself.
//!
//! Must not know: CRI, OCI, images, networks.
