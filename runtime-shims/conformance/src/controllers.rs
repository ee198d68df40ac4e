//! What this machine's kernel limits and counts: a demand that it cannot show is skipped, whatever the runtime.
//!
//! Must not know: any one demand, the runtime.

use std::collections::BTreeSet;
use std::path::Path;

use crate::demand::Skip;

/// The cgroup controllers that containers of this machine can have.
#[derive(Debug, Default)]
pub struct Controllers(BTreeSet<String>);

impl Controllers {
    /// Those of the one hierarchy of v2; beside v1 (a hybrid's v2 has none for containers) those that v1 has mounted.
    pub fn of_machine() -> Self {
        let read = |path: &str| std::fs::read_to_string(Path::new(path)).ok();
        match read("/sys/fs/cgroup/cgroup.controllers") {
            Some(listed) => Self(listed.split_whitespace().map(str::to_owned).collect()),
            None => Self::of_v1(&read("/proc/cgroups").unwrap_or_default()),
        }
    }

    /// Of the table in cgroups(7): name, hierarchy (0: no mounted one of v1), cgroups, enabled.
    fn of_v1(table: &str) -> Self {
        let lines = table.lines().filter(|line| !line.starts_with('#'));
        let has = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [name, hierarchy, _, "1"] if hierarchy != "0" => Some(name.to_owned()),
            _ => None,
        };
        Self(lines.filter_map(has).collect())
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains(name)
    }

    /// # Errors
    /// [`Skip`] where the kernel lacks one of them.
    pub fn need(&self, names: &[&str]) -> anyhow::Result<()> {
        match names.iter().find(|name| !self.has(name)) {
            Some(name) => Err(Skip(format!("the machine's cgroups have no controller {name}")).into()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn v1_has_the_controllers_that_are_enabled_and_mounted() {
        let table =
            "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t195\t1\nmemory\t4\t1\t0\nhugetlb\t0\t9\t1\n";
        let found = Controllers::of_v1(table);
        assert_eq!(["cpu", "memory", "hugetlb"].map(|name| found.has(name)), [true, false, false]);
    }

    #[test]
    fn what_is_lacking_is_the_reason_of_a_skip() {
        let found = Controllers(["cpu".to_owned(), "memory".to_owned()].into());
        assert!(found.need(&["memory", "cpu"]).is_ok());
        let reason = found.need(&["cpu", "cpuset"]).unwrap_err();
        assert_eq!(reason.downcast_ref::<Skip>().unwrap().0, "the machine's cgroups have no controller cpuset");
    }
}
