//! The conventions of the repository as tests: who may depend on whom, what must stay pure, how files begin and how
//! long they get.
//!
//! Must not know: what any code does.
