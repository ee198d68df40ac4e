//! The monitor as its clients meet it: the real program, real processes, real runc.

mod attach;
mod client;
mod ends;
mod keep;
mod logs;
mod place;
mod processes;
mod runc;
