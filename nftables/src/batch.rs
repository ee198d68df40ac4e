//! A batch: changes that the kernel makes all together or not at all, in one message buffer.
//!
//! Must not know: what changes are for.

use super::message::{DELETE_ELEMENT, DELETE_TABLE, NEW_CHAIN, NEW_ELEMENT, NEW_RULE, NEW_SET, NEW_TABLE};
use super::object::{Chain, Element, ElementData, Family, Rule, Set, SetKind, Type};
use super::{SUBSYSTEM, Verdict};
use crate::netlink::wire::{APPEND, CREATE, EXCLUSIVE, Header, REQUEST, Writer};
use crate::netlink::{KernelError, Socket};

/// `NFNL_MSG_BATCH_BEGIN` and `NFNL_MSG_BATCH_END`.
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
/// An element list is one attribute, whose length is 16 bits.
const LIST_LIMIT: usize = 60_000;

/// `NFT_SET_…` flags.
const FLAG_INTERVAL: u32 = 0x4;
const FLAG_MAP: u32 = 0x8;
const FLAG_TIMEOUT: u32 = 0x10;
const FLAG_EVAL: u32 = 0x20;
const FLAG_CONCAT: u32 = 0x80;
/// `NFT_SET_ELEM_INTERVAL_END`.
const INTERVAL_END: u32 = 1;
/// `NFT_DATA_VERDICT`.
const VERDICT_TYPE: u32 = 0xffff_ff00;

/// Changes to one table, collected, then sent at once.
pub struct Batch {
    writer: Writer,
    family: Family,
    table: &'static str,
    /// What each message is about, by sequence number, to explain a refusal.
    labels: Vec<String>,
    set_id: u32,
}

impl Batch {
    pub fn new(family: Family, table: &'static str) -> Self {
        let mut batch = Self { writer: Writer::default(), family, table, labels: Vec::new(), set_id: 0 };
        batch.boundary(BEGIN, "begin batch");
        batch
    }

    /// Adds the table if it is not there. `comment` is stored with it and must stay below 128 bytes.
    pub fn add_table(&mut self, comment: &str) {
        self.start("add table", "", NEW_TABLE, CREATE);
        self.writer.string(1, self.table);
        self.writer.attribute(6, &userdata(0, comment));
        self.writer.end_message();
    }

    /// Deletes the table with all in it; it must be there.
    pub fn delete_table(&mut self) {
        self.start("delete table", "", DELETE_TABLE, 0);
        self.writer.string(1, self.table);
        self.writer.end_message();
    }

    /// Adds the chain without its rules, so that rules and verdict maps can name it.
    pub fn add_chain(&mut self, chain: &Chain) {
        self.start("add chain", &chain.name, NEW_CHAIN, CREATE);
        self.writer.string(1, self.table);
        self.writer.string(3, &chain.name);
        if let Some(hook) = &chain.hook {
            self.writer.nested(4, |w| {
                w.be32(1, hook.kind.number());
                w.be32(2, hook.priority as u32);
            });
            self.writer.string(7, hook.chain_type);
        }
        self.writer.end_message();
    }

    /// Appends the chain's rules.
    pub fn add_rules(&mut self, chain: &Chain) {
        for rule in &chain.rules {
            self.add_rule(&chain.name, rule);
        }
    }

    fn add_rule(&mut self, chain: &str, rule: &Rule) {
        self.start("add rule to", chain, NEW_RULE, CREATE | APPEND);
        self.writer.string(1, self.table);
        self.writer.string(2, chain);
        self.writer.nested(4, |w| rule.expressions.iter().for_each(|expression| expression.write(w)));
        if !rule.comment.is_empty() {
            self.writer.attribute(7, &userdata(0, rule.comment));
        }
        self.writer.end_message();
    }

    pub fn add_set(&mut self, set: &Set) {
        self.start("add set", set.name, NEW_SET, CREATE | EXCLUSIVE);
        self.set_id += 1;
        let w = &mut self.writer;
        w.string(1, self.table);
        w.string(2, set.name);
        w.be32(3, set_flags(set));
        w.be32(4, type_number(&set.key));
        w.be32(5, padded_length(&set.key));
        if let SetKind::Map(data) | SetKind::Dynamic { data, .. } = &set.kind {
            w.be32(6, type_number(data));
            w.be32(7, padded_length(data));
        }
        if set.kind == SetKind::VerdictMap {
            w.be32(6, VERDICT_TYPE);
            w.be32(7, 0);
        }
        write_description(w, set);
        w.be32(10, self.set_id);
        self.writer.end_message();
    }

    pub fn add_elements(&mut self, set: &Set, elements: impl IntoIterator<Item = Element>) {
        self.element_lists("add elements to", set, NEW_ELEMENT, CREATE, elements);
    }

    /// Elements that are there; only their keys matter.
    pub fn delete_elements(&mut self, set: &Set, elements: impl IntoIterator<Item = Element>) {
        self.element_lists("delete elements of", set, DELETE_ELEMENT, 0, elements);
    }

    /// Empties the set.
    pub fn flush_set(&mut self, set: &Set) {
        self.start("flush set", set.name, DELETE_ELEMENT, 0);
        self.writer.string(1, self.table);
        self.writer.string(2, set.name);
        self.writer.end_message();
    }

    fn element_lists(
        &mut self,
        verb: &str,
        set: &Set,
        kind: u16,
        flags: u16,
        elements: impl IntoIterator<Item = Element>,
    ) {
        let plain_ranges = set.kind == SetKind::Ranges && set.key.len() == 1;
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            self.start(verb, set.name, kind, flags);
            self.writer.string(1, self.table);
            self.writer.string(2, set.name);
            let list = self.writer.open(3);
            while self.writer.position() - list < LIST_LIMIT {
                let Some(element) = elements.next() else { break };
                write_element(&mut self.writer, &element, plain_ranges, kind == NEW_ELEMENT);
            }
            self.writer.close(list);
            self.writer.end_message();
        }
    }

    /// Ends the batch and sends it. On refusal nothing of it has happened; the error says which change was refused.
    pub fn commit(mut self, socket: &mut Socket) -> anyhow::Result<()> {
        self.boundary(END, "end batch");
        let errors = socket.transact(self.writer.bytes())?;
        let Some(first) = errors.first() else { return Ok(()) };
        let label = self.labels.get(first.sequence as usize).map_or("an unknown message", String::as_str);
        let more = errors.len() - 1;
        Err(Refused { change: label.to_string(), error: first.clone(), more }.into())
    }

    fn boundary(&mut self, kind: u16, label: &str) {
        let sequence = self.labels.len() as u32;
        self.labels.push(label.to_string());
        self.writer.begin_message(Header { kind, flags: REQUEST, sequence, family: 0, resource: SUBSYSTEM });
        self.writer.end_message();
    }

    fn start(&mut self, verb: &str, name: &str, kind: u16, flags: u16) {
        let sequence = self.labels.len() as u32;
        self.labels.push(format!("{verb} {name}"));
        let kind = SUBSYSTEM << 8 | kind;
        let family = self.family.number();
        self.writer.begin_message(Header { kind, flags: REQUEST | flags, sequence, family, resource: 0 });
    }
}

/// The kernel refused a batch, and nothing of it was done.
#[derive(Debug, thiserror::Error)]
#[error("the kernel refused to {change}: {error} ({more} more errors)")]
pub struct Refused {
    pub change: String,
    pub error: KernelError,
    /// How many other messages of the batch were refused.
    pub more: usize,
}

/// One libnftnl user data entry: a NUL-terminated comment.
fn userdata(kind: u8, comment: &str) -> Vec<u8> {
    let comment = &comment.as_bytes()[..comment.len().min(127)];
    let mut bytes = vec![kind, comment.len() as u8 + 1];
    bytes.extend_from_slice(comment);
    bytes.push(0);
    bytes
}

fn set_flags(set: &Set) -> u32 {
    let concat = if set.key.len() > 1 { FLAG_CONCAT } else { 0 };
    match set.kind {
        // without ranges a concatenated key is just bytes, and hashed
        SetKind::Set => 0,
        SetKind::Ranges => FLAG_INTERVAL | concat,
        SetKind::Map(_) | SetKind::VerdictMap => FLAG_MAP,
        SetKind::Dynamic { .. } => FLAG_MAP | FLAG_TIMEOUT | FLAG_EVAL,
    }
}

fn write_description(w: &mut Writer, set: &Set) {
    let fields = if set.kind == SetKind::Ranges && set.key.len() > 1 { &set.key[..] } else { &[] };
    let size = if let SetKind::Dynamic { size, .. } = set.kind { Some(size) } else { None };
    if fields.is_empty() && size.is_none() {
        return;
    }
    w.nested(9, |w| {
        if let Some(size) = size {
            w.be32(1, size);
        }
        if !fields.is_empty() {
            w.nested(2, |w| fields.iter().for_each(|field| w.nested(1, |w| w.be32(1, field.length()))));
        }
    });
}

/// Concatenations are numbered by their fields, 6 bits each.
fn type_number(fields: &[Type]) -> u32 {
    fields.iter().fold(0, |number, field| number << 6 | field.number())
}

fn padded_length(fields: &[Type]) -> u32 {
    fields.iter().map(|field| field.padded()).sum()
}

fn write_element(w: &mut Writer, element: &Element, plain_range: bool, with_data: bool) {
    w.nested(1, |w| {
        w.nested(1, |w| w.attribute(1, &element.key));
        match &element.data {
            ElementData::Value(value) if with_data => w.nested(2, |w| w.attribute(1, value)),
            ElementData::Verdict(verdict) if with_data => w.nested(2, |w| Verdict::write(verdict, w)),
            ElementData::RangeEnd(end) if !plain_range => w.nested(10, |w| w.attribute(1, end)),
            _ => {}
        }
    });
    if let (ElementData::RangeEnd(end), true) = (&element.data, plain_range)
        && let Some(behind) = successor(end)
    {
        w.nested(1, |w| {
            w.nested(1, |w| w.attribute(1, &behind));
            w.be32(3, INTERVAL_END);
        });
    }
}

/// The keys of the elements that stand for a range in a set of single fields: its first, and the one behind its last.
pub fn plain_range_keys(range: &Element) -> Vec<Vec<u8>> {
    let behind = match &range.data {
        ElementData::RangeEnd(end) => successor(end),
        _ => None,
    };
    [Some(range.key.clone()), behind].into_iter().flatten().collect()
}

/// The next larger key of the same length; None behind the largest.
fn successor(key: &[u8]) -> Option<Vec<u8>> {
    let mut next = key.to_vec();
    for byte in next.iter_mut().rev() {
        let (sum, overflow) = byte.overflowing_add(1);
        *byte = sum;
        if !overflow {
            return Some(next);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::wire::messages;

    #[test]
    fn element_lists_are_cut_below_64_kib() {
        let set = Set { name: "s", key: vec![Type::Number], kind: SetKind::Map(vec![Type::Number]) };
        let mut batch = Batch::new(Family::V4, "t");
        let elements = (0..10_000u32)
            .map(|i| Element { key: i.to_ne_bytes().to_vec(), data: ElementData::Value(i.to_ne_bytes().to_vec()) });
        batch.add_elements(&set, elements);
        let mut count = 0;
        for message in messages(batch.writer.bytes()).skip(1) {
            let list = message.attributes().find(3).unwrap_or_default();
            assert!(list.len() < 65_000);
            count += crate::netlink::wire::Attributes(list).count();
        }
        assert_eq!(count, 10_000);
    }

    #[test]
    fn the_key_behind_a_range() {
        assert_eq!(successor(&[10, 0, 255, 255]), Some(vec![10, 1, 0, 0]));
        assert_eq!(successor(&[255, 255]), None);
    }
}
