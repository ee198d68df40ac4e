//! The table in the kernel: creating or adopting it, changing its elements, reading it back.
//!
//! Decides nothing: what the table should hold comes from `plan`. Must not know: Services.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hasher;

use anyhow::Context as _;

use crate::plan::conntrack::{Flow, Serving, is_stale};
use crate::plan::diff::Changes;
use crate::plan::element::{Frontend, Key, Protocol, Range, Target, Value, family_of};
use crate::plan::{chains, codec, sets};
use crate::range::outermost;
use pintle_nftables::netlink::Socket;
use pintle_nftables::{self as nft, Batch, Element, Family, Set, conntrack};

/// Chains that pick among so few endpoints are there from the start; others come when first needed.
const PICKERS: u32 = 16;

/// One family's table.
pub struct Table {
    family: Family,
    socket: Socket,
    sets: HashMap<&'static str, Set>,
    /// The ranges that do not come from Services, by set.
    ranges: HashMap<&'static str, Vec<Range>>,
    /// Numbers of endpoints, and seconds, that chains exist for.
    counts: BTreeSet<u32>,
    timeouts: BTreeSet<u32>,
    /// The kernel's generation when the table was last read.
    generation: u32,
    /// Changes made since then.
    commits: u32,
}

impl Table {
    /// Opens the socket in the current network namespace; changes nothing yet.
    pub fn open(family: Family, cluster_cidrs: &[Range]) -> anyhow::Result<Self> {
        Ok(Self {
            family,
            socket: Socket::open()?,
            sets: sets::sets(family).into_iter().map(|set| (set.name, set)).collect(),
            ranges: HashMap::from([
                (sets::CLUSTER_CIDRS, of_family(cluster_cidrs, family)),
                (sets::SERVICE_CIDRS, Vec::new()),
            ]),
            counts: BTreeSet::new(),
            timeouts: BTreeSet::new(),
            generation: 0,
            commits: 0,
        })
    }

    pub fn family(&self) -> Family {
        self.family
    }

    /// What the kernel holds, if its table has the layout of this version: then it can be changed in place.
    pub fn read(&mut self) -> anyhow::Result<Option<HashMap<Key, Value>>> {
        // first: what others change while it is read shows at the next look
        (self.generation, self.commits) = (nft::generation(&mut self.socket)?, 0);
        let comment = nft::table_comment(&mut self.socket, self.family, sets::TABLE).context("reading the table")?;
        if comment.as_deref() != Some(layout(self.family).as_str()) {
            return Ok(None);
        }
        let mut found = HashMap::new();
        for set in codec::PLANNED {
            let elements = self.elements(set)?;
            found.extend(elements.iter().filter_map(|raw| codec::decode(self.family, set, raw)));
        }
        self.counts = self.numbers(sets::COUNTS)?;
        self.timeouts = self.numbers(sets::TIMEOUTS)?;
        Ok(Some(found))
    }

    /// Has nobody else changed any table of this network namespace since this one was read?
    pub fn untouched(&mut self) -> anyhow::Result<bool> {
        Ok(nft::generation(&mut self.socket)? == self.generation.wrapping_add(self.commits))
    }

    fn commit(&mut self, batch: Batch) -> anyhow::Result<()> {
        batch.commit(&mut self.socket)?;
        self.commits = self.commits.wrapping_add(1);
        Ok(())
    }

    /// Replaces the whole table, at once, by one with these elements. Open connections go on: conntrack has them.
    pub fn create(&mut self, elements: impl Iterator<Item = (Key, Value)>) -> anyhow::Result<()> {
        let mut batch = Batch::new(self.family, sets::TABLE);
        // deleting needs it there, and adding what is there does nothing
        batch.add_table("");
        batch.delete_table();
        batch.add_table(&layout(self.family));
        sets::sets(self.family).iter().for_each(|set| batch.add_set(set));
        let constant = chains::constant(self.family);
        constant.iter().for_each(|chain| batch.add_chain(chain));
        for (map, elements) in chains::constant_verdicts() {
            batch.add_elements(&self.sets[map], elements);
        }
        constant.iter().for_each(|chain| batch.add_rules(chain));
        for (name, ranges) in &self.ranges {
            batch.add_elements(&self.sets[name], ranges.iter().map(codec::encode_range));
        }
        let mut elements: Vec<(Key, Value)> = elements.collect();
        elements.sort_unstable();
        let (mut counts, timeouts) = needed(elements.iter().copied());
        counts.extend(1..=PICKERS);
        self.add_numbered_chains(&mut batch, &counts, &timeouts);
        self.each_set(elements.into_iter(), |set, elements| batch.add_elements(set, elements));
        self.commit(batch).with_context(|| format!("creating the {} table", self.family.name()))?;
        self.counts = counts;
        self.timeouts = timeouts;
        Ok(())
    }

    /// Sets what does not come from Services, in a table that was there before; nothing when it is right.
    pub fn adopt(&mut self) -> anyhow::Result<()> {
        [sets::CLUSTER_CIDRS, sets::SERVICE_CIDRS].into_iter().try_for_each(|set| self.set_ranges(set))
    }

    fn set_ranges(&mut self, name: &'static str) -> anyhow::Result<()> {
        let ranges: Vec<Element> = self.ranges[name].iter().map(codec::encode_range).collect();
        let mut keys: Vec<Vec<u8>> = ranges.iter().flat_map(nft::plain_range_keys).collect();
        let mut found: Vec<Vec<u8>> = self.elements(name)?.into_iter().map(|raw| raw.key).collect();
        keys.sort_unstable();
        found.sort_unstable();
        if keys == found {
            return Ok(());
        }
        let mut batch = Batch::new(self.family, sets::TABLE);
        let set = &self.sets[name];
        batch.flush_set(set);
        batch.add_elements(set, ranges);
        self.commit(batch).with_context(|| format!("setting the address ranges {name}"))
    }

    /// The ranges that Services' addresses come from; what is sent to one that no Service has is dropped.
    pub fn set_service_cidrs(&mut self, ranges: &[Range]) -> anyhow::Result<()> {
        self.ranges.insert(sets::SERVICE_CIDRS, of_family(ranges, self.family));
        self.set_ranges(sets::SERVICE_CIDRS)
    }

    /// Makes the changes, all or none.
    pub fn apply(&mut self, changes: &Changes) -> anyhow::Result<()> {
        if changes.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::new(self.family, sets::TABLE);
        let (counts, timeouts) = needed(changes.additions());
        let counts: BTreeSet<u32> = counts.difference(&self.counts).copied().collect();
        let timeouts: BTreeSet<u32> = timeouts.difference(&self.timeouts).copied().collect();
        self.add_numbered_chains(&mut batch, &counts, &timeouts);
        self.each_set(changes.deletions(), |set, elements| batch.delete_elements(set, elements));
        self.each_set(changes.additions(), |set, elements| batch.add_elements(set, elements));
        self.commit(batch).with_context(|| format!("changing the {} table", self.family.name()))?;
        self.counts.extend(counts);
        self.timeouts.extend(timeouts);
        Ok(())
    }

    /// Ends the UDP flows that no longer lead to an endpoint. Answers with their number.
    pub fn end_stale_flows(&mut self, serving: &Serving) -> anyhow::Result<usize> {
        let entries = conntrack::list(&mut self.socket, self.family)?;
        let stale: Vec<_> =
            entries.iter().filter(|entry| flow(entry).is_some_and(|flow| is_stale(&flow, serving))).collect();
        stale.iter().try_for_each(|entry| conntrack::delete(&mut self.socket, self.family, entry))?;
        Ok(stale.len())
    }

    /// Hands over each set with those of the sorted elements that belong to it.
    fn each_set(
        &self,
        elements: impl Iterator<Item = (Key, Value)>,
        mut act: impl FnMut(&Set, &mut dyn Iterator<Item = Element>),
    ) {
        let mut elements = elements.peekable();
        while let Some((first, _)) = elements.peek() {
            let name = codec::set_name(first);
            let mut of_set = std::iter::from_fn(|| {
                elements
                    .next_if(|(key, _)| codec::set_name(key) == name)
                    .map(|(key, value)| codec::encode(&key, &value))
            });
            act(&self.sets[name], &mut of_set);
        }
    }

    fn add_numbered_chains(&self, batch: &mut Batch, counts: &BTreeSet<u32>, timeouts: &BTreeSet<u32>) {
        let pickers = counts.iter().flat_map(|count| chains::pickers(self.family, *count));
        let rememberers = timeouts.iter().map(|seconds| chains::rememberer(self.family, *seconds));
        for (chain, map, element) in pickers.chain(rememberers) {
            batch.add_chain(&chain);
            batch.add_rules(&chain);
            batch.add_elements(&self.sets[map], [element]);
        }
    }

    fn elements(&mut self, set: &str) -> anyhow::Result<Vec<nft::RawElement>> {
        nft::elements(&mut self.socket, self.family, sets::TABLE, set).with_context(|| format!("reading the set {set}"))
    }

    fn numbers(&mut self, set: &str) -> anyhow::Result<BTreeSet<u32>> {
        let elements = self.elements(set)?;
        Ok(elements.iter().filter_map(|raw| raw.key.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))).collect())
    }
}

/// Of UDP flows only: the other protocols notice when their endpoint goes.
fn flow(entry: &conntrack::Entry) -> Option<Flow> {
    let (to, by) = (entry.destination, entry.answers);
    let frontend = Frontend { address: to.ip(), protocol: Protocol::Udp, port: to.port() };
    let answers = Target { address: by.ip(), port: by.port() };
    (entry.protocol == Protocol::Udp as u8).then_some(Flow { frontend, answers })
}

/// Those of the family, without what lies in another.
fn of_family(ranges: &[Range], family: Family) -> Vec<Range> {
    outermost(ranges.iter().filter(|range| family_of(range.first) == family).copied().collect())
}

/// Removes both families' tables, where they are. Says which there were.
pub fn cleanup() -> anyhow::Result<Vec<String>> {
    let mut removed = Vec::new();
    let mut socket = Socket::open()?;
    for family in Family::BOTH {
        if nft::table_comment(&mut socket, family, sets::TABLE)?.is_none() {
            continue;
        }
        let mut batch = Batch::new(family, sets::TABLE);
        batch.delete_table();
        batch.commit(&mut socket)?;
        removed.push(format!("nftables table {} {}", if family == Family::V4 { "ip" } else { "ip6" }, sets::TABLE));
    }
    Ok(removed)
}

/// Numbers of endpoints and of seconds that the added elements need chains for.
fn needed(added: impl Iterator<Item = (Key, Value)>) -> (BTreeSet<u32>, BTreeSet<u32>) {
    let (mut counts, mut timeouts) = (BTreeSet::new(), BTreeSet::new());
    for (_, value) in added {
        if let Value::Handling(handling) = value {
            counts.insert(handling.count);
            timeouts.insert(handling.affinity);
        }
    }
    counts.remove(&0);
    timeouts.remove(&0);
    (counts, timeouts)
}

/// Names the constant part of the table: another version's table is replaced, not changed.
fn layout(family: Family) -> String {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    let text = format!(
        "{:?}{:?}{:?}{:?}",
        sets::sets(family),
        chains::constant(family),
        chains::constant_verdicts(),
        (chains::pickers(family, 1), chains::rememberer(family, 1)),
    );
    hasher.write(text.as_bytes());
    format!("pintle-proxy, layout {:016x}", hasher.finish())
}

/// FNV-1a: stays the same across compilers, unlike the standard hasher.
struct Fnv(u64);

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
