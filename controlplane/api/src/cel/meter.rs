//! What an expression may use up while it is evaluated: steps, which stand for time and for memory alike; and the regular
//! expressions it has had compiled.
//!
//! Must not know: expressions, values.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use regex::{Regex, RegexBuilder};

/// How many steps one evaluation may take in all. Upstream: `PerCallLimit` of `k8s.io/apiserver/pkg/apis/cel`.
const MOST_STEPS: usize = 1_000_000;

/// What compiling a pattern counts as: a hundred patterns that differ, and no evaluation has steps for more.
const COMPILING: usize = 10_000;

/// How large a compiled pattern may be, bytes.
const LARGEST_PATTERN: usize = 1 << 20;

/// The error of an expression that takes more.
pub const TOO_COSTLY: &str = "operation cancelled: actual cost limit exceeded";

/// How many patterns one expression keeps: most are written in it.
const MOST_PATTERNS: usize = 64;

type Compiled = Result<Arc<Regex>, String>;

/// The patterns that an expression met, compiled.
#[derive(Debug, Default)]
pub struct Patterns(Mutex<HashMap<String, Compiled>>);

impl Patterns {
    fn get(&self, pattern: &str) -> Option<Compiled> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(pattern).cloned()
    }

    fn keep(&self, pattern: &str, compiled: &Compiled) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MOST_PATTERNS {
            known.insert(pattern.to_owned(), compiled.clone());
        }
    }
}

/// Of one evaluation.
#[derive(Default)]
pub struct Meter<'p> {
    spent: Cell<usize>,
    patterns: Option<&'p Patterns>,
}

impl<'p> Meter<'p> {
    pub fn with(patterns: &'p Patterns) -> Self {
        Self { patterns: Some(patterns), ..Self::default() }
    }

    /// Counts `steps` before they are taken; whether there are that many left. Once there were not, nothing is left.
    pub fn has(&self, steps: usize) -> bool {
        let spent = self.spent.get().saturating_add(steps);
        self.spent.set(spent);
        spent <= MOST_STEPS
    }

    /// As [`Meter::has`].
    ///
    /// # Errors
    /// [`TOO_COSTLY`].
    pub fn take(&self, steps: usize) -> Result<(), String> {
        if self.has(steps) { Ok(()) } else { Err(TOO_COSTLY.to_owned()) }
    }

    /// Text of so many bytes, read or written once.
    ///
    /// # Errors
    /// [`TOO_COSTLY`].
    pub fn text(&self, bytes: usize) -> Result<(), String> {
        self.take(bytes / 10)
    }

    /// `pattern`, which is Go's. One that was met before was paid for.
    ///
    /// # Errors
    /// That it is none, or takes too much.
    pub fn regex(&self, pattern: &str) -> Compiled {
        if let Some(known) = self.patterns.and_then(|it| it.get(pattern)) {
            return known;
        }
        self.take(COMPILING)?;
        let regex = RegexBuilder::new(&ascii_classes(pattern)).size_limit(LARGEST_PATTERN).build();
        let compiled = regex.map(Arc::new).map_err(|error| format!("error parsing regexp: {error}"));
        if let Some(patterns) = self.patterns {
            patterns.keep(pattern, &compiled);
        }
        compiled
    }
}

/// Go's `\w`, `\d` and `\s` are ASCII, which also makes them small.
fn ascii_classes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        let escaped = if c == '\\' { chars.next() } else { None };
        match escaped {
            None => out.push(c),
            Some('d') => out.push_str("[0-9]"),
            Some('D') => out.push_str("[^0-9]"),
            Some('w') => out.push_str("[0-9A-Za-z_]"),
            Some('W') => out.push_str("[^0-9A-Za-z_]"),
            Some('s') => out.push_str(r"[\t\n\f\r ]"),
            Some('S') => out.push_str(r"[^\t\n\f\r ]"),
            Some(other) => out.extend([c, other]),
        }
    }
    out
}
