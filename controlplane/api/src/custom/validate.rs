//! Whether an object is what its schema says, in the words of upstream's validator.
//! Sources: `k8s.io/kube-openapi/pkg/validation`, `apiextensions-apiserver/pkg/apiserver/validation`.
//!
//! Must not know: where schemas come from.

use std::collections::HashMap;
use std::fmt;

use regex::Regex;
use serde_json::Value;

use crate::cel;
use crate::field::{Error, Errors, Path};

/// What one object is told at most.
const MOST: usize = 100;

/// The expressions and patterns of a schema by their text, compiled once.
#[derive(Default)]
pub struct Compiled {
    programs: HashMap<String, Result<cel::Program, String>>,
    patterns: HashMap<String, Option<Regex>>,
}

impl fmt::Debug for Compiled {
    /// Nothing that the schema does not say.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Compiled")
    }
}

/// What rules may name.
pub const RULE: &[&str] = &["self", "oldSelf"];

impl Compiled {
    pub fn of(schema: &Value) -> Self {
        let mut compiled = Self::default();
        compiled.walk(schema);
        compiled
    }

    /// Wherever in a schema something is called a rule or a pattern: what is none is never looked up.
    fn walk(&mut self, schema: &Value) {
        match schema {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match (name.as_str(), value) {
                        ("rule" | "messageExpression", Value::String(text)) => {
                            self.programs.insert(text.clone(), cel::Program::compile(text, RULE));
                        }
                        ("pattern", Value::String(text)) => {
                            self.patterns.insert(text.clone(), Regex::new(text).ok());
                        }
                        _ => self.walk(value),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.walk(item)),
            _ => {}
        }
    }

    fn program(&self, text: &str) -> Result<&cel::Program, String> {
        self.programs.get(text).map_or_else(|| Err("not compiled".to_owned()), |it| it.as_ref().map_err(Clone::clone))
    }

    fn matches(&self, pattern: &str, text: &str) -> bool {
        self.patterns.get(pattern).and_then(Option::as_ref).is_some_and(|regex| regex.is_match(text))
    }
}

pub fn check(value: &Value, old: Option<&Value>, schema: &Value, made: &Compiled, path: &Path, errors: &mut Errors) {
    if errors.len() >= MOST || !schema.is_object() {
        return;
    }
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    if !has_type(value, schema, path, errors) {
        return;
    }
    among(value, schema, path, errors);
    match value {
        Value::Object(_) => object(value, old, schema, made, path, errors),
        Value::Array(items) => list(items, old, schema, made, path, errors),
        Value::String(text) => string(text, schema, made, path, errors),
        Value::Number(_) => number(value, schema, path, errors),
        _ => {}
    }
    junctors(value, schema, made, path, errors);
    rules(value, old, schema, made, path, errors);
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_i64() || number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// A value as messages show it: objects and lists by their type.
fn shown(value: &Value) -> Value {
    match value {
        Value::Object(_) => "object".into(),
        Value::Array(_) => "array".into(),
        other => other.clone(),
    }
}

fn has_type(value: &Value, schema: &Value, path: &Path, errors: &mut Errors) -> bool {
    let found = type_of(value);
    let (wanted, fits) = if schema["x-kubernetes-int-or-string"] == true {
        ("integer,string", matches!(found, "integer" | "string"))
    } else {
        let wanted = schema["type"].as_str().unwrap_or_default();
        let whole = wanted == "integer" && value.as_f64().is_some_and(|number| number.fract() == 0.0);
        (wanted, wanted.is_empty() || wanted == found || (wanted == "number" && found == "integer") || whole)
    };
    if !fits {
        let said = format!("{} in body must be of type {wanted}: {:?}", path.as_str(), found);
        errors.push(Error::invalid(path, found, said));
    }
    fits
}

fn among(value: &Value, schema: &Value, path: &Path, errors: &mut Errors) {
    let Some(all) = schema["enum"].as_array() else { return };
    if !all.contains(value) {
        let supported: Vec<String> =
            all.iter().map(|it| it.as_str().map_or_else(|| it.to_string(), str::to_owned)).collect();
        let supported: Vec<&str> = supported.iter().map(String::as_str).collect();
        errors.push(Error::not_supported(path, shown(value), &supported));
    }
}

fn object(value: &Value, old: Option<&Value>, schema: &Value, made: &Compiled, path: &Path, errors: &mut Errors) {
    let Some(fields) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            errors.push(Error::required(&path.child(name), ""));
        }
    }
    bounded(fields.len(), schema, ("minProperties", "maxProperties"), "properties", path, errors);
    for (name, field) in fields {
        let before = old.and_then(|old| old.get(name));
        match schema["properties"].get(name) {
            Some(known) => check(field, before, known, made, &path.child(name), errors),
            None if schema["additionalProperties"].is_object() => {
                check(field, before, &schema["additionalProperties"], made, &path.child(name), errors);
            }
            None => {}
        }
    }
}

fn list(items: &[Value], old: Option<&Value>, schema: &Value, made: &Compiled, path: &Path, errors: &mut Errors) {
    bounded(items.len(), schema, ("minItems", "maxItems"), "items", path, errors);
    let keys: Vec<&str> =
        schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let key = |item: &Value| -> Value {
        if keys.is_empty() { item.clone() } else { keys.iter().map(|key| item[*key].clone()).collect() }
    };
    let unique =
        matches!(schema["x-kubernetes-list-type"].as_str(), Some("set" | "map")) || schema["uniqueItems"] == true;
    for (at, item) in items.iter().enumerate() {
        if unique && items.iter().take(at).any(|other| key(other) == key(item)) {
            errors.push(Error::duplicate(&path.index(at), key(item)));
        }
        // an item of a map is followed by its keys, which its place does not tell
        let before = old.and_then(Value::as_array).filter(|_| !keys.is_empty());
        let before = before.and_then(|old| old.iter().find(|other| key(other) == key(item)));
        check(item, before, &schema["items"], made, &path.index(at), errors);
    }
}

fn bounded(count: usize, schema: &Value, (least, most): (&str, &str), what: &str, path: &Path, errors: &mut Errors) {
    let limit = |field: &str| schema[field].as_u64().and_then(|it| usize::try_from(it).ok());
    if let Some(most) = limit(most).filter(|most| count > *most) {
        errors.push(Error::too_many(path, count, most));
    }
    if let Some(least) = limit(least).filter(|least| count < *least) {
        let said = format!("{} in body should have at least {least} {what}", path.as_str());
        errors.push(Error::invalid(path, count, said));
    }
}

fn string(text: &str, schema: &Value, made: &Compiled, path: &Path, errors: &mut Errors) {
    let length = text.chars().count() as u64;
    let at = path.as_str();
    if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
        errors.push(Error::too_long(path, most as usize));
    }
    if let Some(least) = schema["minLength"].as_u64().filter(|least| length < *least) {
        errors.push(Error::invalid(path, text, format!("{at} in body should be at least {least} chars long")));
    }
    if let Some(pattern) = schema["pattern"].as_str()
        && !made.matches(pattern, text)
    {
        errors.push(Error::invalid(path, text, format!("{at} in body should match '{pattern}'")));
    }
    if let Some(format) = schema["format"].as_str()
        && !is_format(text, format)
    {
        errors.push(Error::invalid(path, text, format!("{at} in body must be of type {format}: {text:?}")));
    }
}

fn is_format(text: &str, format: &str) -> bool {
    use base64::Engine as _;
    match format {
        "date-time" | "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "date" => text.parse::<jiff::civil::Date>().is_ok(),
        "byte" => base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        _ => true,
    }
}

fn number(value: &Value, schema: &Value, path: &Path, errors: &mut Errors) {
    let (number, at) = (value.as_f64().unwrap_or_default(), path.as_str());
    let mut say = |text: String| errors.push(Error::invalid(path, value.clone(), text));
    if let Some(most) = schema["maximum"].as_f64() {
        let exclusive = schema["exclusiveMaximum"] == true;
        if number > most || exclusive && number >= most {
            let or = if exclusive { "" } else { " or equal to" };
            say(format!("{at} in body should be less than{or} {most}"));
        }
    }
    if let Some(least) = schema["minimum"].as_f64() {
        let exclusive = schema["exclusiveMinimum"] == true;
        if number < least || exclusive && number <= least {
            let or = if exclusive { "" } else { " or equal to" };
            say(format!("{at} in body should be greater than{or} {least}"));
        }
    }
    if let Some(unit) = schema["multipleOf"].as_f64().filter(|unit| *unit != 0.0)
        && (number / unit).fract() != 0.0
    {
        say(format!("{at} in body should be a multiple of {unit}"));
    }
}

fn junctors(value: &Value, schema: &Value, made: &Compiled, path: &Path, errors: &mut Errors) {
    let fits = |schema: &Value| {
        let mut inner = Errors::new();
        check(value, None, schema, made, path, &mut inner);
        inner.is_empty()
    };
    let all = |field: &str| schema[field].as_array().into_iter().flatten();
    let at = path.as_str();
    let mut say = |text: String| errors.push(Error::invalid(path, shown(value), text));
    if schema["anyOf"].is_array() && !all("anyOf").any(fits) {
        say(format!("{at} in body must validate at least one schema (anyOf)"));
    }
    if schema["oneOf"].is_array() && all("oneOf").filter(|it| fits(it)).count() != 1 {
        say(format!("{at} in body must validate one and only one schema (oneOf)"));
    }
    if schema["allOf"].is_array() && !all("allOf").all(fits) {
        say(format!("{at} in body must validate all the schemas (allOf)"));
    }
    if schema["not"].is_object() && fits(&schema["not"]) {
        say(format!("{at} in body must not validate the schema (not)"));
    }
}

/// `x-kubernetes-validations`. A rule about the change is not asked where there was nothing before.
fn rules(value: &Value, old: Option<&Value>, schema: &Value, made: &Compiled, path: &Path, errors: &mut Errors) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let text = rule["rule"].as_str().unwrap_or_default();
        let about_change = text.contains("oldSelf");
        let optional = rule["optionalOldSelf"] == true;
        if about_change && old.is_none() && !optional {
            continue;
        }
        let before = match (old, optional) {
            (old, true) => cel::Value::Optional(old.map(|old| cel::Value::of(old).into())),
            (old, false) => cel::Value::of(old.unwrap_or(&Value::Null)),
        };
        let known = [("self", cel::Value::of(value)), ("oldSelf", before)];
        let held = made.program(text).and_then(|it| it.run_with(&known).map(|it| it.as_bool()));
        let said = match held {
            Ok(Some(true)) => continue,
            Ok(_) => message(rule, &known, made),
            Err(error) => format!("rule evaluation error: {error}"),
        };
        let at = rule["fieldPath"].as_str().unwrap_or_default();
        let at = at.trim_start_matches('.').split('.').filter(|name| !name.is_empty());
        let at = at.fold(path.clone(), |path, name| path.child(name));
        errors.push(Error::invalid(&at, shown(value), said));
    }
}

fn message<'a>(rule: &'a Value, known: &[(&'a str, cel::Value<'a>)], made: &'a Compiled) -> String {
    if let Some(expression) = rule["messageExpression"].as_str()
        && let Ok(program) = made.program(expression)
        && let Some(text) = program.run_with(known).ok().and_then(|it| it.as_str().map(str::to_owned))
        && !text.trim().is_empty()
    {
        return text;
    }
    let text = rule["rule"].as_str().unwrap_or_default();
    rule["message"].as_str().map_or_else(|| format!("failed rule: {text}"), str::to_owned)
}
