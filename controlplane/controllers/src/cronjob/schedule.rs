//! Cron schedules: five fields (`*/15 8-18 * * mon-fri`) or a name (`@daily`), as upstream's parser reads them.
//!
//! Must not know: CronJobs, clocks.

use k8s_openapi::jiff::civil::Date;
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{SignedDuration, Timestamp, ToSpan};

/// Looked at before a schedule counts as one that never comes (30 February).
const DAYS: usize = 5 * 366;

#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// With both restricted, a day need only match one of them.
    any_day: bool,
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl Schedule {
    /// The error says which part is not understood.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = match text.trim() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else {
            return Err(format!("expected exactly 5 fields, found {}: [{text}]", fields.len()));
        };
        let weekday_bits = field(weekdays, 0, 7, &WEEKDAYS)?;
        Ok(Self {
            minutes: field(minutes, 0, 59, &[])?,
            hours: field(hours, 0, 23, &[])?,
            days: field(days, 1, 31, &[])?,
            months: field(months, 1, 12, &MONTHS)?,
            // 7 is Sunday, too
            weekdays: (weekday_bits | weekday_bits >> 7) & 0x7f,
            any_day: !is_star(days) && !is_star(weekdays),
        })
    }

    /// The first time after `after`, in that zone; None: there is none within years.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let first = after.to_zoned(zone.clone()).date();
        let mut day = first;
        for _ in 0..DAYS {
            if self.matches(day)
                && let Some(time) = self.next_on(day, after, zone)
            {
                return Some(time);
            }
            day = day.checked_add(1.day()).ok()?;
        }
        None
    }

    fn matches(&self, day: Date) -> bool {
        let has = |bits: u64, number: i8| bits >> number & 1 == 1;
        let by_day = has(self.days, day.day());
        let by_weekday = has(self.weekdays, day.weekday().to_sunday_zero_offset());
        let right_day = if self.any_day { by_day || by_weekday } else { by_day && by_weekday };
        has(self.months, day.month()) && right_day
    }

    fn next_on(&self, day: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let hours = (0..24i8).filter(|hour| self.hours >> hour & 1 == 1);
        let times = hours.flat_map(|hour| {
            (0..60i8).filter(|minute| self.minutes >> minute & 1 == 1).map(move |minute| (hour, minute))
        });
        times
            .filter_map(|(hour, minute)| {
                let wanted = day.at(hour, minute, 0, 0);
                let zoned = zone.to_ambiguous_zoned(wanted).compatible().ok()?;
                // a time that the clocks skip does not happen
                (zoned.datetime() == wanted).then(|| zoned.timestamp())
            })
            .find(|time| *time > after)
    }

    /// The last time in `(after, until]`.
    pub fn latest(&self, after: Timestamp, until: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let day = SignedDuration::from_hours(24);
        let windows = [SignedDuration::from_hours(2), day, day * 32, day * 400];
        let starts = windows.into_iter().filter_map(|window| until.checked_sub(window).ok());
        for start in starts.chain([after]) {
            let mut last = None;
            let mut at = start.max(after);
            while let Some(next) = self.next(at, zone).filter(|next| *next <= until) {
                (last, at) = (Some(next), next);
            }
            if last.is_some() || start <= after {
                return last;
            }
        }
        None
    }
}

fn is_star(text: &str) -> bool {
    text.split(',').any(|part| part.starts_with('*') || part.starts_with('?'))
}

/// A field as bits.
fn field(text: &str, low: u32, high: u32, names: &[&str]) -> Result<u64, String> {
    text.split(',').try_fold(0, |bits, part| Ok(bits | range(part, low, high, names)?))
}

fn range(part: &str, low: u32, high: u32, names: &[&str]) -> Result<u64, String> {
    let wrong = |what: &str| format!("{what}: {part}");
    let (span, step) = match part.split_once('/') {
        Some((span, step)) => (span, Some(step.parse::<u32>().map_err(|_| wrong("failed to parse int from"))?)),
        None => (part, None),
    };
    let (first, last) = match span.split_once('-') {
        _ if matches!(span, "*" | "?") => (low, if names.len() == 7 { 6 } else { high }),
        Some((first, last)) => (number(first, low, names)?, number(last, low, names)?),
        None => {
            let only = number(span, low, names)?;
            (only, if step.is_some() { high } else { only })
        }
    };
    if first < low || last > high || first > last {
        return Err(wrong("value out of range"));
    }
    match step {
        Some(0) => Err(wrong("step of range should be a positive number")),
        step => Ok((first..=last).step_by(step.unwrap_or(1) as usize).fold(0, |bits, number| bits | 1 << number)),
    }
}

fn number(text: &str, low: u32, names: &[&str]) -> Result<u32, String> {
    let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
    let named = named.and_then(|index| u32::try_from(index).ok()).map(|index| index + low);
    named.or_else(|| text.parse().ok()).ok_or_else(|| format!("failed to parse int from {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str) -> String {
        let next = Schedule::parse(schedule).unwrap().next(after.parse().unwrap(), &TimeZone::UTC);
        next.map_or_else(|| "never".into(), |time| time.to_string())
    }

    #[test]
    fn the_next_time_follows_every_field() {
        let after = "2026-01-30T10:07:30Z";
        assert_eq!(next("*/15 * * * *", after), "2026-01-30T10:15:00Z");
        assert_eq!(next("0 9 * * *", after), "2026-01-31T09:00:00Z");
        assert_eq!(next("30 8-18/4 * * mon-fri", after), "2026-01-30T12:30:00Z");
        assert_eq!(next("0 0 29 feb *", after), "2028-02-29T00:00:00Z");
        assert_eq!(next("0 0 30 2 *", after), "never");
        assert_eq!(next("@weekly", after), "2026-02-01T00:00:00Z");
        assert_eq!(next("0 0 13 * 5", after), "2026-02-06T00:00:00Z");
        assert_eq!(next("5 4 * * 7", after), "2026-02-01T04:05:00Z");
    }

    #[test]
    fn the_latest_missed_time_is_found_however_long_ago() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let latest = |schedule: &str, after: &str| {
            let schedule = Schedule::parse(schedule).unwrap();
            schedule.latest(at(after), at("2026-06-15T12:34:56Z"), &TimeZone::UTC).map(|time| time.to_string())
        };
        assert_eq!(latest("* * * * *", "2020-01-01T00:00:00Z").as_deref(), Some("2026-06-15T12:34:00Z"));
        assert_eq!(latest("0 0 1 1 *", "2020-01-01T00:00:00Z").as_deref(), Some("2026-01-01T00:00:00Z"));
        assert_eq!(latest("0 13 * * *", "2026-06-15T00:00:00Z"), None);
    }

    #[test]
    fn nonsense_is_refused_with_a_reason() {
        for schedule in ["", "* * * *", "61 * * * *", "*/0 * * * *", "5-1 * * * *", "x * * * *"] {
            assert!(Schedule::parse(schedule).is_err(), "{schedule}");
        }
    }
}
