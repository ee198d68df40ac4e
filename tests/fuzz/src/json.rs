//! Mutations of JSON documents: fields that are missing, doubled, of another type, too deep, too large.
//!
//! Must not know: what the documents say.

use serde_json::{Map, Value, json};

use crate::Dice;

/// Changes a document in up to so many places; what comes out is JSON still.
pub fn mutate(document: &mut Value, dice: &mut Dice, places: usize) {
    for _ in 0..dice.below(places + 1) {
        change(document, dice);
    }
}

fn change(value: &mut Value, dice: &mut Dice) {
    match value {
        Value::Object(fields) if !fields.is_empty() && !dice.one_in(6) => in_object(fields, dice),
        Value::Array(items) if !items.is_empty() && !dice.one_in(6) => in_array(items, dice),
        Value::String(text) if !dice.one_in(3) => in_text(text, dice),
        other => *other = odd(dice),
    }
}

fn in_object(fields: &mut Map<String, Value>, dice: &mut Dice) {
    let names: Vec<String> = fields.keys().cloned().collect();
    let name = dice.choose(&names).clone();
    match dice.below(8) {
        0 => drop(fields.remove(&name)),
        1 => {
            let taken = fields.remove(&name).unwrap_or_default();
            fields.insert(dice.choose(&names).clone(), taken);
        }
        _ => change(fields.entry(name).or_insert(Value::Null), dice),
    }
}

fn in_array(items: &mut Vec<Value>, dice: &mut Dice) {
    let at = dice.below(items.len());
    match dice.below(8) {
        0 => drop(items.remove(at)),
        1 => items.insert(dice.below(items.len() + 1), items[at].clone()),
        2 => (0..dice.below(600)).for_each(|_| items.push(items[at].clone())),
        _ => change(&mut items[at], dice),
    }
}

fn in_text(text: &mut String, dice: &mut Dice) {
    let mut bytes = std::mem::take(text).into_bytes();
    crate::mutate(&mut bytes, dice, 2);
    *text = String::from_utf8_lossy(&bytes).into_owned();
}

fn odd(dice: &mut Dice) -> Value {
    let number = dice.odd_number();
    match dice.below(10) {
        0 => Value::Null,
        1 => json!(number),
        2 => json!(-(number.cast_signed() >> 1)),
        3 => json!(number as f64 * 1e300),
        4 => json!(dice.one_in(2)),
        5 => json!("x".repeat(dice.below(70_000))),
        6 => (0..dice.below(200)).fold(json!({}), |inner, _| json!([inner])),
        7 => json!("../".repeat(dice.below(9)) + "etc/passwd"),
        8 => json!(["/dev/null", "\u{0}", "sha256:", "sha512:00", ""][dice.below(5)]),
        _ => json!({}),
    }
}
