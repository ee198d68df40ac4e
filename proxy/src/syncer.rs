//! One family's rules kept equal to the model: which Services changed → their elements → one transaction.
//!
//! Must not know: where the model comes from.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::backend::Table;
use crate::model::{Model, PortEndpoint, ServiceName};
use crate::plan::conntrack::serving;
use crate::plan::diff::{Changes, Ruleset};
use crate::plan::element::{Elements, Frontend, Key, Lane, Protocol, Range, Value, family_of};
use crate::plan::service::{Context, elements};
use pintle_nftables::Family;

/// A Service port's number, by which the kernel's elements know it.
#[derive(Debug, Clone)]
struct Numbered {
    port: Arc<str>,
    protocol: Protocol,
    id: u32,
}

/// Keeps one family's table.
pub struct Syncer {
    table: Table,
    context: Context,
    ruleset: Ruleset,
    numbers: HashMap<ServiceName, Vec<Numbered>>,
    next: u32,
    adopted: Adopted,
    /// The kernel may hold something else than the ruleset.
    doubtful: bool,
}

/// What the kernel held at the start, until the Services it belongs to are known.
#[derive(Debug, Default)]
struct Adopted {
    numbers: HashMap<Frontend, u32>,
    /// Endpoint elements by Service port number.
    slots: HashMap<u32, Elements>,
}

impl Adopted {
    fn of(kernel: &HashMap<Key, Value>) -> Self {
        let mut adopted = Self::default();
        for (key, value) in kernel {
            match (key, value) {
                (Key::Frontend(Lane::Cluster, frontend), Value::Handling(handling)) => {
                    adopted.numbers.insert(*frontend, handling.service);
                }
                (Key::Endpoint { group, .. }, _) => {
                    adopted.slots.entry(group / 2).or_default().push((*key, *value));
                }
                _ => {}
            }
        }
        adopted.slots.values_mut().for_each(|elements| elements.sort_unstable());
        adopted
    }
}

impl Syncer {
    /// Reads what an earlier proxy left in the kernel, so that its numbers and endpoints' places can be kept.
    pub fn start(mut table: Table, context: Context) -> anyhow::Result<Self> {
        let kernel = table.read()?.unwrap_or_default();
        let next = kernel.values().filter_map(number_of).max().map_or(1, |id| id.wrapping_add(1));
        let adopted = Adopted::of(&kernel);
        let (ruleset, numbers) = (Ruleset::default(), HashMap::new());
        Ok(Self { table, context, ruleset, numbers, next, adopted, doubtful: true })
    }

    pub fn family(&self) -> Family {
        self.table.family()
    }

    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Plans every Service anew and makes the kernel's table that, whatever it holds. Answers with the number of
    /// elements changed.
    pub fn sync_all(&mut self, model: &Model, context: Context) -> anyhow::Result<usize> {
        self.context = context;
        let mut ignored = Changes::default();
        let mut names: Vec<ServiceName> = self.numbers.keys().cloned().collect();
        names.extend(model.services().map(|(name, _)| name.clone()));
        names.sort_unstable();
        names.dedup();
        for name in &names {
            self.plan(model, name, &mut ignored);
        }
        self.adopted = Adopted::default();
        self.reconcile()
    }

    /// The ranges that Services' addresses come from.
    pub fn set_service_cidrs(&mut self, ranges: &[Range]) -> anyhow::Result<()> {
        self.table.set_service_cidrs(ranges)
    }

    /// Plans the named Services and changes what that changes.
    pub fn sync<'a>(&mut self, model: &Model, names: impl Iterator<Item = &'a ServiceName>) -> anyhow::Result<usize> {
        let mut changes = Changes::default();
        for name in names {
            self.plan(model, name, &mut changes);
        }
        if self.doubtful {
            return self.reconcile();
        }
        match self.table.apply(&changes) {
            Ok(()) => Ok(changes.len()),
            Err(error) => {
                tracing::warn!("{error:#}; comparing with what the kernel holds");
                self.reconcile()
            }
        }
    }

    /// Ends UDP flows to endpoints of the named Services that are gone. Answers with their number.
    pub fn end_stale_flows<'a>(
        &mut self,
        model: &Model,
        names: impl Iterator<Item = &'a ServiceName>,
    ) -> anyhow::Result<usize> {
        let serving = serving(model, names, self.context.family, &self.context.node_port_addresses);
        if serving.is_empty() { Ok(0) } else { self.table.end_stale_flows(&serving) }
    }

    /// Repairs the kernel's table if anybody else may have changed it. The fallback behind the watches.
    pub fn resync(&mut self) -> anyhow::Result<usize> {
        if !self.doubtful && self.table.untouched()? { Ok(0) } else { self.reconcile() }
    }

    /// Compares the kernel's table with the ruleset and repairs it.
    pub fn reconcile(&mut self) -> anyhow::Result<usize> {
        self.doubtful = true;
        let changed = match self.table.read()? {
            Some(kernel) => {
                self.table.adopt()?;
                let changes = self.ruleset.changes_from(kernel);
                self.table.apply(&changes).or_else(|error| {
                    tracing::warn!("{error:#}; replacing the whole table");
                    self.table.create(self.ruleset.elements())
                })?;
                changes.len()
            }
            None => {
                self.table.create(self.ruleset.elements())?;
                self.ruleset.elements().count()
            }
        };
        self.doubtful = false;
        Ok(changed)
    }

    fn plan(&mut self, model: &Model, name: &ServiceName, changes: &mut Changes) {
        let mut before = self.numbers.remove(name).unwrap_or_default();
        let mut after = Vec::new();
        if let Some(service) = model.service(name).filter(|service| service.is_proxied()) {
            let cluster_ip = service.cluster_ips.iter().find(|a| family_of(**a) == self.context.family).copied();
            for port in &service.ports {
                let Some(address) = cluster_ip else { continue };
                let known = before.iter().position(|n| n.port == port.name && n.protocol == port.protocol);
                let id = match known {
                    Some(index) => before.swap_remove(index).id,
                    None => self.number(address, port.protocol, port.port),
                };
                let endpoints = PortEndpoint::of(model.slices(name), &port.name, port.protocol, self.context.family);
                let slots = self.adopted.slots.remove(&id);
                let previous = slots.as_deref().unwrap_or_else(|| self.ruleset.part(id));
                let planned = elements(&self.context, id, service, port, &endpoints, previous);
                self.ruleset.replace(id, planned, changes);
                after.push(Numbered { port: port.name.clone(), protocol: port.protocol, id });
            }
        }
        for gone in before {
            self.ruleset.replace(gone.id, Vec::new(), changes);
        }
        if !after.is_empty() {
            self.numbers.insert(name.clone(), after);
        }
    }

    /// The number the kernel knows the cluster IP and port by, or a new one.
    fn number(&mut self, address: IpAddr, protocol: Protocol, port: u16) -> u32 {
        if let Some(id) = self.adopted.numbers.remove(&Frontend { address, protocol, port }) {
            return id;
        }
        let id = self.next;
        // groups are twice the number
        self.next = if self.next >= u32::MAX / 2 - 1 { 1 } else { self.next + 1 };
        id
    }
}

fn number_of(value: &Value) -> Option<u32> {
    match value {
        Value::Handling(handling) => Some(handling.service),
        _ => None,
    }
}
