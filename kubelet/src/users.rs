//! Which IDs of the host the users of a pod in a user namespace are: a range of its own for each pod, written down in its
//! directory. Source: pkg/kubelet/userns.
//!
//! Must not know: runtimes, what the pod runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use parking_lot::Mutex;
use pintle_cri::v1::{IdMapping, NamespaceMode, UserNamespace};
use serde::{Deserialize, Serialize};

/// Whose subordinate IDs pods get, where the host has such a user; it need not.
const USER: &str = "kubelet";
/// In a pod's directory.
const FILE: &str = "userns";
/// IDs come in as many as one process can have names for.
pub const UNIT: u32 = 65_536;

/// The host's IDs for pods: `first..first + length`, `per_pod` for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u32,
    length: u32,
    per_pod: u32,
}

/// Upstream's file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    uid_mappings: Vec<Mapping>,
    gid_mappings: Vec<Mapping>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Mapping {
    host_id: u32,
    container_id: u32,
    length: u32,
}

/// Who has which range. Clones share it.
#[derive(Clone)]
pub struct Users(Arc<Mutex<Table>>);

struct Table {
    pods: PathBuf,
    range: Range,
    /// First IDs by pod UID.
    taken: BTreeMap<String, u32>,
}

impl Users {
    /// `pods` has a directory per pod; those of an earlier kubelet keep what they had.
    ///
    /// # Errors
    /// The host's ranges do not fit, or a pod's cannot be read.
    pub fn open(pods: PathBuf, per_pod: u32, max_pods: u32) -> anyhow::Result<Self> {
        let (first, length) = host_range(per_pod)?;
        let range = checked(Range { first, length, per_pod }, max_pods)?;
        let mut table = Table { pods, range, taken: BTreeMap::new() };
        for entry in fs::read_dir(&table.pods).into_iter().flatten().flatten() {
            let uid = entry.file_name().to_string_lossy().into_owned();
            if let Some(first) = table.read(&uid)? {
                table.taken.insert(uid, first);
            }
        }
        Ok(Self(Arc::new(Mutex::new(table))))
    }

    /// The pod's user namespace; a range is taken for it, and kept on disk, at the first call.
    ///
    /// # Errors
    /// No range is left, or it cannot be written down.
    pub fn of(&self, uid: &str) -> anyhow::Result<UserNamespace> {
        let mut table = self.0.lock();
        let first = match table.taken.get(uid) {
            Some(first) => *first,
            None => table.take(uid).context("create user namespace")?,
        };
        let mapping = vec![IdMapping { host_id: first, container_id: 0, length: table.range.per_pod }];
        Ok(UserNamespace { mode: NamespaceMode::Pod.into(), uids: mapping.clone(), gids: mapping })
    }

    /// The pod is gone, and its directory with it.
    pub fn forget(&self, uid: &str) {
        self.0.lock().taken.remove(uid);
    }
}

impl Table {
    fn take(&mut self, uid: &str) -> anyhow::Result<u32> {
        let first = free(self.range, &self.taken.values().copied().collect())
            .context("could not find an empty slot to allocate a user namespace")?;
        let mapping = vec![Mapping { host_id: first, container_id: 0, length: self.range.per_pod }];
        let written = Written { uid_mappings: mapping.clone(), gid_mappings: mapping };
        let dir = self.pods.join(uid);
        write(&dir, &serde_json::to_vec(&written)?).with_context(|| format!("writing {}", dir.join(FILE).display()))?;
        self.taken.insert(uid.to_owned(), first);
        Ok(first)
    }

    fn read(&self, uid: &str) -> anyhow::Result<Option<u32>> {
        let path = self.pods.join(uid).join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let first = first_of(&bytes, self.range).with_context(|| format!("user namespace in {}", path.display()))?;
        if let Some((other, _)) = self.taken.iter().find(|(_, taken)| **taken == first) {
            bail!("{}: range picked for pod {uid:?} already taken by {other:?}", path.display());
        }
        Ok(Some(first))
    }
}

fn first_of(bytes: &[u8], range: Range) -> anyhow::Result<u32> {
    let written: Written = serde_json::from_slice(bytes).context("invalid user namespace mappings file")?;
    let [mapping] = written.uid_mappings.as_slice() else {
        bail!("invalid user namespace configuration: no more than one mapping allowed");
    };
    ensure!(
        written.gid_mappings == [*mapping],
        "invalid user namespace configuration: GID and UID mapping should be identical"
    );
    ensure!(mapping.container_id == 0, "invalid user namespace configuration: UID 0 must be mapped");
    ensure!(mapping.length == range.per_pod, "wrong user namespace length {}", mapping.length);
    let within = range.first..=range.first + (range.length - range.per_pod);
    ensure!(within.contains(&mapping.host_id), "id {} is out of range", mapping.host_id);
    ensure!(mapping.host_id % range.per_pod == 0, "wrong user namespace offset specified {}", mapping.host_id);
    Ok(mapping.host_id)
}

/// The lowest range that nobody has.
fn free(range: Range, taken: &BTreeSet<u32>) -> Option<u32> {
    let count = range.length / range.per_pod;
    (0..count).map(|at| range.first + at * range.per_pod).find(|first| !taken.contains(first))
}

fn checked(range: Range, max_pods: u32) -> anyhow::Result<Range> {
    let Range { first, length, per_pod } = range;
    ensure!(per_pod > 0 && per_pod % UNIT == 0, "kubelet user namespace length {per_pod} is not a multiple of {UNIT}");
    ensure!(first % per_pod == 0, "kubelet user assigned ID {first} is not a multiple of {per_pod}");
    // who is root in the namespace would be root of the host
    ensure!(first >= per_pod, "kubelet user assigned ID {first} must be greater or equal to {per_pod}");
    ensure!(length % per_pod == 0, "kubelet user assigned IDs length {length} is not a multiple of {per_pod}");
    ensure!(length / per_pod >= max_pods, "kubelet user assigned IDs are not enough to support {max_pods} pods");
    Ok(range)
}

/// First ID and how many: the subordinate IDs of the host's user for it, else all but the host's own first ones.
fn host_range(per_pod: u32) -> anyhow::Result<(u32, u32)> {
    let default = (per_pod, 0_u32.wrapping_sub(per_pod));
    if nix::unistd::User::from_name(USER).context("looking for the user kubelet")?.is_none() {
        return Ok(default);
    }
    let Some(users) = subordinate(&[USER])? else { return Ok(default) };
    let groups = subordinate(&["-g", USER])?;
    ensure!(groups.as_ref() == Some(&users), "mismatched subuids and subgids for user {USER:?}");
    parsed(&users)
}

/// What `getsubids` says; none without that program.
fn subordinate(arguments: &[&str]) -> anyhow::Result<Option<String>> {
    match Command::new("getsubids").args(arguments).output() {
        Ok(done) if done.status.success() => Ok(Some(String::from_utf8_lossy(&done.stdout).into_owned())),
        Ok(done) => bail!("error retrieving additional ids for user {USER:?}: getsubids: {}", done.status),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("running getsubids"),
    }
}

/// `0: kubelet 65536 4294901760`, once.
fn parsed(text: &str) -> anyhow::Result<(u32, u32)> {
    let mut lines = text.lines();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        bail!("error parsing user namespace mappings: getsubids must return exactly one entry");
    };
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, _, first, length] = fields.as_slice() else { bail!("getsubids: unexpected line {line:?}") };
    let number = |text: &str| text.parse::<u32>().with_context(|| format!("getsubids: {text:?} is no number"));
    Ok((number(first)?, number(length)?))
}

/// At once, and for good: two pods of one range would own each other's files.
fn write(dir: &Path, bytes: &[u8]) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    let (path, fresh) = (dir.join(FILE), dir.join(".userns.new"));
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(fresh, path)?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(dir: &Path) -> Users {
        let range = Range { first: UNIT, length: 3 * UNIT, per_pod: UNIT };
        Users(Arc::new(Mutex::new(Table { pods: dir.to_owned(), range, taken: BTreeMap::new() })))
    }

    fn first(users: &Users, uid: &str) -> u32 {
        users.of(uid).unwrap().uids[0].host_id
    }

    #[test]
    fn every_pod_has_a_range_of_its_own_until_it_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let users = table(dir.path());
        assert_eq!([first(&users, "a"), first(&users, "b"), first(&users, "a")], [UNIT, 2 * UNIT, UNIT]);
        assert_eq!(first(&users, "c"), 3 * UNIT);
        assert!(format!("{:#}", users.of("d").unwrap_err()).contains("could not find an empty slot"));
        users.forget("b");
        assert_eq!(first(&users, "d"), 2 * UNIT);
    }

    #[test]
    fn ranges_outlive_the_kubelet() {
        let dir = tempfile::tempdir().unwrap();
        let was = (first(&table(dir.path()), "a"), dir.path().join("a"));
        assert_eq!(fs::read_dir(was.1).unwrap().count(), 1);
        let again = Users::open(dir.path().to_owned(), UNIT, 110).unwrap();
        assert_eq!([first(&again, "a"), first(&again, "b")], [was.0, 2 * UNIT]);
        let written = r#"{"uidMappings":[{"hostId":7,"containerId":0,"length":65536}],"gidMappings":[]}"#;
        fs::create_dir(dir.path().join("c")).unwrap();
        fs::write(dir.path().join("c").join(FILE), written).unwrap();
        let refused = Users::open(dir.path().to_owned(), UNIT, 110).err().unwrap();
        assert!(format!("{refused:#}").contains("GID and UID mapping should be identical"));
    }

    #[test]
    fn the_hosts_range_has_room_for_all_pods_and_not_root() {
        let range =
            |first, length| checked(Range { first, length, per_pod: UNIT }, 2).map_err(|error| error.to_string());
        assert!(range(UNIT, 2 * UNIT).is_ok());
        assert!(range(0, 2 * UNIT).unwrap_err().contains("must be greater or equal"));
        assert!(range(UNIT, UNIT).unwrap_err().contains("not enough to support 2 pods"));
        assert_eq!(parsed("0: kubelet 65536 7208960\n").unwrap(), (UNIT, 110 * UNIT));
    }
}
