//! CEL: the expressions of admission (match conditions, policies). Dynamically typed: what upstream's type checker
//! refuses when an expression is written fails here when it is evaluated.
//! Source: the language definition of `google/cel-spec`, and the libraries of `k8s.io/apiserver/pkg/cel`.
//!
//! Must not know: who asks, or what the answer decides.

#[cfg(test)]
mod bounds;
mod eval;
mod lexer;
mod meter;
mod methods;
mod parser;
mod syntax;
#[cfg(test)]
mod tests;
mod text;
mod value;
mod variables;

use std::sync::Arc;

use serde_json::Value as Json;

pub use value::Value;
pub use variables::{Known, Variables};

/// What the expressions of admission may name.
pub const ADMISSION: &[&str] = &["object", "oldObject", "request"];

/// What the expressions of admission policies may name.
pub const POLICY: &[&str] = &["object", "oldObject", "request", "params", "namespaceObject", "variables"];

/// How many characters an expression may have, as cel-go has it.
const LONGEST: usize = 100_000;

/// A parsed expression.
#[derive(Debug, Clone)]
pub struct Program {
    expr: syntax::Expr,
    height: usize,
    /// The fields of `variables` that it reads.
    reads: Vec<String>,
    patterns: Arc<meter::Patterns>,
}

impl Program {
    /// Parses `text`, which may name `variables` and nothing else.
    ///
    /// # Errors
    /// What is wrong, and where, as cel-go begins it.
    pub fn compile(text: &str, variables: &[&str]) -> Result<Self, String> {
        let failed = |line: i64, column: usize, why: String| {
            format!("compilation failed: ERROR: <input>:{line}:{column}: {why}")
        };
        let size = text.chars().count();
        if size > LONGEST {
            let why = format!("expression code point size exceeds limit: size: {size}, limit {LONGEST}");
            return Err(failed(-1, 0, why));
        }
        let tokens = lexer::tokens(text);
        let parsed = tokens.and_then(|tokens| parser::parse(&tokens, text.len()));
        let tree = parsed.map_err(|error| {
            let before = text.get(..error.at).unwrap_or(text);
            let (line, column) = (before.matches('\n').count() + 1, before.rsplit('\n').next().unwrap_or_default());
            failed(line as i64, column.chars().count() + 1, format!("Syntax error: {}", error.why))
        })?;
        match syntax::undeclared(&tree.expr, variables) {
            Some(name) => Err(failed(1, 1, format!("undeclared reference to '{name}' (in container '')"))),
            None => Ok(Self { expr: tree.expr, height: tree.height, reads: tree.reads, patterns: Arc::default() }),
        }
    }

    /// The value, with `variables` as they are; one that is not given is an error where it is used.
    ///
    /// # Errors
    /// What failed, or that the expression costs too much.
    pub fn run<'a>(&'a self, variables: &[(&'a str, &'a Json)]) -> Result<Value<'a>, String> {
        let values: Vec<(&str, Value<'a>)> = variables.iter().map(|(name, json)| (*name, Value::of(json))).collect();
        self.run_with(&values)
    }

    /// As [`Program::run`], with values that expressions made.
    pub fn run_with<'a>(&'a self, variables: &[(&'a str, Value<'a>)]) -> Result<Value<'a>, String> {
        self.run_over(&Known::new(variables.to_vec(), None))
    }

    /// As [`Program::run`], where some of the names are expressions themselves.
    pub fn run_over<'a>(&'a self, known: &Known<'a>) -> Result<Value<'a>, String> {
        eval::run(&self.expr, known, &self.patterns)
    }
}
