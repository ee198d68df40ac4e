//! systemd's manager: units made, changed, stopped and found.
//!
//! Must not know: why.

use crate::connection::Connection;
use crate::message::Call;
use crate::property::{Property, Value};
use crate::wire::{Reader, Writer};
use crate::{Error, is_running, is_unified, names};

const DESTINATION: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const BUS: &str = "org.freedesktop.DBus";
/// What replaces a conflicting job that waits.
const REPLACE: &str = "replace";

/// A connection to systemd. It ends when systemd is replaced by a newer one: make one for each piece of work.
pub struct Systemd(Connection);

impl Systemd {
    /// # Errors
    /// systemd is not this machine's init, or cannot be reached.
    pub fn connect() -> Result<Systemd, Error> {
        if !is_running() {
            return Err(Error::NotRunning);
        }
        let (connection, over_bus) = Connection::open()?;
        let mut systemd = Systemd(connection);
        if over_bus {
            systemd.introduce()?;
        }
        Ok(systemd)
    }

    /// On a bus nobody is told of jobs who did not ask.
    fn introduce(&mut self) -> Result<(), Error> {
        let bus = |member, signature, body| Call {
            destination: BUS,
            path: "/org/freedesktop/DBus",
            interface: BUS,
            member,
            signature,
            body,
        };
        self.0.call(&bus("Hello", "", Vec::new()))?;
        let mut rule = Writer::default();
        rule.text("type='signal',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'");
        self.0.call(&bus("AddMatch", "s", rule.into_bytes()))?;
        self.manager("Subscribe", "", Vec::new()).map(drop)
    }

    fn manager(&mut self, member: &'static str, signature: &str, body: Vec<u8>) -> Result<Vec<u8>, Error> {
        self.0.call(&Call { destination: DESTINATION, path: PATH, interface: MANAGER, member, signature, body })
    }

    /// Starts a scope in `slice` with these processes, whose cgroup is the caller's to divide, and waits for it. A failed
    /// one of the same name is replaced.
    ///
    /// # Errors
    /// Refused, or the job failed.
    pub fn start_scope(&mut self, scope: &names::Scope, pids: &[u32], limits: &[Property]) -> Result<(), Error> {
        let mut properties = vec![
            Property::new("Description", Value::Text(format!("Pintle container {}", scope.unit))),
            Property::new("Slice", Value::Text(scope.slice.clone())),
            Property::new("Delegate", Value::Bool(true)),
            Property::new("PIDs", Value::U32s(pids.to_vec())),
            // one whose last process failed goes without being asked to
            Property::new("CollectMode", Value::Text("inactive-or-failed".into())),
        ];
        properties.extend(always());
        properties.extend_from_slice(limits);
        match self.start(&scope.unit, &properties) {
            Err(error) if error.is("UnitExists") => {
                let _ = self.reset_failed(&scope.unit);
                self.start(&scope.unit, &properties)
            }
            started => started,
        }
    }

    /// Makes a slice, or changes the one that is there.
    ///
    /// # Errors
    /// Refused, or the job failed.
    pub fn ensure_slice(&mut self, slice: &str, limits: &[Property]) -> Result<(), Error> {
        let mut properties = vec![
            Property::new("Description", Value::Text(format!("Pintle pods {slice}"))),
            Property::new("Wants", Value::Texts(vec![names::parent(slice)])),
        ];
        properties.extend(always());
        properties.extend_from_slice(limits);
        match self.start(slice, &properties) {
            Err(error) if error.is("UnitExists") => self.set(slice, limits),
            started => started,
        }
    }

    fn start(&mut self, unit: &str, properties: &[Property]) -> Result<(), Error> {
        let reply = self.manager("StartTransientUnit", "ssa(sv)a(sa(sv))", transient(unit, properties))?;
        self.job(unit, &reply)
    }

    /// Changes properties until the unit or the machine ends.
    ///
    /// # Errors
    /// Refused.
    pub fn set(&mut self, unit: &str, properties: &[Property]) -> Result<(), Error> {
        if properties.is_empty() {
            return Ok(());
        }
        self.manager("SetUnitProperties", "sba(sv)", changed(unit, properties)).map(drop)
    }

    /// Stops a unit, a slice with everything in it, and waits until it is. One that is not there is stopped.
    ///
    /// # Errors
    /// Refused, or the job failed.
    pub fn stop(&mut self, unit: &str) -> Result<(), Error> {
        let mut body = Writer::default();
        body.text(unit);
        body.text(REPLACE);
        match self.manager("StopUnit", "ss", body.into_bytes()) {
            Err(error) if error.is("NoSuchUnit") => Ok(()),
            reply => self.job(unit, &reply?),
        }
    }

    /// Has systemd forget a unit that failed; another is not there, or not failed.
    ///
    /// # Errors
    /// Refused.
    pub fn reset_failed(&mut self, unit: &str) -> Result<(), Error> {
        let mut body = Writer::default();
        body.text(unit);
        match self.manager("ResetFailedUnit", "s", body.into_bytes()) {
            Err(error) if error.is("NoSuchUnit") => Ok(()),
            reply => reply.map(drop),
        }
    }

    /// The names of loaded units that match a pattern such as `kubepods*.slice`.
    ///
    /// # Errors
    /// Refused.
    pub fn units(&mut self, pattern: &str) -> Result<Vec<String>, Error> {
        let mut body = Writer::default();
        body.array(4, |_| {});
        body.array(4, |patterns| patterns.text(pattern));
        let reply = self.manager("ListUnitsByPatterns", "asas", body.into_bytes())?;
        listed(&reply).ok_or(Error::Malformed("a list of units that cannot be read"))
    }

    /// Waits for the end of the job that a reply names.
    fn job(&mut self, unit: &str, reply: &[u8]) -> Result<(), Error> {
        let job = Reader::new(reply).text().ok_or(Error::Malformed("a reply that names no job"))?.to_owned();
        let result = self.0.until(|member, body| (member == "JobRemoved").then(|| removed(body, &job)).flatten())?;
        if result == "done" { Ok(()) } else { Err(Error::Job { unit: unit.to_owned(), result }) }
    }
}

/// Everything is counted, as it is without systemd; nothing waits for the machine's shutdown.
fn always() -> impl Iterator<Item = Property> {
    // of v1, IOAccounting would have systemd write the weight of IOWeight over that of BlockIOWeight
    let disks = if is_unified() { "IOAccounting" } else { "BlockIOAccounting" };
    let counted = ["MemoryAccounting", "CPUAccounting", disks, "TasksAccounting"];
    let counted = counted.into_iter().map(|name| Property::new(name, Value::Bool(true)));
    counted.chain([Property::new("DefaultDependencies", Value::Bool(false))])
}

pub(crate) fn transient(unit: &str, properties: &[Property]) -> Vec<u8> {
    let mut body = Writer::default();
    body.text(unit);
    body.text(REPLACE);
    body.array(8, |to| properties.iter().for_each(|property| property.write(to)));
    // no units beside it
    body.array(8, |_| {});
    body.into_bytes()
}

fn changed(unit: &str, properties: &[Property]) -> Vec<u8> {
    let mut body = Writer::default();
    body.text(unit);
    body.bool(true);
    body.array(8, |to| properties.iter().for_each(|property| property.write(to)));
    body.into_bytes()
}

/// The result in a `JobRemoved` of this job: number, job, unit, result.
fn removed(body: &[u8], job: &str) -> Option<String> {
    let mut reader = Reader::new(body);
    reader.u32()?;
    if reader.text()? != job {
        return None;
    }
    reader.text()?;
    reader.text().map(str::to_owned)
}

/// The first fields of `a(ssssssouso)`.
fn listed(body: &[u8]) -> Option<Vec<String>> {
    let mut units = Reader::new(body).array(8)?;
    let mut names = Vec::new();
    while !units.is_at_end() {
        units.align(8);
        names.push(units.text()?.to_owned());
        for _ in 0..6 {
            units.text()?;
        }
        units.u32()?;
        units.text()?;
        units.text()?;
    }
    Some(names)
}
