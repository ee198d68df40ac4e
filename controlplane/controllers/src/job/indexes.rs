//! Completion indexes of a Job: sets of numbers written as `0-3,7`.
//!
//! Must not know: Jobs.

use std::collections::BTreeSet;

/// Reads what [`write`] wrote, up to (excluding) `end`; what is not understood is left out.
pub fn read(text: &str, end: i32) -> BTreeSet<i32> {
    let ranges = text.split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some((first.trim().parse::<i32>().ok()?, last.trim().parse::<i32>().ok()?))
    });
    ranges.flat_map(|(first, last)| first.max(0)..=last.min(end - 1)).collect()
}

pub fn write(indexes: &BTreeSet<i32>) -> String {
    let mut ranges: Vec<(i32, i32)> = Vec::new();
    for index in indexes {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => ranges.push((*index, *index)),
        }
    }
    let range = |(first, last): (i32, i32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    ranges.into_iter().map(range).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_written_short_and_read_back() {
        let set: BTreeSet<i32> = [0, 1, 2, 5, 7, 8].into();
        assert_eq!(write(&set), "0-2,5,7-8");
        assert_eq!(read("0-2,5,7-8", 100), set);
        assert_eq!(read("0-2,5,7-8", 6), [0, 1, 2, 5].into());
        assert!(read("", 5).is_empty() && read("x,3-y", 5).is_empty());
    }
}
