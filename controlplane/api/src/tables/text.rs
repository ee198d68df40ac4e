//! The texts of cells: ages, labels, counts.
//!
//! Must not know: any kind.

use std::str::FromStr as _;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
use k8s_openapi::serde::Deserialize as _;
use serde_json::Value;

use crate::selector::LabelSelector;

pub(super) const NONE: &str = "<none>";
pub(super) const UNSET: &str = "<unset>";
pub(super) const UNKNOWN: &str = "<unknown>";

/// `5s`, `3m20s`, `2d5h`, `1y20d`: two or three significant figures of a duration (upstream's `HumanDuration`).
/// Up to two seconds of clock difference count as now; more of the future is `<invalid>`.
pub fn human_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    match () {
        () if seconds < -1 => "<invalid>".to_owned(),
        () if seconds < 0 => "0s".to_owned(),
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => two(days, "d", hours % 24, "h"),
        () if days < 365 * 2 => format!("{days}d"),
        () if days < 365 * 8 => two(days / 365, "y", days % 365, "d"),
        () => format!("{}y", days / 365),
    }
}

fn two(big: i64, big_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
}

/// A time of an object; `None` where absent or not a time.
pub(super) fn time(value: &Value) -> Option<Timestamp> {
    value.as_str().and_then(|text| Timestamp::from_str(text).ok())
}

/// How long ago a time was; `<unknown>` where absent.
pub(crate) fn since(value: &Value, now: Timestamp) -> String {
    time(value).map_or_else(|| UNKNOWN.to_owned(), |then| ago(then, now))
}

pub(super) fn ago(then: Timestamp, now: Timestamp) -> String {
    human_duration(now.duration_since(then).as_secs())
}

pub(super) fn age(item: &Value, now: Timestamp) -> Value {
    since(&item["metadata"]["creationTimestamp"], now).into()
}

pub(crate) fn name(item: &Value) -> Value {
    str_of(&item["metadata"]["name"]).into()
}

/// A text; empty where absent.
pub(super) fn str_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A text, or `absent` where there is none.
pub(super) fn or<'a>(value: &'a Value, absent: &'a str) -> &'a str {
    match str_of(value) {
        "" => absent,
        text => text,
    }
}

pub(super) fn int(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

/// The elements of a list; none where absent.
pub(super) fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn len(value: &Value) -> i64 {
    value.as_object().map_or_else(|| list(value).len(), serde_json::Map::len) as i64
}

/// A number or text as it is written: `25%`, `1`.
pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A value of any type, or `absent`.
pub(super) fn value_or(value: &Value, absent: Value) -> Value {
    if value.is_null() { absent } else { value.clone() }
}

/// The elements of a list of texts, joined.
pub(super) fn joined(value: &Value, separator: &str) -> String {
    list(value).iter().map(str_of).collect::<Vec<_>>().join(separator)
}

/// `a=b,c=d` in the order of keys; `<none>` where empty.
pub(super) fn labels(map: &Value) -> String {
    let mut pairs: Vec<String> =
        map.as_object().into_iter().flatten().map(|(k, v)| format!("{k}={}", str_of(v))).collect();
    pairs.sort_unstable();
    if pairs.is_empty() { NONE.to_owned() } else { pairs.join(",") }
}

/// A `metav1.LabelSelector` as it is written; `<none>` where empty, and upstream's text where invalid.
pub(super) fn selector(value: &Value) -> String {
    match parsed_selector(value) {
        Err(_) => "<error>".to_owned(),
        Ok(text) if text.is_empty() => NONE.to_owned(),
        Ok(text) => text,
    }
}

pub(super) fn parsed_selector(value: &Value) -> Result<String, String> {
    if value.is_null() {
        return Ok(String::new());
    }
    let selector = metav1::LabelSelector::deserialize(value).map_err(|e| e.to_string())?;
    LabelSelector::from_metav1(Some(&selector)).map(|s| s.to_string())
}

/// The names and the images of a pod spec's containers.
pub(super) fn containers(spec: &Value) -> [Value; 2] {
    let all = list(&spec["containers"]);
    ["name", "image"].map(|field| all.iter().map(|c| str_of(&c[field])).collect::<Vec<_>>().join(",").into())
}

/// The status of a condition, if the object has it.
pub(super) fn condition<'a>(status: &'a Value, type_: &str) -> Option<&'a str> {
    list(&status["conditions"]).iter().find(|c| c["type"] == type_).map(|c| str_of(&c["status"]))
}

pub(super) fn is_true(status: &Value, type_: &str) -> bool {
    condition(status, type_) == Some("True")
}

pub(super) fn is_deleted(item: &Value) -> bool {
    item["metadata"]["deletionTimestamp"].is_string()
}

pub(super) fn annotation<'a>(item: &'a Value, key: &str) -> &'a str {
    str_of(&item["metadata"]["annotations"][key])
}

/// The first `max` of a list, and how many more there are.
pub(super) fn with_more(shown: &[String], total: usize, max: usize) -> String {
    let first = shown.iter().take(max).map(String::as_str).collect::<Vec<_>>().join(",");
    if total > max { format!("{first} + {} more...", total - max) } else { first }
}
