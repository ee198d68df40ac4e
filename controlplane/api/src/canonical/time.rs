//! Times as Kubernetes writes them: RFC 3339 in UTC, with seconds (`metav1.Time`) or microseconds (`metav1.MicroTime`).
//!
//! Must not know: the current time.

use std::fmt::Write as _;

/// Seconds of 0001-01-01T00:00:00Z, Go's zero time, which is written as null.
pub const GO_ZERO: i64 = -62_135_596_800;

/// Seconds since 1970 and nanoseconds of an RFC 3339 time. `micros` demands exactly six digits of fraction, as
/// parsing with Go's layout for `MicroTime` does.
pub fn parse(text: &str, micros: bool) -> Option<(i64, u32)> {
    let b = text.as_bytes();
    let shaped = b.len() >= 20 && b[4] == b'-' && b[7] == b'-' && b[10] == b'T' && b[13] == b':' && b[16] == b':';
    if !shaped {
        return None;
    }
    let (year, month, day) = (digits(&b[0..4])?, digits(&b[5..7])?, digits(&b[8..10])?);
    let (hour, minute, second) = (digits(&b[11..13])?, digits(&b[14..16])?, digits(&b[17..19])?);
    if !(1..=12).contains(&month) || day < 1 || day > days_in(year, month) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let (nanos, rest) = fraction(&b[19..], micros)?;
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    Some((seconds - offset(rest)?, nanos))
}

fn digits(b: &[u8]) -> Option<i64> {
    b.iter().try_fold(0, |sum, c| c.is_ascii_digit().then(|| sum * 10 + i64::from(c - b'0')))
}

fn fraction(b: &[u8], micros: bool) -> Option<(u32, &[u8])> {
    let Some(rest) = b.strip_prefix(b".").or_else(|| b.strip_prefix(b",")) else {
        return (!micros).then_some((0, b));
    };
    let count = rest.iter().take_while(|c| c.is_ascii_digit()).count();
    if count == 0 || (micros && count != 6) {
        return None;
    }
    // what is finer than a nanosecond is dropped, missing digits are zeros
    let digits = rest[..count].iter().map(|digit| u32::from(digit - b'0')).chain(std::iter::repeat(0));
    let nanos = digits.take(9).fold(0, |sum, digit| sum * 10 + digit);
    Some((nanos, &rest[count..]))
}

/// `Z`, `+02:00`.
fn offset(b: &[u8]) -> Option<i64> {
    match b {
        b"Z" => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            let seconds = hours * 3600 + minutes * 60;
            (hours <= 24 && minutes < 60).then_some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 => 28 + i64::from(leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar: years are counted from March, in eras of 400 years.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// `2006-01-02T15:04:05Z`, or with microseconds `2006-01-02T15:04:05.000000Z`.
pub fn format(seconds: i64, nanos: u32, micros: bool) -> String {
    let (year, month, day) = date(seconds.div_euclid(86_400));
    let of_day = seconds.rem_euclid(86_400);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let mut out = String::with_capacity(27);
    // writing to a String cannot fail
    let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
    if micros {
        let _ = write!(out, ".{:06}", nanos / 1000);
    }
    out.push('Z');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2008-01-01T01:01:01Z", 1_199_149_261),
            ("2024-02-29T23:59:59Z", 1_709_251_199),
            ("0001-01-01T00:00:00Z", GO_ZERO),
            ("9999-12-31T23:59:59Z", 253_402_300_799),
        ] {
            assert_eq!(parse(text, false), Some((seconds, 0)));
            assert_eq!(format(seconds, 0, false), text);
        }
    }

    #[test]
    fn offsets_and_fractions() {
        assert_eq!(parse("1970-01-01T02:00:00.5+02:00", false), Some((0, 500_000_000)));
        assert_eq!(parse("1970-01-01T00:00:00.000001Z", true), Some((0, 1000)));
        assert_eq!(format(0, 1999, true), "1970-01-01T00:00:00.000001Z");
        for bad in ["", "2020-13-01T00:00:00Z", "2023-02-29T00:00:00Z", "2020-01-01", "2020-01-01T00:00:00"] {
            assert_eq!(parse(bad, false), None, "{bad}");
        }
    }
}
