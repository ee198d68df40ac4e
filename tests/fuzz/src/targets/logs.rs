//! Containers' logs as they may lie on a disk: cut, mixed, overwritten.
//!
//! Must not know: who wrote them.

use bytes::Bytes;
use jiff::Timestamp;
use pintle_cri::log::{Stream, parse, record};
use pintle_kubelet::logs::read::{Options, read};
use tokio::sync::mpsc;

use super::cage::memory;
use super::ended;
use crate::{Dice, mutate};

/// A log as a runtime writes it: records of both streams, whole and partial.
fn sound(dice: &mut Dice) -> Vec<u8> {
    let mut log = Vec::new();
    let mut at = 1_700_000_000_000_000_000_i128;
    for _ in 0..dice.below(40) {
        at += i128::from(dice.number() % 3_000_000_000);
        let stream = if dice.one_in(2) { Stream::Stdout } else { Stream::Stderr };
        let content: Vec<u8> = dice.bytes(200).into_iter().filter(|byte| *byte != b'\n').collect();
        let time = Timestamp::from_nanosecond(at).unwrap();
        log.extend_from_slice(&record(time, stream, dice.one_in(4), &content));
    }
    log
}

/// The same, damaged.
fn damaged(dice: &mut Dice) -> Vec<u8> {
    let mut log = sound(dice);
    mutate(&mut log, dice, 8);
    for word in ["stdout P ", " F", "9999-12-31T23:59:60.999999999Z stdout F x\n", "\n\n", "-009999-01-01T00:00:00Z "] {
        if dice.one_in(6) {
            let at = dice.below(log.len() + 1);
            log.splice(at..at, word.bytes());
        }
    }
    log
}

pub(super) fn records_are_read_or_refused(bytes: &[u8]) {
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        if let Ok(found) = parse(line) {
            assert!(line.len() >= found.content.len() + found.written_timestamp.len());
        }
    }
}

fn options(dice: &mut Dice) -> Options {
    Options {
        follow: false,
        timestamps: dice.one_in(3),
        tail: dice.one_in(2).then(|| if dice.one_in(3) { dice.odd_number() } else { dice.below(50) as u64 }),
        since: dice.one_in(4).then(|| Timestamp::from_nanosecond(1_700_000_020_000_000_000).unwrap()),
        limit: dice.one_in(3).then(|| if dice.one_in(3) { dice.odd_number() } else { dice.below(2000) as u64 }),
        stream: dice.one_in(4).then_some(Stream::Stderr),
    }
}

fn shown(log: &[u8], options: &Options) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new_in(memory()).unwrap();
    std::fs::write(file.path(), log).unwrap();
    let (to, mut from) = mpsc::channel::<Bytes>(4);
    let reading = async {
        // what cannot be read ends the output
        let _ = read(file.path(), options, &to, || std::future::ready(false)).await;
        drop(to);
    };
    let taking = async {
        let mut text = Vec::new();
        while let Some(piece) = from.recv().await {
            text.extend_from_slice(&piece);
        }
        text
    };
    ended("a reader", async { tokio::join!(reading, taking).1 })
}

pub(super) fn are_read_to_their_end(dice: &mut Dice) {
    let log = damaged(dice);
    let options = options(dice);
    let text = shown(&log, &options);
    if let Some(limit) = options.limit {
        assert!(text.len() as u64 <= limit, "{} bytes of at most {limit}", text.len());
    }
    if !options.timestamps {
        assert!(text.len() <= log.len(), "{} bytes of a log of {}", text.len(), log.len());
    }
}

pub(super) fn are_shown_whole(dice: &mut Dice) {
    let log = sound(dice);
    let records = log.split_inclusive(|byte| *byte == b'\n').map(|line| parse(line).unwrap());
    let whole: Vec<u8> = records.flat_map(|record| record.content.to_vec()).collect();
    let text = shown(&log, &Options::default());
    assert_eq!(String::from_utf8_lossy(&text), String::from_utf8_lossy(&whole));
}
