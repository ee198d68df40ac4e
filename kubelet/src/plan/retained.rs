//! Which dead containers and sandboxes of a living pod are kept: upstream's container garbage collection with its
//! defaults (one dead instance per container, the newest sandbox).
//!
//! Must not know: how they are removed.

use std::collections::BTreeSet;

use super::seen::{Container, Sandbox, Seen, State};

/// Dead instances kept beside the living one, so that `logs --previous` has something to read.
const KEPT_DEAD: usize = 1;

/// Containers to remove: dead ones beyond the newest of their name.
pub fn surplus_containers(seen: &Seen) -> Vec<&Container> {
    let names: BTreeSet<&str> = seen.containers.iter().map(|container| container.name.as_str()).collect();
    let dead = |name: &str| {
        let of_name = seen.containers.iter().filter(move |container| container.name == name);
        of_name.filter(|container| container.state == State::Exited).skip(KEPT_DEAD).collect::<Vec<_>>()
    };
    names.into_iter().flat_map(dead).collect()
}

/// Sandboxes to remove: not ready, not the newest, and without containers.
pub fn surplus_sandboxes(seen: &Seen) -> Vec<&Sandbox> {
    let used = |sandbox: &Sandbox| seen.containers.iter().any(|container| container.sandbox_id == sandbox.id);
    seen.sandboxes.iter().skip(1).filter(|sandbox| !sandbox.ready && !used(sandbox)).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{container, sandbox, seen};
    use super::*;

    #[test]
    fn the_newest_dead_instance_and_the_newest_sandbox_stay() {
        let mut older = container("a", "i", State::Exited, 1);
        older.id = "a-older".into();
        let all = seen(
            vec![sandbox(1, true), sandbox(9, false)],
            vec![container("a", "i", State::Running, 0), container("a", "i", State::Exited, 1), older],
        );
        assert_eq!(surplus_containers(&all).iter().map(|c| c.id.as_str()).collect::<Vec<_>>(), ["a-older"]);
        assert_eq!(surplus_sandboxes(&all).iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["s9"]);
    }
}
