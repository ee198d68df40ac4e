//! Functions and methods: the standard ones, and Kubernetes' libraries for strings, lists, sets, regular expressions,
//! optionals and quantities.
//!
//! Must not know: syntax.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

use super::eval::no_overload;
use super::meter::{Meter, TOO_COSTLY};
use super::syntax::Operator;
use super::text;
use super::value::Value;
use crate::quantity::Quantity;

type Result<'a> = std::result::Result<Value<'a>, String>;

const FUNCTIONS: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "duration",
    "dyn",
    "int",
    "isQuantity",
    "matches",
    "quantity",
    "size",
    "string",
    "timestamp",
    "type",
    "uint",
];

const METHODS: &[&str] = &[
    "add",
    "asApproximateFloat",
    "asInteger",
    "charAt",
    "compareTo",
    "contains",
    "endsWith",
    "equivalent",
    "find",
    "findAll",
    "format",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "hasValue",
    "indexOf",
    "intersects",
    "isGreaterThan",
    "isInteger",
    "isLessThan",
    "isSorted",
    "join",
    "lastIndexOf",
    "lowerAscii",
    "matches",
    "max",
    "min",
    "none",
    "of",
    "ofNonZeroValue",
    "or",
    "orValue",
    "replace",
    "sign",
    "size",
    "split",
    "startsWith",
    "sub",
    "substring",
    "sum",
    "trim",
    "upperAscii",
    "value",
];

pub fn is_known(name: &str, is_method: bool) -> bool {
    if is_method { METHODS.contains(&name) } else { FUNCTIONS.contains(&name) }
}

pub fn arithmetic<'a>(operator: Operator, a: &Value<'a>, b: &Value<'a>, meter: &Meter<'_>) -> Result<'a> {
    meter.text(a.bytes().saturating_add(b.bytes()))?;
    use Value::{Bytes, Double, Duration, Int, String, Timestamp, Uint};
    let (add, subtract) = (operator == Operator::Add, operator == Operator::Subtract);
    match (a, b) {
        (Int(a), Int(b)) => {
            i64::try_from(whole(operator, i128::from(*a), i128::from(*b))?).map(Int).map_err(|_| overflow())
        }
        (Uint(a), Uint(b)) => {
            u64::try_from(whole(operator, i128::from(*a), i128::from(*b))?).map(Uint).map_err(|_| overflow())
        }
        (Double(a), Double(b)) => match operator {
            Operator::Add => Ok(Double(a + b)),
            Operator::Subtract => Ok(Double(a - b)),
            Operator::Multiply => Ok(Double(a * b)),
            Operator::Divide => Ok(Double(a / b)),
            _ => Err("no such overload: _%_(double, double)".to_owned()),
        },
        (String(a), String(b)) if add => Ok(Value::text(format!("{a}{b}"))),
        (Bytes(a), Bytes(b)) if add => Ok(Bytes([a.as_ref(), b.as_ref()].concat().into())),
        (Duration(a), Duration(b)) if add => a.checked_add(*b).map(Duration).ok_or_else(overflow),
        (Duration(a), Duration(b)) if subtract => a.checked_sub(*b).map(Duration).ok_or_else(overflow),
        (Timestamp(a), Duration(b)) | (Duration(b), Timestamp(a)) if add => {
            a.checked_add(*b).map(Timestamp).map_err(|_| overflow())
        }
        (Timestamp(a), Duration(b)) if subtract => a.checked_sub(*b).map(Timestamp).map_err(|_| overflow()),
        (Timestamp(a), Timestamp(b)) if subtract => Ok(Duration(a.duration_since(*b))),
        _ if add && a.is_list() && b.is_list() => {
            meter.take(a.size().unwrap_or_default() + b.size().unwrap_or_default())?;
            Ok(Value::list(a.iter().chain(b.iter()).collect()))
        }
        _ => Err(no_overload(&format!("{operator:?}"), &[a, b])),
    }
}

fn overflow() -> String {
    "integer overflow".to_owned()
}

/// Of ints and uints alike: what does not fit theirs is the caller's to refuse.
fn whole(operator: Operator, a: i128, b: i128) -> std::result::Result<i128, String> {
    match operator {
        Operator::Add => a.checked_add(b),
        Operator::Subtract => a.checked_sub(b),
        Operator::Multiply => a.checked_mul(b),
        Operator::Divide if b == 0 => return Err("division by zero".to_owned()),
        Operator::Divide => a.checked_div(b),
        _ if b == 0 => return Err("modulus by zero".to_owned()),
        _ => a.checked_rem(b),
    }
    .ok_or_else(overflow)
}

/// A function; of `optional`, `sets` and the like where `namespace` is not empty.
pub fn function<'a>(namespace: &str, name: &str, arguments: &[Value<'a>], meter: &Meter<'_>) -> Result<'a> {
    match (namespace, name, arguments) {
        ("optional", "of", [value]) => Ok(Value::Optional(Some(value.clone().into()))),
        ("optional", "none", []) => Ok(Value::Optional(None)),
        ("optional", "ofNonZeroValue", [value]) => Ok(Value::Optional((!is_zero(value)).then(|| value.clone().into()))),
        ("sets", _, [a, b]) => sets(name, a, b, meter),
        ("", "size", [value]) => size(value),
        ("", "dyn", [value]) => Ok(value.clone()),
        ("", "type", [value]) => Ok(Value::Type(value.type_name())),
        ("", "matches", [of, _]) => method(of, "matches", arguments.get(1..).unwrap_or_default(), meter),
        ("", "isQuantity", [value]) => Ok(Value::Bool(value.as_str().is_some_and(|it| it.parse::<Quantity>().is_ok()))),
        ("", _, [value]) => converted(name, value, meter),
        _ => Err(no_overload(name, &arguments.iter().collect::<Vec<_>>())),
    }
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null | Value::Optional(None) => true,
        Value::Bool(it) => !it,
        other => other.number() == Some(0.0) || other.size() == Some(0),
    }
}

fn size<'a>(value: &Value<'a>) -> Result<'a> {
    value.size().map(|size| Value::Int(size as i64)).ok_or_else(|| no_overload("size", &[value]))
}

fn converted<'a>(name: &str, value: &Value<'a>, meter: &Meter<'_>) -> Result<'a> {
    meter.text(value.bytes())?;
    let wrong = || format!("type conversion error from '{}' to '{name}'", value.type_name());
    match (name, value) {
        ("string", value) => Ok(Value::text(text::shown(value, meter)?)),
        ("bytes", Value::String(it)) => Ok(Value::Bytes(it.as_bytes().into())),
        ("bytes", Value::Bytes(_)) | ("duration", Value::Duration(_)) | ("timestamp", Value::Timestamp(_)) => {
            Ok(value.clone())
        }
        ("bool", Value::Bool(_)) => Ok(value.clone()),
        ("bool", Value::String(it)) => match it.as_ref() {
            "true" | "True" | "TRUE" | "t" | "1" => Ok(Value::Bool(true)),
            "false" | "False" | "FALSE" | "f" | "0" => Ok(Value::Bool(false)),
            _ => Err(wrong()),
        },
        ("int", Value::Timestamp(it)) => Ok(Value::Int(it.as_second())),
        ("int", Value::Int(_)) | ("uint", Value::Uint(_)) | ("double", Value::Double(_)) => Ok(value.clone()),
        ("int", Value::Uint(it)) => i64::try_from(*it).map(Value::Int).map_err(|_| "integer overflow".to_owned()),
        ("uint", Value::Int(it)) => u64::try_from(*it).map(Value::Uint).map_err(|_| "integer overflow".to_owned()),
        ("int", Value::Double(it)) if it.abs() < i64::MAX as f64 => Ok(Value::Int(*it as i64)),
        ("uint", Value::Double(it)) if (0.0..u64::MAX as f64).contains(it) => Ok(Value::Uint(*it as u64)),
        ("int", Value::String(it)) => it.parse().map(Value::Int).map_err(|_| wrong()),
        ("uint", Value::String(it)) => it.parse().map(Value::Uint).map_err(|_| wrong()),
        ("double", Value::String(it)) => it.parse().map(Value::Double).map_err(|_| wrong()),
        ("double", value) => value.number().map(Value::Double).ok_or_else(wrong),
        ("duration", Value::String(it)) => text::duration(it).map(Value::Duration).ok_or_else(wrong),
        ("timestamp", Value::String(it)) => it.parse().map(Value::Timestamp).map_err(|_| wrong()),
        ("timestamp", Value::Int(it)) => Timestamp::from_second(*it).map(Value::Timestamp).map_err(|_| wrong()),
        ("quantity", Value::String(it)) => it.parse().map(Value::Quantity).map_err(|_| wrong()),
        _ => Err(no_overload(name, &[value])),
    }
}

fn sets<'a>(name: &str, a: &Value<'a>, b: &Value<'a>, meter: &Meter<'_>) -> Result<'a> {
    let (Some(a), Some(b)) = (a.items(), b.items()) else { return Err(no_overload(name, &[a, b])) };
    meter.take(a.len() + b.len())?;
    let within =
        |all: &[Value<'_>], some: &[Value<'_>]| some.iter().all(|it| all.iter().any(|other| other.equals(it, meter)));
    match name {
        "contains" => Ok(Value::Bool(within(&a, &b))),
        "equivalent" => Ok(Value::Bool(within(&a, &b) && within(&b, &a))),
        "intersects" => Ok(Value::Bool(a.iter().any(|it| b.iter().any(|other| other.equals(it, meter))))),
        _ => Err(format!("undeclared reference to 'sets.{name}'")),
    }
}

pub fn method<'a>(of: &Value<'a>, name: &str, arguments: &[Value<'a>], meter: &Meter<'_>) -> Result<'a> {
    meter.text(of.bytes())?;
    if name == "size" && arguments.is_empty() {
        return size(of);
    }
    let found = match of {
        Value::String(text) => string(text, name, arguments, meter),
        Value::Optional(inner) => optional(inner.as_deref(), name, arguments),
        Value::Timestamp(at) => timestamp(*at, name, arguments),
        Value::Duration(it) => duration(*it, name),
        Value::Quantity(it) => quantity(it, name, arguments),
        _ => {
            meter.take(of.size().unwrap_or_default())?;
            of.items().and_then(|items| list(&items, name, arguments, meter))
        }
    };
    found.unwrap_or_else(|| {
        let all: Vec<&Value<'_>> = std::iter::once(of).chain(arguments).collect();
        Err(no_overload(name, &all))
    })
}

fn string<'a>(text: &str, name: &str, arguments: &[Value<'a>], meter: &Meter<'_>) -> Option<Result<'a>> {
    let first = arguments.first().and_then(Value::as_str);
    let number = |at: usize| match arguments.get(at) {
        Some(Value::Int(it)) => usize::try_from(*it).ok(),
        _ => None,
    };
    let chars = || text.chars().collect::<Vec<char>>();
    let place = |byte: Option<usize>| {
        let at = byte.and_then(|byte| text.get(..byte)).map_or(-1, |before| before.chars().count() as i64);
        Some(Ok(Value::Int(at)))
    };
    let of = |result: String| Some(Ok(Value::text(result)));
    match (name, arguments.len()) {
        ("contains", 1) => Some(Ok(Value::Bool(text.contains(first?)))),
        ("startsWith", 1) => Some(Ok(Value::Bool(text.starts_with(first?)))),
        ("endsWith", 1) => Some(Ok(Value::Bool(text.ends_with(first?)))),
        ("lowerAscii", 0) => of(text.to_ascii_lowercase()),
        ("upperAscii", 0) => of(text.to_ascii_uppercase()),
        ("trim", 0) => of(text.trim().to_owned()),
        ("replace", 2) => {
            let (from, to) = (first?, arguments.get(1)?.as_str()?);
            let bytes = text.matches(from).count().saturating_mul(to.len());
            Some(meter.text(bytes).map(|()| Value::text(text.replace(from, to))))
        }
        ("indexOf", 1) => place(text.find(first?)),
        ("lastIndexOf", 1) => place(text.rfind(first?)),
        ("charAt", 1) => Some(match (number(0), chars()) {
            (Some(at), chars) if at <= chars.len() => {
                Ok(Value::text(chars.get(at).map(char::to_string).unwrap_or_default()))
            }
            _ => Err("index out of range".to_owned()),
        }),
        ("substring", 1 | 2) => {
            let all = chars();
            let range = number(0)?..if arguments.len() == 2 { number(1)? } else { all.len() };
            let part = all.get(range).map(|part| Value::text(part.iter().collect::<String>()));
            Some(part.ok_or_else(|| "index out of range".to_owned()))
        }
        ("split", 1 | 2) if !meter.has(text.matches(first?).count()) => Some(Err(TOO_COSTLY.to_owned())),
        ("split", 1) => Some(Ok(Value::list(text.split(first?).map(Value::text).collect()))),
        ("split", 2) => {
            let limit = number(1)?;
            Some(Ok(Value::list(text.splitn(limit, first?).map(Value::text).collect())))
        }
        ("format", 1) => Some(text::format(text, &arguments.first()?.items()?, meter).map(Value::text)),
        ("matches" | "find" | "findAll", 1) => Some(regex(text, name, first?, meter)),
        _ => None,
    }
}

fn regex<'a>(text: &str, name: &str, pattern: &str, meter: &Meter<'_>) -> Result<'a> {
    let regex = meter.regex(pattern)?;
    meter.take((text.len() / 10 + 1).saturating_mul(pattern.len() / 4 + 1))?;
    Ok(match name {
        "matches" => Value::Bool(regex.is_match(text)),
        "find" => Value::text(regex.find(text).map(|it| it.as_str()).unwrap_or_default()),
        _ => {
            meter.take(text.len())?;
            Value::list(regex.find_iter(text).map(|it| Value::text(it.as_str())).collect())
        }
    })
}

fn list<'a>(items: &[Value<'a>], name: &str, arguments: &[Value<'a>], meter: &Meter<'_>) -> Option<Result<'a>> {
    let place = |at: Option<usize>| Some(Ok(Value::Int(at.map_or(-1, |at| at as i64))));
    let extreme = |wanted: std::cmp::Ordering| {
        let mut best = items.first()?.clone();
        for item in items {
            if item.compare(&best)? == wanted {
                best = item.clone();
            }
        }
        Some(Ok(best))
    };
    match (name, arguments) {
        ("indexOf", [value]) => place(items.iter().position(|item| item.equals(value, meter))),
        ("lastIndexOf", [value]) => place(items.iter().rposition(|item| item.equals(value, meter))),
        ("isSorted", []) => {
            let pairs = items.windows(2).map(|pair| Some(pair.first()?.compare(pair.get(1)?)?.is_le()));
            Some(Ok(Value::Bool(pairs.collect::<Option<Vec<bool>>>()?.into_iter().all(|it| it))))
        }
        ("min", []) if !items.is_empty() => extreme(std::cmp::Ordering::Less),
        ("max", []) if !items.is_empty() => extreme(std::cmp::Ordering::Greater),
        ("min" | "max", []) => Some(Err(format!("{name} called on empty list"))),
        ("sum", []) => {
            let mut sum = items.first().cloned().unwrap_or(Value::Int(0));
            for item in items.iter().skip(1) {
                sum = match arithmetic(Operator::Add, &sum, item, meter) {
                    Ok(sum) => sum,
                    Err(error) => return Some(Err(error)),
                };
            }
            Some(Ok(sum))
        }
        ("join", []) | ("join", [Value::String(_)]) => {
            let separator = arguments.first().and_then(Value::as_str).unwrap_or_default();
            let texts: Option<Vec<&str>> = items.iter().map(Value::as_str).collect();
            let texts = texts?;
            let bytes = texts.iter().map(|text| text.len() + separator.len()).sum();
            Some(meter.text(bytes).map(|()| Value::text(texts.join(separator))))
        }
        _ => None,
    }
}

fn optional<'a>(inner: Option<&Value<'a>>, name: &str, arguments: &[Value<'a>]) -> Option<Result<'a>> {
    match (name, arguments) {
        ("hasValue", []) => Some(Ok(Value::Bool(inner.is_some()))),
        ("value", []) => Some(inner.cloned().ok_or_else(|| "optional.none() dereference".to_owned())),
        ("orValue", [other]) => Some(Ok(inner.unwrap_or(other).clone())),
        ("or", [other]) => Some(Ok(inner.map_or_else(|| other.clone(), |it| Value::Optional(Some(it.clone().into()))))),
        _ => None,
    }
}

fn timestamp<'a>(at: Timestamp, name: &str, arguments: &[Value<'a>]) -> Option<Result<'a>> {
    let zone = match arguments {
        [] => TimeZone::UTC,
        [Value::String(zone)] => match TimeZone::get(zone) {
            Ok(zone) => zone,
            Err(_) => return Some(Err(format!("unknown time zone {zone}"))),
        },
        _ => return None,
    };
    let zoned: Zoned = at.to_zoned(zone);
    let number = match name {
        "getFullYear" => i64::from(zoned.year()),
        "getMonth" => i64::from(zoned.month()) - 1,
        "getDate" => i64::from(zoned.day()),
        "getDayOfMonth" => i64::from(zoned.day()) - 1,
        "getDayOfWeek" => i64::from(zoned.weekday().to_sunday_zero_offset()),
        "getDayOfYear" => i64::from(zoned.day_of_year()) - 1,
        "getHours" => i64::from(zoned.hour()),
        "getMinutes" => i64::from(zoned.minute()),
        "getSeconds" => i64::from(zoned.second()),
        "getMilliseconds" => i64::from(zoned.millisecond()),
        _ => return None,
    };
    Some(Ok(Value::Int(number)))
}

fn duration<'a>(it: SignedDuration, name: &str) -> Option<Result<'a>> {
    let number = match name {
        "getHours" => it.as_hours(),
        "getMinutes" => it.as_mins(),
        "getSeconds" => it.as_secs(),
        "getMilliseconds" => i64::from(it.subsec_millis()),
        _ => return None,
    };
    Some(Ok(Value::Int(number)))
}

fn quantity<'a>(it: &Quantity, name: &str, arguments: &[Value<'a>]) -> Option<Result<'a>> {
    match (name, arguments) {
        ("isGreaterThan", [Value::Quantity(other)]) => Some(Ok(Value::Bool(it > other))),
        ("isLessThan", [Value::Quantity(other)]) => Some(Ok(Value::Bool(it < other))),
        ("compareTo", [Value::Quantity(other)]) => Some(Ok(Value::Int(it.cmp(other) as i64))),
        ("add", [Value::Quantity(other)]) => Some(Ok(Value::Quantity(it.plus(other)))),
        ("sub", [Value::Quantity(other)]) => Some(Ok(Value::Quantity(it.minus(other)))),
        ("sign", []) => Some(Ok(Value::Int(it.sign().into()))),
        ("isInteger", []) => Some(Ok(Value::Bool(it.is_whole()))),
        ("asInteger", []) => Some(Ok(Value::Int(it.value()))),
        ("asApproximateFloat", []) => Some(Ok(Value::Double(it.to_f64()))),
        _ => None,
    }
}
