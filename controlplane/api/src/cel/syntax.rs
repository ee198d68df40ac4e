//! The syntax tree.
//!
//! Must not know: text, values of variables.

use std::sync::Arc;

#[derive(Debug, Clone, PartialEq)]
pub enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Arc<[u8]>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

/// `all`, `exists`, … over the elements of a list or the keys of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Macro {
    All,
    Exists,
    ExistsOne,
    Map,
    Filter,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    Literal(Literal),
    Ident(String),
    /// `a.b`, `a.?b`
    Select(Box<Expr>, String, bool),
    /// `a[b]`, `a[?b]`
    Index(Box<Expr>, Box<Expr>, bool),
    /// `f(…)`, `a.f(…)`
    Call(Option<Box<Expr>>, String, Vec<Expr>),
    /// `has(a.b)`
    Has(Box<Expr>, String),
    /// Over what, its variables, a condition (of `map`), and what is done for each.
    Comprehension(Macro, Box<Expr>, Vec<String>, Option<Box<Expr>>, Box<Expr>),
    /// `cel.bind(name, value, in)`
    Bind(String, Box<Expr>, Box<Expr>),
    List(Vec<(Expr, bool)>),
    Map(Vec<(Expr, Expr, bool)>),
    /// `Object.spec{field: value}`: the name and its fields.
    Message(String, Vec<(String, Expr, bool)>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    Binary(Operator, Box<Expr>, Box<Expr>),
    Conditional(Box<Expr>, Box<Expr>, Box<Expr>),
}

/// Names that are not variables: types.
pub const TYPES: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "dyn",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "timestamp",
    "type",
    "uint",
    "optional",
    "optional_type",
    "google",
];

/// The first name that is neither a variable nor bound by what is around it.
pub fn undeclared(expr: &Expr, known: &[&str]) -> Option<String> {
    let all = |many: &[&Expr]| many.iter().find_map(|expr| undeclared(expr, known));
    match expr {
        Expr::Literal(_) => None,
        Expr::Ident(name) => {
            let there = known.contains(&name.as_str()) || TYPES.contains(&name.as_str());
            (!there).then(|| name.clone())
        }
        Expr::Select(of, ..) | Expr::Has(of, _) | Expr::Not(of) | Expr::Negate(of) => undeclared(of, known),
        Expr::Index(a, b, _) | Expr::Binary(_, a, b) => all(&[a, b]),
        Expr::Conditional(a, b, c) => all(&[a, b, c]),
        Expr::Call(of, name, arguments) => {
            let there = super::methods::is_known(name, of.is_some());
            let of = of.as_ref().filter(|of| !is_namespace(of));
            of.and_then(|of| undeclared(of, known))
                .or_else(|| arguments.iter().find_map(|it| undeclared(it, known)))
                .or_else(|| (!there).then(|| name.clone()))
        }
        Expr::Comprehension(_, over, names, condition, each) => undeclared(over, known).or_else(|| {
            let inner = with(known, names);
            condition.as_ref().and_then(|it| undeclared(it, &inner)).or_else(|| undeclared(each, &inner))
        }),
        Expr::Bind(name, value, rest) => {
            undeclared(value, known).or_else(|| undeclared(rest, &with(known, std::slice::from_ref(name))))
        }
        Expr::List(items) => items.iter().find_map(|(item, _)| undeclared(item, known)),
        Expr::Map(pairs) => pairs.iter().find_map(|(key, value, _)| all(&[key, value])),
        Expr::Message(_, fields) => fields.iter().find_map(|(_, value, _)| undeclared(value, known)),
    }
}

/// `optional`, `math`, …: what functions are named below, not what they are called on.
pub fn is_namespace(expr: &Expr) -> bool {
    matches!(expr, Expr::Ident(name) if matches!(name.as_str(), "optional" | "math" | "strings" | "sets"))
}

fn with<'a>(known: &[&'a str], names: &'a [String]) -> Vec<&'a str> {
    known.iter().copied().chain(names.iter().map(String::as_str)).collect()
}
