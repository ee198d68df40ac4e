//! Objects in key order, with snapshots that cost one reference and stop no writer.
//!
//! Chunks of references behind shared pointers: a write copies its chunk, and the list of chunks, only where a
//! snapshot still looks at them. Must not know: revisions, watchers.

use std::sync::Arc;

use super::Stored;

/// A chunk is halved when it grows beyond this.
const CHUNK: usize = 128;

type Chunk = Arc<Vec<Arc<Stored>>>;

/// Objects by key. Cloning it takes a snapshot. No chunk is ever empty.
#[derive(Clone, Default)]
pub struct Ordered {
    chunks: Arc<Vec<Chunk>>,
}

fn key_of(chunk: &Chunk) -> &str {
    chunk.first().map_or("", |object| &object.key)
}

impl Ordered {
    /// The chunk where `key` is, or would go.
    fn chunk(&self, key: &str) -> usize {
        self.chunks.partition_point(|chunk| key_of(chunk) <= key).saturating_sub(1)
    }

    pub fn get(&self, key: &str) -> Option<&Arc<Stored>> {
        let chunk = self.chunks.get(self.chunk(key))?;
        let at = chunk.binary_search_by(|object| (*object.key).cmp(key)).ok()?;
        chunk.get(at)
    }

    /// What stood at the object's key before.
    pub fn insert(&mut self, object: Arc<Stored>) -> Option<Arc<Stored>> {
        let at = self.chunk(&object.key);
        let chunks = Arc::make_mut(&mut self.chunks);
        let Some(shared) = chunks.get_mut(at) else {
            chunks.push(Arc::new(vec![object]));
            return None;
        };
        let chunk = Arc::make_mut(shared);
        match chunk.binary_search_by(|other| other.key.cmp(&object.key)) {
            Ok(found) => chunk.get_mut(found).map(|slot| std::mem::replace(slot, object)),
            Err(place) => {
                chunk.insert(place, object);
                if chunk.len() > CHUNK {
                    let upper = chunk.split_off(split_at(place, chunk.len()));
                    chunk.shrink_to_fit();
                    chunks.insert(at + 1, Arc::new(upper));
                }
                None
            }
        }
    }

    pub fn remove(&mut self, key: &str) -> Option<Arc<Stored>> {
        let at = self.chunk(key);
        let found = self.chunks.get(at)?.binary_search_by(|object| (*object.key).cmp(key)).ok()?;
        let chunks = Arc::make_mut(&mut self.chunks);
        let chunk = Arc::make_mut(chunks.get_mut(at)?);
        let removed = chunk.remove(found);
        if chunk.is_empty() {
            chunks.remove(at);
        }
        Some(removed)
    }

    pub fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.len()).sum()
    }

    /// The objects whose keys start with `prefix`, in key order, those after `after` if given.
    pub fn iter<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> impl Iterator<Item = &'a Arc<Stored>> {
        let start = after.filter(|after| *after > prefix).unwrap_or(prefix);
        let chunks = self.chunks.get(self.chunk(start)..).unwrap_or_default();
        chunks
            .iter()
            .flat_map(|chunk| chunk.iter())
            .skip_while(move |object| *object.key < *start || after.is_some_and(|after| *object.key <= *after))
            .take_while(move |object| object.key.starts_with(prefix))
    }
}

/// Objects that come in key order fill their chunks instead of leaving halves behind.
fn split_at(place: usize, len: usize) -> usize {
    if place + 1 == len { len - 1 } else { len / 2 }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn object(key: &str, revision: u64) -> Arc<Stored> {
        let json = bytes::Bytes::from_static(b"{\"metadata\":{}}");
        Arc::new(Stored::new(key.into(), revision, &json, None))
    }

    proptest! {
        /// It answers what a `BTreeMap` answers, and a snapshot keeps answering what it did.
        #[test]
        fn it_is_a_sorted_map_with_snapshots(
            steps in prop::collection::vec((0u16..400, any::<bool>()), 0..1500),
            ask in 0u16..400,
        ) {
            let key = |n: u16| format!("/registry/core/pods/{n:04}");
            let (mut map, mut model) = (Ordered::default(), BTreeMap::new());
            let (mut snapshot, mut then) = (map.clone(), model.clone());
            for (at, (n, put)) in steps.iter().enumerate() {
                let key = key(*n);
                if *put {
                    let before = map.insert(object(&key, at as u64)).map(|object| object.revision);
                    prop_assert_eq!(before, model.insert(key, at as u64));
                } else {
                    prop_assert_eq!(map.remove(&key).map(|object| object.revision), model.remove(&key));
                }
                if at == 700 {
                    (snapshot, then) = (map.clone(), model.clone());
                }
            }
            for (map, model) in [(&map, &model), (&snapshot, &then)] {
                let all = map.iter("/registry/", None).map(|object| (object.key.to_string(), object.revision));
                prop_assert_eq!(all.collect::<BTreeMap<_, _>>(), model.clone());
                let after = key(ask);
                let rest: Vec<_> = map.iter("/registry/", Some(&after)).map(|object| object.revision).collect();
                let expected: Vec<_> =
                    model.iter().filter(|(key, _)| **key > after).map(|(_, revision)| *revision).collect();
                prop_assert_eq!(rest, expected);
                prop_assert_eq!(map.get(&after).map(|object| object.revision), model.get(&after).copied());
            }
        }
    }
}
