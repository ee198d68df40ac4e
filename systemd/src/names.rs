//! How systemd names slices and scopes, and where it puts their cgroups. Pure.
//!
//! Source: systemd.slice(5), and how runc's and the kubelet's systemd drivers use it.
//! Must not know: D-Bus.

/// The name of a nested slice, `kubepods-burstable-pod1_2.slice`: the parts joined by dashes, their own dashes replaced,
/// as the kubelet does it. No parts are the root slice.
pub fn slice<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let parts: Vec<String> = parts.into_iter().map(|part| part.replace('-', "_")).collect();
    if parts.is_empty() { "-.slice".to_owned() } else { format!("{}.slice", parts.join("-")) }
}

/// The slice above one: `kubepods.slice` of `kubepods-burstable.slice`, `-.slice` of a top one.
pub fn parent(slice: &str) -> String {
    let stem = slice.strip_suffix(".slice").unwrap_or(slice);
    stem.rsplit_once('-').map_or_else(|| "-.slice".to_owned(), |(above, _)| format!("{above}.slice"))
}

/// Where a slice's cgroup is below the hierarchy's root: `/a.slice/a-b.slice` of `a-b.slice`. A path before the name is
/// left away; `None` for what is no slice's name.
pub fn slice_path(slice: &str) -> Option<String> {
    let name = slice.trim_end_matches('/').rsplit('/').next()?;
    let stem = name.strip_suffix(".slice")?;
    if stem == "-" {
        return Some(String::new());
    }
    let mut path = String::new();
    for (end, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
        let above = stem.get(..end)?;
        if above.is_empty() || above.ends_with('-') {
            return None;
        }
        path.push('/');
        path.push_str(above);
        path.push_str(".slice");
    }
    Some(path)
}

/// A container's scope, as OCI's `cgroupsPath` names it under a systemd driver: `slice:prefix:name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    pub slice: String,
    pub unit: String,
}

impl Scope {
    /// `None` for what has not this form. As in runc, no slice is `system.slice`, and a name that is a slice itself is
    /// refused.
    pub fn parse(cgroups_path: &str) -> Option<Scope> {
        let mut parts = cgroups_path.split(':');
        let (slice, prefix, name) = (parts.next()?, parts.next()?, parts.next()?);
        let plain = |text: &str| !text.is_empty() && !text.contains('/') && !text.ends_with(".slice");
        if parts.next().is_some() || !plain(name) || prefix.contains('/') {
            return None;
        }
        let slice = if slice.is_empty() { "system.slice" } else { slice };
        slice_path(slice).filter(|_| !slice.contains('/'))?;
        let unit = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
        Some(Scope { slice: slice.to_owned(), unit })
    }

    /// Where its cgroup is below the hierarchy's root.
    pub fn path(&self) -> String {
        format!("{}/{}", slice_path(&self.slice).unwrap_or_default(), self.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_named_by_their_parts_and_nested_by_their_names() {
        let pod = slice(["kubepods", "burstable", "pod1-2"]);
        assert_eq!(pod, "kubepods-burstable-pod1_2.slice");
        let path = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice";
        assert_eq!(slice_path(&pod).as_deref(), Some(path));
        assert_eq!(slice_path(path).as_deref(), Some(path));
        assert_eq!(parent(&pod), "kubepods-burstable.slice");
        assert_eq!(parent("kubepods.slice"), "-.slice");
        assert_eq!((slice([]), slice_path("-.slice")), ("-.slice".into(), Some(String::new())));
        for bad in ["kubepods", ".slice", "a--b.slice", "-a.slice", "a-.slice", ""] {
            assert_eq!(slice_path(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_scope_is_its_slice_prefix_and_name() {
        let scope = Scope::parse("kubepods-podX.slice:cri-pintle:ID").unwrap();
        assert_eq!(scope.unit, "cri-pintle-ID.scope");
        assert_eq!(scope.path(), "/kubepods.slice/kubepods-podX.slice/cri-pintle-ID.scope");
        assert_eq!(Scope::parse(":p:n").unwrap().path(), "/system.slice/p-n.scope");
        for bad in [
            "/a/b",
            "a:b",
            "a:b:c",
            "a.slice:b:c:d",
            "a.slice:b:",
            "a.slice:b:c/d",
            "x/a.slice:b:c",
            "a.slice:b:c.slice",
        ] {
            assert_eq!(Scope::parse(bad), None, "{bad}");
        }
    }
}
