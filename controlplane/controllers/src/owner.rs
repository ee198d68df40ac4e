//! Who controls an object, and what an owner does about an object that matches its selector or no longer does.
//!
//! Must not know: the API, clocks, any one controller.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::Resource;
use kube::core::{Selector, SelectorExt};
use pintle_client::{Change, ObjectKey, Reflector};

/// The reference to the one owner that manages an object.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether `owner` is that owner, by UID.
pub fn is_controlled_by(meta: &ObjectMeta, owner: &ObjectMeta) -> bool {
    controller_of(meta).is_some_and(|reference| Some(&reference.uid) == owner.uid.as_ref())
}

/// The reference by which `owner` manages what it creates.
pub fn controller_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    let meta = owner.meta();
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// A label selector ready to match. None: it is absent or cannot be parsed, and matches nothing.
pub fn selector(selector: Option<&LabelSelector>) -> Option<Selector> {
    Selector::try_from(selector?.clone()).ok()
}

pub fn matches(selector: &Selector, labels: Option<&BTreeMap<String, String>>) -> bool {
    match labels {
        Some(labels) => selector.matches(labels),
        None => selector.matches(&BTreeMap::new()),
    }
}

/// What an owner does about an object of the kind it manages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It is the owner's.
    Keep,
    /// It matches and nobody manages it.
    Adopt,
    /// It is the owner's and matches no longer.
    Release,
    Ignore,
}

/// As upstream's controller reference manager decides.
pub fn claim(owner: &ObjectMeta, selector: &Selector, object: &ObjectMeta) -> Claim {
    let matching = || matches(selector, object.labels.as_ref());
    let owner_going = owner.deletion_timestamp.is_some();
    match controller_of(object) {
        Some(reference) if Some(&reference.uid) != owner.uid.as_ref() => Claim::Ignore,
        Some(_) if matching() => Claim::Keep,
        Some(_) if owner_going => Claim::Ignore,
        Some(_) => Claim::Release,
        None if owner_going || object.deletion_timestamp.is_some() || !matching() => Claim::Ignore,
        None => Claim::Adopt,
    }
}

/// The owner references of an object after it was adopted (`Some`) or released (`None`).
pub fn references_after(object: &ObjectMeta, owner_uid: &str, adopter: Option<OwnerReference>) -> Vec<OwnerReference> {
    let others = object.owner_references.iter().flatten().filter(|reference| reference.uid != owner_uid);
    others.cloned().chain(adopter).collect()
}

/// The finalizers of an object after it was adopted or released by an owner that marks what is its own with `mark`.
pub fn finalizers_after(object: &ObjectMeta, mark: &str, adopted: bool) -> Vec<String> {
    let others = object.finalizers.iter().flatten().filter(|finalizer| *finalizer != mark);
    others.cloned().chain(adopted.then(|| mark.to_owned())).collect()
}

/// The owners that a change of an object concerns: those that manage it before or after; of an object that nobody
/// manages, those whose selector matches.
pub fn concerned<O, K>(
    change: &Change<O>,
    owners: &Reflector<K>,
    of: fn(&K) -> Option<&LabelSelector>,
) -> Vec<ObjectKey>
where
    O: Resource,
    K: Resource<DynamicType = ()>,
{
    let mut keys = Vec::new();
    if let Change::Modified { old, .. } = change {
        keys.extend(manager(old.meta(), owners));
    }
    let meta = change.object().meta();
    match controller_of(meta) {
        Some(_) => keys.extend(manager(meta, owners)),
        None if matches!(change, Change::Deleted(_)) => {}
        None => keys.extend(matching(meta, owners, of)),
    }
    keys.dedup();
    keys
}

fn manager<K: Resource<DynamicType = ()>>(meta: &ObjectMeta, _owners: &Reflector<K>) -> Option<ObjectKey> {
    let reference = controller_of(meta)?;
    let same_kind = reference.kind == K::kind(&()) && group(&reference.api_version) == K::group(&());
    same_kind.then(|| ObjectKey::new(meta.namespace.clone().unwrap_or_default(), &reference.name))
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

fn matching<K: Resource>(
    meta: &ObjectMeta,
    owners: &Reflector<K>,
    of: fn(&K) -> Option<&LabelSelector>,
) -> Vec<ObjectKey> {
    let candidates = owners.list_namespace(meta.namespace.as_deref().unwrap_or_default());
    let wants = |owner: &K| selector(of(owner)).is_some_and(|selector| matches(&selector, meta.labels.as_ref()));
    candidates.iter().filter(|owner| wants(owner)).map(|owner| ObjectKey::of(owner.as_ref())).collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;

    use super::*;

    fn meta(uid: &str, app: &str, owner: Option<&str>, going: bool) -> ObjectMeta {
        let reference =
            |uid: &str| OwnerReference { uid: uid.into(), controller: Some(true), ..OwnerReference::default() };
        ObjectMeta {
            uid: Some(uid.into()),
            labels: Some([("app".to_owned(), app.to_owned())].into()),
            owner_references: owner.map(|uid| vec![reference(uid)]),
            deletion_timestamp: going.then_some(Time(Timestamp::UNIX_EPOCH)),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn an_owner_keeps_adopts_releases_or_ignores() {
        let selector = Selector::from_iter([("app", "web")]);
        let table = [
            ("web", Some("o"), false, false, Claim::Keep),
            ("web", Some("o"), true, true, Claim::Keep),
            ("db", Some("o"), false, false, Claim::Release),
            ("db", Some("o"), false, true, Claim::Ignore),
            ("web", Some("other"), false, false, Claim::Ignore),
            ("web", None, false, false, Claim::Adopt),
            ("web", None, true, false, Claim::Ignore),
            ("web", None, false, true, Claim::Ignore),
            ("db", None, false, false, Claim::Ignore),
        ];
        for (app, owner, object_going, owner_going, expected) in table {
            let object = meta("p", app, owner, object_going);
            let decided = claim(&meta("o", "", None, owner_going), &selector, &object);
            assert_eq!(decided, expected, "{app} {owner:?} {object_going} {owner_going}");
        }
    }

    #[test]
    fn releasing_keeps_other_owners() {
        let mut object = meta("p", "web", Some("o"), false);
        object.owner_references.as_mut().unwrap().push(OwnerReference { uid: "q".into(), ..OwnerReference::default() });
        let left: Vec<String> = references_after(&object, "o", None).into_iter().map(|owner| owner.uid).collect();
        assert_eq!(left, ["q"]);
    }

    #[test]
    fn what_is_released_loses_the_mark_that_what_is_adopted_gets() {
        let meta = ObjectMeta { finalizers: Some(vec!["mark".into(), "other".into()]), ..ObjectMeta::default() };
        assert_eq!(finalizers_after(&meta, "mark", false), ["other"]);
        assert_eq!(finalizers_after(&meta, "mark", true), ["other", "mark"]);
        assert_eq!(finalizers_after(&ObjectMeta::default(), "mark", true), ["mark"]);
    }
}
