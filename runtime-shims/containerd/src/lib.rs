//! CRI over containerd's own API, for hosts whose containerd has its CRI off.
//!
//! Must not know: the embedded runtime, the kubelet.
