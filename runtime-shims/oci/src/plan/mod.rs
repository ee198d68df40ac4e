//! What is decided without looking: which transitions are legal, what a filter selects, how records are shown.
//!
//! Pure. Must not know: files, processes, clocks.

use oci_spec::runtime::LinuxIdMapping;
use pintle_bundle::UserMappings;

pub mod credentials;
pub mod filter;
pub mod lifecycle;
pub mod show;

/// An ID as containerd's: 64 hexadecimal digits of something random.
pub fn id(random: [u8; 32]) -> String {
    random.iter().fold(String::with_capacity(64), |mut id, byte| {
        for digit in [byte >> 4, byte & 15] {
            id.extend(char::from_digit(u32::from(digit), 16));
        }
        id
    })
}

/// Who on the host the root of a user namespace is: user and group. Without a mapping of it, the host's nobody.
pub fn root_of(users: &UserMappings) -> (u32, u32) {
    const NOBODY: u32 = 65_534;
    let of = |mappings: &[LinuxIdMapping]| {
        mappings.iter().find(|it| it.container_id() == 0).map_or(NOBODY, LinuxIdMapping::host_id)
    };
    (of(&users.uids), of(&users.gids))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_64_hexadecimal_digits() {
        let mut random = [0xab; 32];
        random[0] = 0x05;
        assert_eq!(id(random), format!("05{}", "ab".repeat(31)));
    }
}
