//! The monitor as its clients meet it: the real program, real processes, real runc.

mod place;
mod processes;
