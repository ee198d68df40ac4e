//! What an expression comes to.
//!
//! Must not know: which functions there are.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::meter::{Meter, Patterns};
use super::methods;
use super::syntax::{Expr, Literal, Macro, Operator, is_namespace};
use super::text;
use super::value::Value;
use super::variables::Known;

type Result<'a> = std::result::Result<Value<'a>, String>;

pub fn run<'a>(expr: &'a Expr, known: &Known<'a>, patterns: &Patterns) -> Result<'a> {
    let meter = Meter::with(patterns);
    let eval = Eval { meter: &meter, known, end: usize::MAX };
    let value = eval.value(expr, &Scope { names: &known.names, outer: None })?;
    // what compares values stops where nothing is left, with whatever answer
    meter.take(0)?;
    Ok(value)
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
struct Eval<'m, 'a> {
    meter: &'m Meter<'m>,
    known: &'m Known<'a>,
    /// Variables from this place on are not there yet.
    end: usize,
}

/// `value` recurses as deep as a tree is high: it and what it calls keep little on the stack.
impl<'a> Eval<'_, 'a> {
    fn value(self, expr: &'a Expr, scope: &Scope<'_, 'a>) -> Result<'a> {
        self.meter.take(1)?;
        match expr {
            Expr::Literal(literal) => Ok(of_literal(literal)),
            Expr::Ident(name) => named(name, scope),
            Expr::Select(of, field, optional) => self.selected(of, field, *optional, scope),
            Expr::Index(of, index, optional) => self.indexed(of, index, *optional, scope),
            Expr::Call(of, name, arguments) => self.call(of.as_deref(), name, arguments, scope),
            Expr::Has(of, field) => self.has(of, field, scope),
            Expr::Comprehension(kind, over, names, condition, each) => {
                let each = Each { kind: *kind, names, condition: condition.as_deref(), each };
                self.comprehension(over, &each, scope)
            }
            Expr::Bind(name, value, rest) => self.bound(name, value, rest, scope),
            Expr::List(items) => self.list(items, scope),
            Expr::Map(pairs) => self.map(pairs, scope),
            Expr::Message(_, fields) => self.message(fields, scope),
            Expr::Not(of) => self.not(of, scope),
            Expr::Negate(of) => self.negated(of, scope),
            Expr::Binary(Operator::And, a, b) => self.logical(a, b, false, scope),
            Expr::Binary(Operator::Or, a, b) => self.logical(a, b, true, scope),
            Expr::Binary(operator, a, b) => self.binary(*operator, a, b, scope),
            Expr::Conditional(condition, then, otherwise) => {
                let way = if self.condition(condition, scope)? { then } else { otherwise };
                self.value(way, scope)
            }
        }
    }

    /// A variable, unless it was made already. Whatever reads it, it is over what all expressions are over.
    fn variable(self, name: &str) -> Option<Result<'a>> {
        let end = self.end.min(self.known.count());
        let (at, program) = self.known.variable(name, end)?;
        if let Some(made) = self.known.made(at) {
            return Some(made);
        }
        let made = Eval { end: at, ..self }.value(&program.expr, &Scope { names: &self.known.names, outer: None });
        self.known.keep(at, &made);
        Some(made)
    }

    fn selected(self, of: &'a Expr, field: &str, optional: bool, scope: &Scope<'_, 'a>) -> Result<'a> {
        if self.is_variables(of, scope)
            && let Some(made) = self.variable(field)
        {
            return if optional { made.map(|it| Value::Optional(Some(it.into()))) } else { made };
        }
        let of = self.value(of, scope)?;
        select(&of, field, optional, self.meter)
    }

    fn indexed(self, of: &'a Expr, index: &'a Expr, optional: bool, scope: &Scope<'_, 'a>) -> Result<'a> {
        let (of, index) = (self.value(of, scope)?, self.value(index, scope)?);
        self::index(&of, &index, optional, self.meter)
    }

    fn is_variables(self, of: &Expr, scope: &Scope<'_, 'a>) -> bool {
        matches!(of, Expr::Ident(name) if self.known.is_variables(name) && scope.get(name).is_none())
    }

    fn has(self, of: &'a Expr, field: &str, scope: &Scope<'_, 'a>) -> Result<'a> {
        if self.is_variables(of, scope) {
            return Ok(Value::Bool(self.variable(field).is_some()));
        }
        let of = self.value(of, scope)?;
        has(&of, field, self.meter).map(Value::Bool)
    }

    fn bound(self, name: &'a str, value: &'a Expr, rest: &'a Expr, scope: &Scope<'_, 'a>) -> Result<'a> {
        let value = self.value(value, scope)?;
        self.value(rest, &Scope { names: &[(name, value)], outer: Some(scope) })
    }

    fn not(self, of: &'a Expr, scope: &Scope<'_, 'a>) -> Result<'a> {
        match self.value(of, scope)? {
            Value::Bool(it) => Ok(Value::Bool(!it)),
            other => Err(no_overload("!_", &[&other])),
        }
    }

    fn negated(self, of: &'a Expr, scope: &Scope<'_, 'a>) -> Result<'a> {
        negated(&self.value(of, scope)?)
    }

    fn binary(self, operator: Operator, a: &'a Expr, b: &'a Expr, scope: &Scope<'_, 'a>) -> Result<'a> {
        let (a, b) = (self.value(a, scope)?, self.value(b, scope)?);
        binary(operator, &a, &b, self.meter)
    }

    fn condition(self, of: &'a Expr, scope: &Scope<'_, 'a>) -> std::result::Result<bool, String> {
        match self.value(of, scope)? {
            Value::Bool(it) => Ok(it),
            other => Err(no_overload("_?_:_", &[&other])),
        }
    }

    /// `&&` and `||` know the answer where one side alone decides, even if the other fails.
    fn logical(self, a: &'a Expr, b: &'a Expr, decides: bool, scope: &Scope<'_, 'a>) -> Result<'a> {
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

    fn call(self, of: Option<&'a Expr>, name: &str, arguments: &'a [Expr], scope: &Scope<'_, 'a>) -> Result<'a> {
        let mut values = Vec::with_capacity(arguments.len());
        for argument in arguments {
            values.push(self.value(argument, scope)?);
        }
        match of {
            None => methods::function("", name, &values, self.meter),
            Some(Expr::Ident(namespace)) if of.is_some_and(is_namespace) => {
                methods::function(namespace, name, &values, self.meter)
            }
            Some(of) => {
                let of = self.value(of, scope)?;
                methods::method(&of, name, &values, self.meter)
            }
        }
    }

    fn comprehension(self, over: &'a Expr, each: &Each<'a>, scope: &Scope<'_, 'a>) -> Result<'a> {
        let over = self.value(over, scope)?;
        self.meter.take(over.size().unwrap_or_default())?;
        let of_map = over.entries().is_some();
        let mut so_far = SoFar::default();
        for (key, value) in elements(&over)? {
            let bound: Vec<(&str, Value<'a>)> = match each.names {
                [one] if of_map => vec![(one, key)],
                [one] => vec![(one, value)],
                [first, second] => vec![(first, key), (second, value)],
                _ => Vec::new(),
            };
            if let Some(done) = self.element(each, &bound, scope, &mut so_far)? {
                return Ok(done);
            }
        }
        so_far.end(each.kind)
    }

    /// One element; the answer where that is known now.
    fn element(
        self,
        each: &Each<'a>,
        bound: &[(&'a str, Value<'a>)],
        scope: &Scope<'_, 'a>,
        so_far: &mut SoFar<'a>,
    ) -> std::result::Result<Option<Value<'a>>, String> {
        let inner = Scope { names: bound, outer: Some(scope) };
        if let Some(condition) = each.condition
            && !truth(self.value(condition, &inner)?)?
        {
            return Ok(None);
        }
        let result = self.value(each.each, &inner);
        let element = || bound.first().map_or(Value::Null, |(_, value)| value.clone());
        match each.kind {
            Macro::Map => so_far.found.push(result?),
            Macro::Filter => so_far.found.extend(truth(result?)?.then(element)),
            Macro::ExistsOne => so_far.count += usize::from(truth(result?)?),
            Macro::All | Macro::Exists => match result.and_then(truth) {
                Ok(it) if it == (each.kind == Macro::Exists) => return Ok(Some(Value::Bool(it))),
                Ok(_) => {}
                Err(error) => so_far.failed = so_far.failed.take().or(Some(error)),
            },
        }
        Ok(None)
    }

    fn list(self, items: &'a [(Expr, bool)], scope: &Scope<'_, 'a>) -> Result<'a> {
        let mut found = Vec::new();
        for (item, optional) in items {
            found.extend(given(self.value(item, scope)?, *optional)?);
        }
        Ok(Value::list(found))
    }

    fn map(self, pairs: &'a [(Expr, Expr, bool)], scope: &Scope<'_, 'a>) -> Result<'a> {
        let mut found: Vec<(Value<'a>, Value<'a>)> = Vec::new();
        for (key, value, optional) in pairs {
            let (key, value) = (self.value(key, scope)?, self.value(value, scope)?);
            if found.iter().any(|(other, _)| other.equals(&key, self.meter)) {
                return Err(format!("insert failed: key {} already exists", text::shown(&key, self.meter)?));
            }
            found.extend(given(value, *optional)?.map(|value| (key, value)));
        }
        Ok(Value::Map(found.into()))
    }

    fn message(self, fields: &'a [(String, Expr, bool)], scope: &Scope<'_, 'a>) -> Result<'a> {
        let mut found = Vec::new();
        for (name, value, optional) in fields {
            let value = given(self.value(value, scope)?, *optional)?;
            found.extend(value.map(|value| (Value::String(Cow::Borrowed(name.as_str())), value)));
        }
        Ok(Value::Map(found.into()))
    }
}

/// What a comprehension does for each element.
struct Each<'a> {
    kind: Macro,
    names: &'a [String],
    condition: Option<&'a Expr>,
    each: &'a Expr,
}

/// What the elements that were seen come to.
#[derive(Default)]
struct SoFar<'a> {
    found: Vec<Value<'a>>,
    count: usize,
    failed: Option<String>,
}

impl<'a> SoFar<'a> {
    fn end(self, kind: Macro) -> Result<'a> {
        match (kind, self.failed) {
            (_, Some(error)) => Err(error),
            (Macro::Map | Macro::Filter, _) => Ok(Value::list(self.found)),
            (Macro::ExistsOne, _) => Ok(Value::Bool(self.count == 1)),
            (Macro::All, _) => Ok(Value::Bool(true)),
            (Macro::Exists, _) => Ok(Value::Bool(false)),
        }
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

fn select<'a>(of: &Value<'a>, field: &str, optional: bool, meter: &Meter<'_>) -> Result<'a> {
    let key = Value::text(field);
    if let Value::Optional(inner) = of {
        let Some(inner) = inner else { return Ok(Value::Optional(None)) };
        return inner.get(&key, meter).map(|found| Value::Optional(found.map(Into::into)));
    }
    let found = of.get(&key, meter)?;
    match (found, optional) {
        (found, true) => Ok(Value::Optional(found.map(Into::into))),
        (Some(value), false) => Ok(value),
        (None, false) => Err(format!("no such key: {field}")),
    }
}

fn index<'a>(of: &Value<'a>, index: &Value<'a>, optional: bool, meter: &Meter<'_>) -> Result<'a> {
    if let Value::Optional(inner) = of {
        let Some(inner) = inner else { return Ok(Value::Optional(None)) };
        return self::index(inner, index, true, meter);
    }
    let found = if of.is_list() {
        let at = index.number().ok_or_else(|| no_overload("_[_]", &[of, index]))?;
        let found = if at >= 0.0 && at.fract() == 0.0 { of.at(at as usize) } else { None };
        if found.is_none() && !optional {
            return Err(format!("index out of bounds: {}", text::shown(index, meter)?));
        }
        found
    } else {
        of.get(index, meter)?
    };
    match (found, optional) {
        (found, true) => Ok(Value::Optional(found.map(Into::into))),
        (Some(value), false) => Ok(value),
        (None, false) => Err(format!("no such key: {}", text::shown(index, meter)?)),
    }
}

fn has(of: &Value<'_>, field: &str, meter: &Meter<'_>) -> std::result::Result<bool, String> {
    match of {
        Value::Optional(None) => Ok(false),
        Value::Optional(Some(inner)) => has(inner, field, meter),
        other => Ok(other.get(&Value::text(field), meter)?.is_some()),
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

fn binary<'a>(operator: Operator, a: &Value<'a>, b: &Value<'a>, meter: &Meter<'_>) -> Result<'a> {
    let ordered = |holds: fn(Ordering) -> bool| {
        meter.text(a.bytes().min(b.bytes()))?;
        let order = a.compare(b).ok_or_else(|| no_overload("_<_", &[a, b]))?;
        Ok(Value::Bool(holds(order)))
    };
    match operator {
        Operator::Equal => Ok(Value::Bool(a.equals(b, meter))),
        Operator::NotEqual => Ok(Value::Bool(!a.equals(b, meter))),
        Operator::Less => ordered(Ordering::is_lt),
        Operator::LessEqual => ordered(Ordering::is_le),
        Operator::Greater => ordered(Ordering::is_gt),
        Operator::GreaterEqual => ordered(Ordering::is_ge),
        Operator::In if b.is_list() => Ok(Value::Bool(b.iter().any(|item| item.equals(a, meter)))),
        Operator::In => Ok(Value::Bool(b.get(a, meter)?.is_some())),
        _ => methods::arithmetic(operator, a, b, meter),
    }
}
