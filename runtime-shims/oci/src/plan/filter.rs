//! What a filter of a list call selects.
//!
//! Must not know: how lists are answered.

use std::collections::HashMap;

use pintle_cri::v1;

use crate::state::{Container, Sandbox};

/// Whether `labels` has every pair of `selector`.
fn selects(selector: &HashMap<String, String>, labels: &HashMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// An ID may be given by its beginning; an empty one selects all.
fn begins(id: &str, wanted: &str) -> bool {
    id.starts_with(wanted)
}

/// `PodSandboxFilter`.
pub fn sandbox(filter: Option<&v1::PodSandboxFilter>, sandbox: &Sandbox) -> bool {
    let Some(filter) = filter else { return true };
    let state = super::show::sandbox_state(sandbox);
    begins(&sandbox.id, &filter.id)
        && filter.state.as_ref().is_none_or(|wanted| wanted.state == i32::from(state))
        && selects(&filter.label_selector, &sandbox.config.labels)
}

/// `ContainerFilter`.
pub fn container(filter: Option<&v1::ContainerFilter>, container: &Container) -> bool {
    let Some(filter) = filter else { return true };
    begins(&container.id, &filter.id)
        && begins(&container.sandbox_id, &filter.pod_sandbox_id)
        && filter.state.as_ref().is_none_or(|wanted| wanted.state == container.state)
        && selects(&filter.label_selector, &container.config.labels)
}

/// `ContainerStatsFilter`.
pub fn container_stats(filter: Option<&v1::ContainerStatsFilter>, container: &Container) -> bool {
    let Some(filter) = filter else { return true };
    begins(&container.id, &filter.id)
        && begins(&container.sandbox_id, &filter.pod_sandbox_id)
        && selects(&filter.label_selector, &container.config.labels)
}

/// `PodSandboxStatsFilter`.
pub fn sandbox_stats(filter: Option<&v1::PodSandboxStatsFilter>, sandbox: &Sandbox) -> bool {
    let Some(filter) = filter else { return true };
    begins(&sandbox.id, &filter.id) && selects(&filter.label_selector, &sandbox.config.labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_container_is_selected_by_everything_that_is_given() {
        let config = v1::ContainerConfig { labels: labels(&[("app", "web"), ("tier", "1")]), ..Default::default() };
        let it = Container { id: "abc".into(), sandbox_id: "def".into(), config, state: 1, ..Container::default() };
        let state = |state| Some(v1::ContainerStateValue { state });
        let filter = |id: &str, pod: &str, state, pairs: &[(&str, &str)]| v1::ContainerFilter {
            id: id.into(),
            pod_sandbox_id: pod.into(),
            state,
            label_selector: labels(pairs),
        };
        assert!(container(None, &it));
        assert!(container(Some(&filter("a", "de", state(1), &[("app", "web")])), &it));
        for no in [
            filter("b", "", None, &[]),
            filter("", "x", None, &[]),
            filter("", "", state(2), &[]),
            filter("", "", None, &[("app", "db")]),
            filter("", "", None, &[("zone", "")]),
        ] {
            assert!(!container(Some(&no), &it), "{no:?}");
        }
    }
}
