//! A CRI conformance suite: every call and field that a kubelet relies on, one test per demanded behaviour.
//!
//! Must not know: which runtime it tests.
