//! Quantities: `100m`, `1.5Gi`, `12e6`, with the arithmetic and the one canonical spelling of
//! `k8s.io/apimachinery/pkg/api/resource`.
//!
//! Must not know: which resource is counted.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Written;

/// How a quantity prefers to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`
    BinarySI,
    /// `12M`
    DecimalSI,
}

/// An amount, exact to a billionth. Amounts beyond 10²⁹ saturate (upstream's are unbounded there).
#[derive(Debug, Clone, Copy)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

/// Why a text is no quantity; the words are upstream's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

const NANO: i128 = 1_000_000_000;
const DECIMAL: [(i32, &str); 10] =
    [(18, "E"), (15, "P"), (12, "T"), (9, "G"), (6, "M"), (3, "k"), (0, ""), (-3, "m"), (-6, "u"), (-9, "n")];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl Quantity {
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSI };

    /// A whole amount.
    pub fn new(value: i64, format: Format) -> Self {
        Self { nanos: i128::from(value) * NANO, format }
    }

    /// Thousandths.
    pub fn from_milli(value: i64, format: Format) -> Self {
        Self { nanos: i128::from(value) * (NANO / 1000), format }
    }

    /// The amount in whole units, rounded up (away from zero), as upstream's `Value`.
    pub fn value(&self) -> i64 {
        self.scaled(NANO)
    }

    /// The amount in thousandths, rounded up (away from zero), as upstream's `MilliValue`.
    pub fn milli_value(&self) -> i64 {
        self.scaled(NANO / 1000)
    }

    fn scaled(&self, unit: i128) -> i64 {
        let up = self.nanos.abs().saturating_add(unit - 1) / unit * self.nanos.signum();
        i64::try_from(up).unwrap_or(if up < 0 { i64::MIN } else { i64::MAX })
    }

    pub fn is_zero(&self) -> bool {
        self.nanos == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.nanos.signum() as i32
    }

    /// Whether it is a whole number.
    pub fn is_whole(&self) -> bool {
        self.nanos % NANO == 0
    }

    pub fn format(&self) -> Format {
        self.format
    }

    pub fn to_f64(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    /// The sum; keeps the format of `self` unless that is zero, as upstream's `Add`.
    pub fn plus(&self, other: &Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_add(other.nanos), format }
    }

    /// The difference; keeps the format of `self` unless that is zero, as upstream's `Sub`.
    pub fn minus(&self, other: &Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: self.nanos.saturating_sub(other.nanos), format }
    }

    /// Rounded up (away from zero) to whole thousandths.
    pub fn rounded_to_milli(&self) -> Self {
        let milli = NANO / 1000;
        let up = self.nanos.abs().saturating_add(milli - 1) / milli * milli;
        Self { nanos: up * self.nanos.signum(), ..*self }
    }

    /// For an object.
    pub fn written(&self) -> Written {
        Written(self.to_string())
    }
}

/// The spelling that upstream stores and answers: the client's own, where a quick look finds nothing to shorten in it.
pub fn canonical(text: &str) -> Result<Cow<'_, str>, ParseError> {
    let text = text.trim();
    let quantity: Quantity = text.parse()?;
    if parts(text).is_ok_and(|parts| is_kept_as_written(&parts)) {
        return Ok(Cow::Borrowed(text));
    }
    let spelled = quantity.to_string();
    Ok(if spelled == text { Cow::Borrowed(text) } else { Cow::Owned(spelled) })
}

/// Source: the fast path of `ParseQuantity`, which keeps the text.
fn is_kept_as_written(parts: &Parts<'_>) -> bool {
    /// Digits that surely fit an `int64`, upstream's `maxInt64Factors`.
    const INT64_DIGITS: usize = 18;
    let (whole, fraction) = (parts.whole.trim_start_matches('0'), parts.fraction);
    let Ok((10, exponent, _)) = interpret(parts.suffix) else { return false };
    let scale = exponent - fraction.len() as i32;
    let ends_in_zeros = match fraction.len() {
        0..=2 => [whole, fraction].concat().ends_with("000"),
        _ => fraction.ends_with("000"),
    };
    let fits = whole.len() + fraction.len() <= INT64_DIGITS && scale >= -9;
    fits && scale % 3 == 0 && !ends_in_zeros && !whole.is_empty()
}

impl TryFrom<&Written> for Quantity {
    type Error = ParseError;

    fn try_from(written: &Written) -> Result<Self, ParseError> {
        written.0.parse()
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

/// A text taken apart: sign, digits before and after the point, suffix.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

fn parts(text: &str) -> Result<Parts<'_>, ParseError> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, rest) = digits(unsigned);
    let (fraction, suffix) = rest.strip_prefix('.').map_or(("", rest), digits);
    let letters = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let exponent = letters.strip_prefix(['-', '+']).unwrap_or(letters);
    if text.is_empty() || !exponent.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ParseError::Format);
    }
    if whole.is_empty() && fraction.is_empty() && !unsigned.is_empty() {
        return Err(ParseError::Numeric);
    }
    Ok(Parts { negative: text.starts_with('-'), whole, fraction, suffix })
}

/// `(base, exponent, format)` of a suffix.
fn interpret(suffix: &str) -> Result<(u32, i32, Format), ParseError> {
    if let Some(power) = BINARY.iter().skip(1).position(|s| *s == suffix) {
        return Ok((2, (power as i32 + 1) * 10, Format::BinarySI));
    }
    if let Some((exponent, _)) = DECIMAL.iter().find(|(_, s)| *s == suffix) {
        return Ok((10, *exponent, Format::DecimalSI));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(ParseError::Suffix)?;
    // far beyond what is told apart: everything there is nothing, or more than anything
    let exponent =
        exponent.parse().ok().filter(|exponent: &i32| (-99..100).contains(exponent)).ok_or(ParseError::Suffix)?;
    Ok((10, exponent, Format::DecimalExponent))
}

impl FromStr for Quantity {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let Parts { negative, whole, fraction, suffix } = parts(text)?;
        let (base, exponent, mut format) = interpret(suffix)?;
        let mantissa: String = [whole, fraction].concat();
        let mantissa = mantissa.trim_start_matches('0');
        let magnitude = match base {
            2 => binary_nanos(mantissa, fraction.len(), exponent as u32),
            _ => decimal_nanos(mantissa, exponent.saturating_add(9).saturating_sub(fraction.len() as i32)),
        };
        if format == Format::BinarySI && magnitude > 0 && magnitude < NANO {
            format = Format::DecimalSI;
        }
        Ok(Self { nanos: if negative { -magnitude } else { magnitude }, format })
    }
}

/// `mantissa * 10^exponent`, rounded up to a whole number, saturating.
fn decimal_nanos(mantissa: &str, exponent: i32) -> i128 {
    let (mantissa, dropped) = match usize::try_from(-exponent) {
        // digits below a billionth: what is left of them rounds up
        Ok(below) => mantissa.split_at(mantissa.len().saturating_sub(below)),
        Err(_) => (mantissa, ""),
    };
    let up = i128::from(dropped.bytes().any(|b| b != b'0'));
    if mantissa.is_empty() {
        return up;
    }
    let scale = u32::try_from(exponent).ok().map_or(Some(1), |e| 10i128.checked_pow(e));
    let value = mantissa.parse::<i128>().ok().zip(scale).and_then(|(m, s)| m.checked_mul(s)?.checked_add(up));
    value.unwrap_or(i128::MAX)
}

/// `mantissa * 2^exponent` of a mantissa with `places` digits after the point; capped at 2⁶³-1 as upstream's are.
fn binary_nanos(mantissa: &str, places: usize, exponent: u32) -> i128 {
    const CAP: i128 = i64::MAX as i128 * NANO;
    if mantissa.is_empty() {
        return 0;
    }
    let scaled = mantissa.parse::<i128>().ok().and_then(|m| m.checked_mul(1i128 << exponent));
    let nanos = scaled.map_or(i128::MAX, |s| decimal_nanos(&s.to_string(), 9 - places as i32));
    nanos.min(CAP)
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_zero() {
            return f.write_str("0");
        }
        let small = self.nanos.abs() < 1024 * NANO;
        match self.format {
            Format::BinarySI if !small && self.is_whole() => self.fmt_binary(f),
            // upstream: rather decimal than rounded
            Format::BinarySI | Format::DecimalSI => self.fmt_decimal(f, false),
            Format::DecimalExponent => self.fmt_decimal(f, true),
        }
    }
}

impl Quantity {
    fn fmt_binary(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut number, mut power) = (self.nanos / NANO, 0);
        while number % 1024 == 0 && power + 1 < BINARY.len() {
            number /= 1024;
            power += 1;
        }
        write!(f, "{number}{}", BINARY.get(power).unwrap_or(&""))
    }

    fn fmt_decimal(&self, f: &mut fmt::Formatter<'_>, exponent_form: bool) -> fmt::Result {
        let (mut number, mut exponent) = (self.nanos, -9);
        while number % 1000 == 0 {
            number /= 1000;
            exponent += 3;
        }
        match DECIMAL.iter().find(|(e, _)| *e == exponent) {
            Some((0, _)) => write!(f, "{number}"),
            Some((_, suffix)) if !exponent_form => write!(f, "{number}{suffix}"),
            _ => write!(f, "{number}e{exponent}"),
        }
    }
}

#[cfg(test)]
mod tests;
