//! The canonical spelling of a resource quantity, as `apimachinery/pkg/api/resource` writes it.
//!
//! Must not know: arithmetic on quantities; only how one is spelled.

use std::borrow::Cow;

const FORMAT: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const SUFFIX: &str = "unable to parse quantity's suffix";
/// Digits that surely fit an `int64`, upstream's `maxInt64Factors`.
const INT64_DIGITS: i32 = 18;
const NANO: i32 = -9;
/// Digits an `i128` surely holds after being multiplied by 2^60.
const MAX_DIGITS: usize = 19;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    DecimalSi,
    DecimalExponent,
    BinarySi,
}

struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

/// The canonical spelling of `text`; borrowed where it is canonical already. Errors are upstream's texts.
pub fn canonical(text: &str) -> Result<Cow<'_, str>, &'static str> {
    let text = text.trim();
    if text == "0" {
        return Ok(Cow::Borrowed(text));
    }
    let parts = split(text).ok_or(FORMAT)?;
    let (base, exponent, format) = suffix(parts.suffix).ok_or(SUFFIX)?;
    if format != Format::BinarySi && kept_as_written(&parts, exponent) {
        return Ok(Cow::Borrowed(text));
    }
    let (mantissa, scale) = amount(&parts, base, exponent).ok_or(FORMAT)?;
    let spelled = spell(mantissa, scale, format, parts.negative);
    Ok(if spelled == text { Cow::Borrowed(text) } else { Cow::Owned(spelled) })
}

fn split(text: &str) -> Option<Parts<'_>> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = rest.split_at(digits(rest));
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    let whole = whole.trim_start_matches('0');
    let allowed = |b: u8| b"eEinumkKMGTP+-".contains(&b) || b.is_ascii_digit();
    let any_digit = text.bytes().any(|b| b.is_ascii_digit());
    (any_digit && suffix.bytes().all(allowed)).then_some(Parts { negative, whole, fraction, suffix })
}

fn suffix(suffix: &str) -> Option<(u32, i32, Format)> {
    let si = |exponent| Some((10, exponent, Format::DecimalSi));
    let binary = |exponent| Some((2, exponent, Format::BinarySi));
    match suffix {
        "" => si(0),
        "n" => si(-9),
        "u" => si(-6),
        "m" => si(-3),
        "k" => si(3),
        "M" => si(6),
        "G" => si(9),
        "T" => si(12),
        "P" => si(15),
        "E" => si(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?.parse().ok().filter(|e: &i32| e.abs() < 100)?;
            Some((10, exponent, Format::DecimalExponent))
        }
    }
}

/// Upstream keeps the client's own spelling where a quick look finds nothing to shorten.
fn kept_as_written(parts: &Parts<'_>, exponent: i32) -> bool {
    let digits = (parts.whole.len() + parts.fraction.len()) as i32;
    let scale = exponent - parts.fraction.len() as i32;
    let shifted_ends_in_zeros = if parts.fraction.len() >= 3 {
        parts.fraction.ends_with("000")
    } else {
        format!("{}{}", parts.whole, parts.fraction).ends_with("000")
    };
    digits <= INT64_DIGITS && scale >= NANO && scale % 3 == 0 && !shifted_ends_in_zeros && !parts.whole.is_empty()
}

/// The value as `mantissa * 10^scale`, rounded up to nano as upstream does. None where it is beyond all bounds.
fn amount(parts: &Parts<'_>, base: u32, exponent: i32) -> Option<(i128, i32)> {
    let fraction = parts.fraction.trim_end_matches('0');
    if parts.whole.len() + fraction.len() > MAX_DIGITS {
        return None;
    }
    let digits = format!("0{}{fraction}", parts.whole);
    let mut mantissa: i128 = digits.parse().ok()?;
    let mut scale = -(fraction.len() as i32);
    if base == 2 {
        mantissa <<= exponent;
        while scale < 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            scale += 1;
        }
        if scale == 0 {
            mantissa = mantissa.min(i128::from(i64::MAX));
        }
    } else {
        scale += exponent;
    }
    while scale < NANO && mantissa != 0 {
        let up = i128::from(mantissa % 10 != 0);
        mantissa = mantissa / 10 + up;
        scale += 1;
    }
    Some((mantissa, scale))
}

fn spell(mantissa: i128, scale: i32, mut format: Format, negative: bool) -> String {
    if mantissa == 0 {
        return "0".to_owned();
    }
    let sign = if negative { "-" } else { "" };
    if format == Format::BinarySi {
        if scale == 0 && mantissa >= 1024 {
            return spell_binary(mantissa, sign);
        }
        format = Format::DecimalSi;
    }
    let (mut mantissa, mut scale) = (mantissa, scale);
    while mantissa % 10 == 0 {
        mantissa /= 10;
        scale += 1;
    }
    while scale % 3 != 0 {
        mantissa *= 10;
        scale -= 1;
    }
    format!("{sign}{mantissa}{}", decimal_suffix(scale, format))
}

fn spell_binary(mut mantissa: i128, sign: &str) -> String {
    const NAMES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut at = 0;
    while mantissa % 1024 == 0 && at + 1 < NAMES.len() {
        mantissa /= 1024;
        at += 1;
    }
    format!("{sign}{mantissa}{}", NAMES[at])
}

fn decimal_suffix(scale: i32, format: Format) -> String {
    const NAMES: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
    let name = usize::try_from(scale / 3 + 3).ok().and_then(|at| NAMES.get(at));
    match (format, name) {
        (Format::DecimalSi, Some(name)) => (*name).to_owned(),
        _ if scale == 0 => String::new(),
        _ => format!("e{scale}"),
    }
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn spellings() {
        for (given, canonical_form) in [
            ("0", "0"),
            ("100m", "100m"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1.5", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("512Ki", "512Ki"),
            ("1Ki", "1Ki"),
            ("0.5Ki", "512"),
            ("1000", "1k"),
            ("2500000", "2500k"),
            ("1e3", "1e3"),
            ("12e6", "12e6"),
            ("10000e3", "10e6"),
            ("-1000m", "-1"),
            ("0.1n", "1n"),
            (".1", "100m"),
            ("128974848", "128974848"),
            ("0Mi", "0"),
            (" 1 ", "1"),
        ] {
            assert_eq!(canonical(given).as_deref(), Ok(canonical_form), "{given}");
        }
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for bad in ["", "abc", "1.2.3", "1KiB", "--1", "1 Gi"] {
            assert!(canonical(bad).is_err(), "{bad}");
        }
    }
}
