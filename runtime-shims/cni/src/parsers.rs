//! The parsers of what network plugins and their callers are given, for whoever holds them against hostile bytes.
//!
//! Must not know: what is done with it.

use serde_json::Value;

use crate::caller::{CallError, List};
use crate::request::Conf;

/// A network configuration list, as the document that is kept of it.
///
/// # Errors
/// It is none.
pub fn list(text: &str) -> Result<Value, CallError> {
    List::parse(text).map(|list| list.document())
}

/// A single plugin's configuration, as the document that is kept of it.
///
/// # Errors
/// It is none.
pub fn single(text: &str) -> Result<Value, CallError> {
    List::parse_single(text).map(|list| list.document())
}

/// What Pintle's own plugin reads on stdin: how many ranges of addresses it names, and how many addresses it asks for.
/// `None` where it is no configuration, or names what is no range or no address.
pub fn request(stdin: &[u8]) -> Option<(usize, usize)> {
    let conf = Conf::parse(stdin).ok()?;
    Some((conf.ranges().ok()?.len(), conf.wanted().ok()?.len()))
}
