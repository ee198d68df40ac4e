//! The program's way from bytes to records, which is compiled here a second time: the program itself has no tests.

extern crate alloc;

#[path = "../program/lines.rs"]
mod lines;

use lines::{LONGEST, Lines};
use proptest::collection::vec;
use proptest::prelude::*;

/// Records of `pieces` as they come one after the other.
fn records(pieces: &[&[u8]], terminal: bool) -> Vec<u8> {
    let (mut lines, mut out) = (Lines::new(b"stdout", terminal), Vec::new());
    pieces.iter().for_each(|piece| lines.push(piece, 0, &mut out));
    lines.end(0, &mut out);
    out
}

/// The text again, each record as long as it may be.
fn text(records: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for record in records.split_inclusive(|byte| *byte == b'\n') {
        let full = record.strip_prefix(b"1970-01-01T00:00:00.000000000Z stdout F ");
        let part = record.strip_prefix(b"1970-01-01T00:00:00.000000000Z stdout P ");
        let (words, end) = full.map_or_else(|| (part.unwrap(), 1), |words| (words, 0));
        assert!(words.len() <= LONGEST + 1);
        text.extend_from_slice(&words[..words.len() - end]);
    }
    text
}

/// Bytes with many line ends, and runs about as long as a record may be.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let run = (LONGEST - 2..LONGEST + 3, 1..3_usize).prop_map(|(length, times)| vec![b'x'; length * times]);
    let piece = prop_oneof![4 => vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..50), 1 => run];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_byte_is_lost_or_made_however_they_come(bytes in bytes(), cuts in vec(any::<prop::sample::Index>(), 0..6)) {
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        prop_assert_eq!(text(&records(&pieces, false)), bytes.clone());
        // And the records are the same.
        prop_assert_eq!(records(&pieces, false), records(&[&bytes], false));
        prop_assert_eq!(records(&pieces, true), records(&[&bytes], true));
    }

    #[test]
    fn of_a_terminal_only_the_returns_before_line_ends_are_left_out(bytes in vec(b'\n'..=b'\r', 0..100)) {
        let expected: Vec<u8> = String::from_utf8(bytes.clone()).unwrap().replace("\r\n", "\n").into();
        prop_assert_eq!(text(&records(&[&bytes], true)), expected);
    }

    #[test]
    fn times_are_written_as_everybody_reads_them(ns in 0..u64::MAX / 2) {
        let mut written = Vec::new();
        lines::timestamp(ns, &mut written);
        let time = jiff::Timestamp::from_nanosecond(ns.into()).unwrap();
        prop_assert_eq!(String::from_utf8(written).unwrap(), format!("{time:.9}"));
    }
}

#[test]
fn a_line_as_long_as_a_record_is_one_and_a_longer_one_two() {
    let line = |length: usize| [&vec![b'x'; length][..], b"\n"].concat();
    let count = |text: &[u8]| records(&[text], false).split_inclusive(|byte| *byte == b'\n').count();
    assert_eq!((count(&line(LONGEST)), count(&line(LONGEST + 1)), count(b"\n")), (1, 2, 1));
}
