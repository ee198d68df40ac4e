//! What an expression comes to.
//!
//! Must not know: which functions there are.

use std::borrow::Cow;
use std::cell::Cell;
use std::cmp::Ordering;

use super::methods;
use super::syntax::{Expr, Literal, Macro, Operator, is_namespace};
use super::text;
use super::value::Value;

/// How many steps an expression may take in all.
const MOST_STEPS: u64 = 1_000_000;

/// The error of an expression that takes more.
pub const TOO_COSTLY: &str = "operation cancelled: actual cost limit exceeded";

type Result<'a> = std::result::Result<Value<'a>, String>;

pub fn run<'a>(expr: &'a Expr, variables: &[(&'a str, Value<'a>)]) -> Result<'a> {
    let steps = Cell::new(0);
    let eval = Eval { steps: &steps };
    eval.value(expr, &Scope { names: variables, outer: None })
}

/// Names and what they stand for, the innermost first.
struct Scope<'s, 'a> {
    names: &'s [(&'a str, Value<'a>)],
    outer: Option<&'s Scope<'s, 'a>>,
}

impl<'a> Scope<'_, 'a> {
    fn get(&self, name: &str) -> Option<Value<'a>> {
        let here = self.names.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
        here.or_else(|| self.outer.and_then(|outer| outer.get(name)))
    }
}

#[derive(Clone, Copy)]
struct Eval<'c> {
    steps: &'c Cell<u64>,
}

impl Eval<'_> {
    fn step(self, count: usize) -> std::result::Result<(), String> {
        let steps = self.steps.get() + 1 + count as u64;
        self.steps.set(steps);
        if steps > MOST_STEPS { Err(TOO_COSTLY.to_owned()) } else { Ok(()) }
    }

    fn value<'a>(self, expr: &'a Expr, scope: &Scope<'_, 'a>) -> Result<'a> {
        self.step(0)?;
        match expr {
            Expr::Literal(literal) => Ok(of_literal(literal)),
            Expr::Ident(name) => named(name, scope),
            Expr::Select(of, field, optional) => {
                let of = self.value(of, scope)?;
                select(&of, field, *optional)
            }
            Expr::Index(of, index, optional) => {
                let (of, index) = (self.value(of, scope)?, self.value(index, scope)?);
                self::index(&of, &index, *optional)
            }
            Expr::Call(of, name, arguments) => self.call(of.as_deref(), name, arguments, scope),
            Expr::Has(of, field) => {
                let of = self.value(of, scope)?;
                has(&of, field).map(Value::Bool)
            }
            Expr::Comprehension(kind, over, names, condition, each) => {
                let over = self.value(over, scope)?;
                self.comprehension(*kind, &over, names, condition.as_deref(), each, scope)
            }
            Expr::Bind(name, value, rest) => {
                let value = self.value(value, scope)?;
                self.value(rest, &Scope { names: &[(name, value)], outer: Some(scope) })
            }
            Expr::List(items) => self.list(items, scope),
            Expr::Map(pairs) => self.map(pairs, scope),
            Expr::Message(_, fields) => self.message(fields, scope),
            Expr::Not(of) => match self.value(of, scope)? {
                Value::Bool(it) => Ok(Value::Bool(!it)),
                other => Err(no_overload("!_", &[&other])),
            },
            Expr::Negate(of) => negated(&self.value(of, scope)?),
            Expr::Binary(Operator::And, a, b) => self.logical(a, b, false, scope),
            Expr::Binary(Operator::Or, a, b) => self.logical(a, b, true, scope),
            Expr::Binary(operator, a, b) => {
                let (a, b) = (self.value(a, scope)?, self.value(b, scope)?);
                self.step(a.size().unwrap_or(0) / 10)?;
                binary(*operator, &a, &b)
            }
            Expr::Conditional(condition, then, otherwise) => match self.value(condition, scope)? {
                Value::Bool(true) => self.value(then, scope),
                Value::Bool(false) => self.value(otherwise, scope),
                other => Err(no_overload("_?_:_", &[&other])),
            },
        }
    }

    /// `&&` and `||` know the answer where one side alone decides, even if the other fails.
    fn logical<'a>(self, a: &'a Expr, b: &'a Expr, decides: bool, scope: &Scope<'_, 'a>) -> Result<'a> {
        let a = self.value(a, scope);
        if matches!(a, Ok(Value::Bool(it)) if it == decides) {
            return a;
        }
        let b = self.value(b, scope);
        match (a, b) {
            (_, Ok(Value::Bool(it))) if it == decides => Ok(Value::Bool(it)),
            (Err(error), _) | (_, Err(error)) => Err(error),
            (Ok(Value::Bool(_)), Ok(Value::Bool(it))) => Ok(Value::Bool(it)),
            (Ok(a), Ok(b)) => Err(no_overload(if decides { "_||_" } else { "_&&_" }, &[&a, &b])),
        }
    }

    fn call<'a>(self, of: Option<&'a Expr>, name: &str, arguments: &'a [Expr], scope: &Scope<'_, 'a>) -> Result<'a> {
        let mut values = Vec::with_capacity(arguments.len());
        for argument in arguments {
            values.push(self.value(argument, scope)?);
        }
        match of {
            None => methods::function("", name, &values),
            Some(Expr::Ident(namespace)) if is_namespace(of.unwrap_or(&Expr::Literal(Literal::Null))) => {
                methods::function(namespace, name, &values)
            }
            Some(of) => {
                let of = self.value(of, scope)?;
                self.step(of.size().unwrap_or(0) / 10)?;
                methods::method(&of, name, &values)
            }
        }
    }

    fn comprehension<'a>(
        self,
        kind: Macro,
        over: &Value<'a>,
        names: &'a [String],
        condition: Option<&'a Expr>,
        each: &'a Expr,
        scope: &Scope<'_, 'a>,
    ) -> Result<'a> {
        let mut found = Vec::new();
        let mut count = 0;
        let mut failed = None;
        for (key, value) in elements(over)? {
            let bound: Vec<(&str, Value<'a>)> = match names {
                [one] if over.entries().is_some() => vec![(one, key)],
                [one] => vec![(one, value.clone())],
                [first, second] => vec![(first, key), (second, value.clone())],
                _ => Vec::new(),
            };
            let inner = Scope { names: &bound, outer: Some(scope) };
            if let Some(condition) = condition
                && !truth(self.value(condition, &inner)?)?
            {
                continue;
            }
            let result = self.value(each, &inner);
            let element = || bound.first().map_or(Value::Null, |(_, value)| value.clone());
            match kind {
                Macro::Map => found.push(result?),
                Macro::Filter => found.extend(truth(result?)?.then(element)),
                Macro::ExistsOne => count += usize::from(truth(result?)?),
                Macro::All | Macro::Exists => match result.and_then(truth) {
                    Ok(it) if it == (kind == Macro::Exists) => return Ok(Value::Bool(it)),
                    Ok(_) => {}
                    Err(error) => failed = failed.or(Some(error)),
                },
            }
        }
        match (kind, failed) {
            (_, Some(error)) => Err(error),
            (Macro::Map | Macro::Filter, _) => Ok(Value::list(found)),
            (Macro::ExistsOne, _) => Ok(Value::Bool(count == 1)),
            (Macro::All, _) => Ok(Value::Bool(true)),
            (Macro::Exists, _) => Ok(Value::Bool(false)),
        }
    }

    fn list<'a>(self, items: &'a [(Expr, bool)], scope: &Scope<'_, 'a>) -> Result<'a> {
        let mut found = Vec::new();
        for (item, optional) in items {
            found.extend(given(self.value(item, scope)?, *optional)?);
        }
        Ok(Value::list(found))
    }

    fn map<'a>(self, pairs: &'a [(Expr, Expr, bool)], scope: &Scope<'_, 'a>) -> Result<'a> {
        let mut found: Vec<(Value<'a>, Value<'a>)> = Vec::new();
        for (key, value, optional) in pairs {
            let (key, value) = (self.value(key, scope)?, self.value(value, scope)?);
            if found.iter().any(|(other, _)| other.equals(&key)) {
                return Err(format!("insert failed: key {} already exists", text::shown(&key)));
            }
            found.extend(given(value, *optional)?.map(|value| (key, value)));
        }
        Ok(Value::Map(found.into()))
    }

    fn message<'a>(self, fields: &'a [(String, Expr, bool)], scope: &Scope<'_, 'a>) -> Result<'a> {
        let mut found = Vec::new();
        for (name, value, optional) in fields {
            let value = given(self.value(value, scope)?, *optional)?;
            found.extend(value.map(|value| (Value::String(Cow::Borrowed(name.as_str())), value)));
        }
        Ok(Value::Map(found.into()))
    }
}

/// The value; of an optional one, what is in it.
fn given(value: Value<'_>, optional: bool) -> std::result::Result<Option<Value<'_>>, String> {
    match (value, optional) {
        (Value::Optional(inner), true) => Ok(inner.map(|inner| (*inner).clone())),
        (other, true) => Err(no_overload("optional entry", &[&other])),
        (value, false) => Ok(Some(value)),
    }
}

fn elements<'a>(over: &Value<'a>) -> std::result::Result<Vec<(Value<'a>, Value<'a>)>, String> {
    if let Some(items) = over.items() {
        return Ok(items.into_iter().enumerate().map(|(at, item)| (Value::Int(at as i64), item)).collect());
    }
    over.entries()
        .ok_or_else(|| format!("expression of type '{}' cannot be range of a comprehension", over.type_name()))
}

fn truth(value: Value<'_>) -> std::result::Result<bool, String> {
    value.as_bool().ok_or_else(|| format!("no such overload: expected bool, found {}", value.type_name()))
}

fn of_literal(literal: &Literal) -> Value<'_> {
    match literal {
        Literal::Null => Value::Null,
        Literal::Bool(it) => Value::Bool(*it),
        Literal::Int(it) => Value::Int(*it),
        Literal::Uint(it) => Value::Uint(*it),
        Literal::Double(it) => Value::Double(*it),
        Literal::String(text) => Value::String(Cow::Borrowed(text)),
        Literal::Bytes(bytes) => Value::Bytes(bytes.clone()),
    }
}

fn named<'a>(name: &str, scope: &Scope<'_, 'a>) -> Result<'a> {
    if let Some(value) = scope.get(name) {
        return Ok(value);
    }
    let types = super::syntax::TYPES.iter().find(|known| **known == name);
    types.map(|name| Value::Type(name)).ok_or_else(|| format!("no such attribute(s): {name}"))
}

fn select<'a>(of: &Value<'a>, field: &str, optional: bool) -> Result<'a> {
    let key = Value::text(field);
    if let Value::Optional(inner) = of {
        let Some(inner) = inner else { return Ok(Value::Optional(None)) };
        return inner.get(&key).map(|found| Value::Optional(found.map(Into::into)));
    }
    let found = of.get(&key)?;
    match (found, optional) {
        (found, true) => Ok(Value::Optional(found.map(Into::into))),
        (Some(value), false) => Ok(value),
        (None, false) => Err(format!("no such key: {field}")),
    }
}

fn index<'a>(of: &Value<'a>, index: &Value<'a>, optional: bool) -> Result<'a> {
    if let Value::Optional(inner) = of {
        let Some(inner) = inner else { return Ok(Value::Optional(None)) };
        return self::index(inner, index, true);
    }
    let found = match (of.items(), index) {
        (Some(items), index) => {
            let at = index.number().ok_or_else(|| no_overload("_[_]", &[of, index]))?;
            let found = if at >= 0.0 && at.fract() == 0.0 { items.get(at as usize).cloned() } else { None };
            if found.is_none() && !optional {
                return Err(format!("index out of bounds: {}", text::shown(index)));
            }
            found
        }
        (None, key) => of.get(key)?,
    };
    match (found, optional) {
        (found, true) => Ok(Value::Optional(found.map(Into::into))),
        (Some(value), false) => Ok(value),
        (None, false) => Err(format!("no such key: {}", text::shown(index))),
    }
}

fn has(of: &Value<'_>, field: &str) -> std::result::Result<bool, String> {
    match of {
        Value::Optional(None) => Ok(false),
        Value::Optional(Some(inner)) => has(inner, field),
        other => Ok(other.get(&Value::text(field))?.is_some()),
    }
}

pub fn no_overload(name: &str, values: &[&Value<'_>]) -> String {
    let types: Vec<&str> = values.iter().map(|value| value.type_name()).collect();
    format!("no such overload: {name}({})", types.join(", "))
}

fn negated<'a>(of: &Value<'a>) -> Result<'a> {
    match of {
        Value::Int(it) => it.checked_neg().map(Value::Int).ok_or_else(|| "integer overflow".to_owned()),
        Value::Double(it) => Ok(Value::Double(-it)),
        other => Err(no_overload("-_", &[other])),
    }
}

fn binary<'a>(operator: Operator, a: &Value<'a>, b: &Value<'a>) -> Result<'a> {
    let ordered = |holds: fn(Ordering) -> bool| {
        let order = a.compare(b).ok_or_else(|| no_overload("_<_", &[a, b]))?;
        Ok(Value::Bool(holds(order)))
    };
    match operator {
        Operator::Equal => Ok(Value::Bool(a.equals(b))),
        Operator::NotEqual => Ok(Value::Bool(!a.equals(b))),
        Operator::Less => ordered(Ordering::is_lt),
        Operator::LessEqual => ordered(Ordering::is_le),
        Operator::Greater => ordered(Ordering::is_gt),
        Operator::GreaterEqual => ordered(Ordering::is_ge),
        Operator::In => match b.items() {
            Some(items) => Ok(Value::Bool(items.iter().any(|item| item.equals(a)))),
            None => Ok(Value::Bool(b.get(a)?.is_some())),
        },
        _ => methods::arithmetic(operator, a, b),
    }
}
