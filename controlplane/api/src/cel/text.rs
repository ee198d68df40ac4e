//! Values as text and text as values: conversions, durations, `format`.
//!
//! Must not know: expressions.

use jiff::SignedDuration;

use super::meter::Meter;
use super::value::Value;

/// As `string()` has it.
///
/// # Errors
/// That it takes more than there is.
pub fn shown(value: &Value<'_>, meter: &Meter<'_>) -> Result<String, String> {
    meter.take(1 + value.bytes() / 10)?;
    Ok(match value {
        Value::Null => "null".to_owned(),
        Value::Bool(it) => it.to_string(),
        Value::Int(it) => it.to_string(),
        Value::Uint(it) => it.to_string(),
        Value::Double(it) => it.to_string(),
        Value::String(text) => text.to_string(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Duration(it) => format!("{}s", seconds(*it)),
        Value::Timestamp(it) => it.to_string(),
        Value::Quantity(it) => it.to_string(),
        Value::Type(name) => (*name).to_owned(),
        other => other.json(meter, 0)?.to_string(),
    })
}

fn seconds(duration: SignedDuration) -> String {
    let text = format!("{:.9}", duration.as_secs_f64());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Go's form: `1h30m`, `-1.5s`, `100ms`.
pub fn duration(text: &str) -> Option<SignedDuration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let nanoseconds = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number.parse::<f64>().ok()? * nanoseconds;
        rest = after;
    }
    if total > i64::MAX as f64 {
        return None;
    }
    let total = SignedDuration::from_nanos(total as i64);
    Some(if negative { -total } else { total })
}

/// More digits than any number has.
const MOST_DIGITS: usize = 1_000;

/// `"%s has %d".format([a, b])`.
pub fn format(pattern: &str, arguments: &[Value<'_>], meter: &Meter<'_>) -> Result<String, String> {
    let mut arguments = arguments.iter().enumerate();
    let mut out = String::new();
    let mut rest = pattern;
    while let Some((plain, after)) = rest.split_once('%') {
        out.push_str(plain);
        if let Some(after) = after.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let end = after.find(|c: char| c.is_ascii_alphabetic()).ok_or("unexpected end of string")?;
        let (precision, verb) = after.split_at(end);
        let precision = precision.strip_prefix('.').and_then(|digits| digits.parse::<usize>().ok()).unwrap_or(6);
        if precision > MOST_DIGITS {
            return Err(format!("error while parsing precision: {precision} is more than {MOST_DIGITS}"));
        }
        meter.take(1 + precision / 10)?;
        let (at, value) = arguments.next().ok_or_else(|| "index 0 out of range".to_owned())?;
        let wrong = |verb: char| format!("error during formatting: %{verb} does not take argument {at}");
        let verb_letter = verb.chars().next().unwrap_or_default();
        match (verb_letter, value) {
            ('s', value) => out.push_str(&shown(value, meter)?),
            ('d', Value::Int(_) | Value::Uint(_)) => out.push_str(&shown(value, meter)?),
            ('f', value) => out.push_str(&format!("{:.precision$}", value.number().ok_or_else(|| wrong('f'))?)),
            ('e', value) => out.push_str(&format!("{:.precision$e}", value.number().ok_or_else(|| wrong('e'))?)),
            ('b', Value::Int(it)) => out.push_str(&format!("{it:b}")),
            ('b', Value::Bool(it)) => out.push_str(if *it { "1" } else { "0" }),
            ('o', Value::Int(it)) => out.push_str(&format!("{it:o}")),
            ('x', Value::Int(it)) => out.push_str(&format!("{it:x}")),
            ('X', Value::Int(it)) => out.push_str(&format!("{it:X}")),
            (verb, _) => return Err(wrong(verb)),
        }
        rest = verb.get(verb_letter.len_utf8()..).unwrap_or_default();
    }
    out.push_str(rest);
    Ok(out)
}
