//! How a batch of changes stands in the journal: whole blocks, with a head that proves itself.
//!
//! A batch begins at a block's start, so that writing it touches no block of an earlier one, and what is damaged can be
//! told from what was never finished: after it, a later batch can be found. Must not know: files.

use std::sync::Arc;

use bytes::Bytes;

use super::super::recent::Change;
use super::super::tables::Record;

/// Batches begin at multiples of this, in bytes: what disks write at once.
pub const BLOCK: usize = 4096;
const MAGIC: [u8; 8] = *b"pintle\x1Aj";
/// Magic, store, first revision, compacted, count, length, checksum.
const HEAD: usize = 8 + 8 + 8 + 8 + 4 + 4 + 4;
/// The checksum is the head's last field.
const SUM: usize = HEAD - 4;

/// Changes that became durable together.
#[derive(Debug)]
pub struct Batch {
    /// The first change's revision; of a batch without changes, what the next change's will be.
    pub first: u64,
    /// Up to where history was forgotten when it was written.
    pub compacted: u64,
    pub changes: Vec<Arc<Change>>,
    /// How long it is in the journal, in bytes.
    pub size: usize,
}

impl Batch {
    /// The revision that follows its last change.
    pub fn next(&self) -> u64 {
        self.first + self.changes.len() as u64
    }
}

/// What stands at a block's start.
#[derive(Debug)]
pub enum Found {
    Batch(Batch),
    /// Nothing, or something that was not written to its end, or is damaged.
    Nothing,
    /// A batch of another store.
    Foreign,
}

/// Whether a block can be the first of a batch, finished or not.
pub fn may_begin(block: &[u8]) -> bool {
    block.starts_with(&MAGIC)
}

/// Replaces what is in `out` by a batch.
pub fn encode(out: &mut Vec<u8>, store: u64, first: u64, compacted: u64, changes: &[Arc<Change>]) {
    out.clear();
    out.extend_from_slice(&MAGIC);
    for number in [store, first, compacted] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&(changes.len() as u32).to_le_bytes());
    out.resize(HEAD, 0);
    for change in changes {
        let at = out.len();
        out.extend_from_slice(&[0; 4]);
        change.record().encode_to(out);
        let length = (out.len() - at - 4) as u32;
        out[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }
    let length = (out.len() - HEAD) as u32;
    out[SUM - 4..SUM].copy_from_slice(&length.to_le_bytes());
    let sum = checksum(&out[..SUM], &out[HEAD..]);
    out[SUM..HEAD].copy_from_slice(&sum.to_le_bytes());
    out.resize(out.len().next_multiple_of(BLOCK), 0);
}

/// Reads the batch of `store` that `bytes` begin with.
pub fn decode(bytes: &[u8], store: u64) -> Found {
    let number = |at: usize| bytes.get(at..)?.first_chunk::<8>().map(|chunk| u64::from_le_bytes(*chunk));
    let small = |at: usize| bytes.get(at..)?.first_chunk::<4>().map(|chunk| u32::from_le_bytes(*chunk));
    if !bytes.starts_with(&MAGIC) {
        return Found::Nothing;
    }
    if number(8) != Some(store) {
        return Found::Foreign;
    }
    let read = || {
        let (first, compacted, count) = (number(16)?, number(24)?, small(32)?);
        let payload = bytes.get(HEAD..)?.get(..small(36)? as usize)?;
        if checksum(&bytes[..SUM], payload) != small(SUM)? {
            return None;
        }
        let size = (HEAD + payload.len()).next_multiple_of(BLOCK);
        Some(Batch { first, compacted, changes: changes(payload, first, count)?, size })
    };
    read().map_or(Found::Nothing, Found::Batch)
}

fn changes(payload: &[u8], first: u64, count: u32) -> Option<Vec<Arc<Change>>> {
    let mut rest = payload;
    let mut found = Vec::new();
    for revision in first..first.checked_add(u64::from(count))? {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (record, after) = after.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        rest = after;
        let record = Record::decode(record)?;
        found.push(Arc::new(Change {
            deleted: record.deleted,
            revision,
            create_revision: record.create_revision,
            prev: record.prev,
            key: record.key.into(),
            value: Bytes::copy_from_slice(record.value),
        }));
    }
    rest.is_empty().then_some(found)
}

fn checksum(head: &[u8], payload: &[u8]) -> u32 {
    let mut sum = flate2::Crc::new();
    sum.update(head);
    sum.update(payload);
    sum.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(revision: u64, value: &[u8]) -> Arc<Change> {
        let value = Bytes::copy_from_slice(value);
        Arc::new(Change { deleted: false, revision, create_revision: 7, prev: 3, key: "/a".into(), value })
    }

    #[test]
    fn a_batch_survives_both_ways_and_no_damaged_one_is_read() {
        let mut bytes = Vec::new();
        encode(&mut bytes, 9, 7, 2, &[change(7, b"one"), change(8, &[5; 9000])]);
        assert_eq!(bytes.len(), 3 * BLOCK);
        let Found::Batch(batch) = decode(&bytes, 9) else { panic!("not found") };
        assert_eq!((batch.first, batch.compacted, batch.next(), batch.size), (7, 2, 9, bytes.len()));
        assert_eq!(*batch.changes[1], *change(8, &[5; 9000]));
        for at in (0..HEAD + 40).chain([9000]) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert!(!matches!(decode(&damaged, 9), Found::Batch(_)), "byte {at}");
        }
        for length in [0, 8, HEAD, BLOCK, 2 * BLOCK] {
            assert!(!matches!(decode(&bytes[..length], 9), Found::Batch(_)), "cut at {length}");
        }
        assert!(matches!(decode(&bytes, 8), Found::Foreign));
    }
}
