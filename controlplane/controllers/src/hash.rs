//! Hashes that name templates: 32 bits in letters and digits that cannot form words and are safe in labels and names.
//! They need not equal upstream's: what belongs together is found by comparing templates, as upstream does.
//!
//! Must not know: what a template is for.

use serde::Serialize;

/// No vowels, no digits that look like letters (apimachinery, util/rand).
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The hash of a template, another one for every number of collisions met before.
pub fn of_template<T: Serialize>(template: &T, collisions: Option<i32>) -> String {
    // a type that cannot be serialized does not exist among the API's
    let mut bytes = serde_json::to_vec(template).unwrap_or_default();
    bytes.extend(collisions.iter().flat_map(|count| count.to_le_bytes()));
    encode(fnv1a(&bytes))
}

/// FNV-1a, 32 bits.
pub fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn encode(hash: u32) -> String {
    hash.to_string().bytes().map(|digit| char::from(ALPHABET[usize::from(digit) % ALPHABET.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_short_safe_and_depend_on_content_and_collisions() {
        let (a, b, c) = (of_template(&"a", None), of_template(&"b", None), of_template(&"a", Some(1)));
        assert!(a != b && a != c);
        assert!(a.len() <= 10 && a.bytes().all(|byte| ALPHABET.contains(&byte)));
        assert_eq!(fnv1a(b"foobar"), 0xbf9c_f968);
    }
}
