//! Which user a container's process is: what the request says, else what the image says, read with the image's own
//! `/etc/passwd` and `/etc/group`.
//!
//! Must not know: where those texts were read.

use pintle_cri::v1::{LinuxContainerSecurityContext, SupplementalGroupsPolicy};

use crate::Invalid;

const FIELD: &str = "linux.security_context";
/// Entries beyond these are a hostile image's; the texts themselves the caller bounds.
const MAX_GROUPS: usize = 65_536;

/// The texts of the root file system's `/etc/passwd` and `/etc/group`; empty where it has none.
#[derive(Clone, Copy, Debug, Default)]
pub struct UserDatabase<'a> {
    pub passwd: &'a str,
    pub group: &'a str,
}

/// User and groups of a process; `groups` holds the primary group too, as `ContainerStatus.user` reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

impl<'a> UserDatabase<'a> {
    fn accounts(self) -> impl Iterator<Item = Account<'a>> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.trim().split(':');
            let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
            let uid = fields.nth(1)?.parse().ok()?;
            Some(Account { name, uid, gid: fields.next()?.parse().ok()? })
        })
    }

    /// Name, number and members of each group.
    fn groups(self) -> impl Iterator<Item = (&'a str, u32, &'a str)> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.trim().split(':');
            let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
            let gid = fields.nth(1)?.parse().ok()?;
            Some((name, gid, fields.next().unwrap_or_default()))
        })
    }

    fn named(self, name: &str) -> Result<Account<'a>, Invalid> {
        let unknown =
            || Invalid::new(user_field(), format!("no users found: {name:?} is not in the image's /etc/passwd"));
        self.accounts().find(|account| account.name == name).ok_or_else(unknown)
    }

    fn group_named(self, name: &str) -> Result<u32, Invalid> {
        let unknown =
            || Invalid::new(user_field(), format!("no groups found: {name:?} is not in the image's /etc/group"));
        self.groups().find(|(group, ..)| *group == name).map(|(_, gid, _)| gid).ok_or_else(unknown)
    }

    /// The groups that list a user, the group of the user's own name excepted.
    fn groups_of(self, user: &str) -> Vec<u32> {
        let lists = |members: &str| members.split(',').any(|member| member.trim() == user);
        let found = self.groups().filter(|(name, _, members)| *name != user && lists(members));
        found.map(|(_, gid, _)| gid).take(MAX_GROUPS).collect()
    }
}

fn user_field() -> String {
    format!("{FIELD}.run_as_user")
}

/// User and groups of a container's process. `image_user` is the image's (`user`, `uid`, `user:group`, …; may be empty).
///
/// # Errors
/// A group without a user, a number out of range, a name the image does not know.
pub fn identity(
    context: &LinuxContainerSecurityContext,
    image_user: &str,
    users: UserDatabase<'_>,
) -> Result<Identity, Invalid> {
    let asked = asked_user(context)?;
    let text = asked.as_deref().unwrap_or(image_user);
    let (uid, gid) = resolve(text, users)?;
    let mut groups = match context.supplemental_groups_policy() {
        SupplementalGroupsPolicy::Merge => merged_groups(text, uid, users),
        SupplementalGroupsPolicy::Strict => Vec::new(),
    };
    groups.extend(supplemental(&context.supplemental_groups)?);
    Ok(Identity { uid, gid, groups: with_primary(gid, groups) })
}

/// The numbers a sandbox's own process runs as: it has no names, no image groups.
pub(crate) fn sandbox_identity(
    user: Option<i64>,
    group: Option<i64>,
    supplemental_groups: &[i64],
) -> Result<Identity, Invalid> {
    let field = format!("{FIELD}.run_as_group");
    let (uid, gid) = match (user, group) {
        (None, Some(group)) => {
            return Err(Invalid::new(field, format!("user group {:?} is specified without user", group.to_string())));
        }
        (user, group) => (number(&user_field(), user.unwrap_or(0))?, number(&field, group.unwrap_or(0))?),
    };
    Ok(Identity { uid, gid, groups: with_primary(gid, supplemental(supplemental_groups)?) })
}

/// The user the request asks for, in the image's own form (`name`, `uid`, `uid:gid`).
fn asked_user(context: &LinuxContainerSecurityContext) -> Result<Option<String>, Invalid> {
    let number = context.run_as_user.as_ref().map(|user| user.value.to_string());
    let user = Some(context.run_as_username.clone()).filter(|name| !name.is_empty()).or(number);
    match (user, context.run_as_group.as_ref().map(|group| group.value.to_string())) {
        (None, Some(group)) => {
            let reason = format!("user group {group:?} is specified without user");
            Err(Invalid::new(format!("{FIELD}.run_as_group"), reason))
        }
        (Some(user), Some(group)) => Ok(Some(format!("{user}:{group}"))),
        (user, None) => Ok(user),
    }
}

fn resolve(text: &str, users: UserDatabase<'_>) -> Result<(u32, u32), Invalid> {
    if text.is_empty() {
        return Ok((0, 0));
    }
    let mut parts = text.split(':');
    match (parts.next().unwrap_or_default(), parts.next(), parts.next()) {
        (user, None, None) => alone(text, user, users),
        (user, Some(group), None) => Ok((uid_of(text, user, users)?, gid_of(text, group, users)?)),
        _ => Err(Invalid::new(user_field(), format!("invalid USER value {text}"))),
    }
}

/// A user without a group has the group that `/etc/passwd` gives; a number that is not there has group 0.
fn alone(text: &str, user: &str, users: UserDatabase<'_>) -> Result<(u32, u32), Invalid> {
    let Some(uid) = parse(text, user, "uid")? else {
        return users.named(user).map(|account| (account.uid, account.gid));
    };
    Ok((uid, users.accounts().find(|account| account.uid == uid).map_or(0, |account| account.gid)))
}

fn uid_of(text: &str, user: &str, users: UserDatabase<'_>) -> Result<u32, Invalid> {
    match parse(text, user, "uid")? {
        Some(uid) => Ok(uid),
        None => users.named(user).map(|account| account.uid),
    }
}

fn gid_of(text: &str, group: &str, users: UserDatabase<'_>) -> Result<u32, Invalid> {
    match parse(text, group, "gid")? {
        Some(gid) => Ok(gid),
        None => users.group_named(group),
    }
}

/// A number, or `None` for a name. OCI runtimes know numbers up to 2³¹-1.
fn parse(text: &str, part: &str, what: &str) -> Result<Option<u32>, Invalid> {
    let digits = part.strip_prefix(['-', '+']).unwrap_or(part);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    let number = part.parse::<i32>().ok().and_then(|number| u32::try_from(number).ok());
    number
        .map(Some)
        .ok_or_else(|| Invalid::new(user_field(), format!("invalid USER value {text:?}: {what} out of range")))
}

fn merged_groups(text: &str, uid: u32, users: UserDatabase<'_>) -> Vec<u32> {
    let user = text.split(':').next().unwrap_or_default();
    let is_number = user.is_empty() || user.bytes().all(|byte| byte.is_ascii_digit());
    let name = if is_number {
        users.accounts().find(|account| account.uid == uid).map(|found| found.name)
    } else {
        Some(user)
    };
    name.map(|name| users.groups_of(name)).unwrap_or_default()
}

fn supplemental(groups: &[i64]) -> Result<Vec<u32>, Invalid> {
    groups.iter().map(|group| number(&format!("{FIELD}.supplemental_groups"), *group)).collect()
}

fn number(field: &str, value: i64) -> Result<u32, Invalid> {
    let fits = i32::try_from(value).ok().and_then(|value| u32::try_from(value).ok());
    fits.ok_or_else(|| Invalid::new(field, format!("{value} is out of range, 0 to {} are allowed", i32::MAX)))
}

/// Sorted, each once, the primary group first unless it is listed.
fn with_primary(gid: u32, mut groups: Vec<u32>) -> Vec<u32> {
    groups.sort_unstable();
    groups.dedup();
    if !groups.contains(&gid) {
        groups.insert(0, gid);
    }
    groups
}

#[cfg(test)]
mod tests {
    use pintle_cri::v1::Int64Value;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nann:x:1000:50:Ann:/home/ann:/bin/sh\n# a comment\nbroken\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,ann\nstaff:x:50:\naudio:x:63:bob, ann\nann:x:77:ann\n";
    const USERS: UserDatabase<'_> = UserDatabase { passwd: PASSWD, group: GROUP };

    fn who(context: LinuxContainerSecurityContext, image: &str) -> String {
        match identity(&context, image, USERS) {
            Ok(Identity { uid, gid, groups }) => format!("{uid}:{gid} {groups:?}"),
            Err(error) => error.to_string(),
        }
    }

    fn user(uid: i64) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext { run_as_user: Some(Int64Value { value: uid }), ..Default::default() }
    }

    fn named(name: &str) -> LinuxContainerSecurityContext {
        LinuxContainerSecurityContext { run_as_username: name.into(), ..Default::default() }
    }

    #[test]
    fn the_image_says_who_runs_when_the_request_does_not() {
        for (image, expected) in [
            ("", "0:0 [0, 10]"),
            ("ann", "1000:50 [50, 10, 63]"),
            ("1000", "1000:50 [50, 10, 63]"),
            ("1000:10", "1000:10 [10, 63]"),
            ("ann:wheel", "1000:10 [10, 63]"),
            ("4000", "4000:0 [0]"),
            ("4000:4001", "4000:4001 [4001]"),
            ("eve", "linux.security_context.run_as_user: no users found: \"eve\" is not in the image's /etc/passwd"),
            (
                "0:eves",
                "linux.security_context.run_as_user: no groups found: \"eves\" is not in the image's /etc/group",
            ),
            ("1:2:3", "linux.security_context.run_as_user: invalid USER value 1:2:3"),
            ("4294967296", "linux.security_context.run_as_user: invalid USER value \"4294967296\": uid out of range"),
            ("0:-1", "linux.security_context.run_as_user: invalid USER value \"0:-1\": gid out of range"),
        ] {
            assert_eq!(who(LinuxContainerSecurityContext::default(), image), expected, "{image:?}");
        }
    }

    #[test]
    fn the_request_overrides_the_image() {
        assert_eq!(who(user(4000), "ann:wheel"), "4000:0 [0]");
        assert_eq!(who(named("ann"), "root"), "1000:50 [50, 10, 63]");
        let group = Some(Int64Value { value: 3000 });
        assert_eq!(
            who(LinuxContainerSecurityContext { run_as_group: group, ..user(1000) }, ""),
            "1000:3000 [3000, 10, 63]"
        );
        assert_eq!(
            who(LinuxContainerSecurityContext { run_as_group: group, ..Default::default() }, "ann"),
            "linux.security_context.run_as_group: user group \"3000\" is specified without user"
        );
        assert_eq!(
            who(user(-1), ""),
            "linux.security_context.run_as_user: invalid USER value \"-1\": uid out of range"
        );
    }

    #[test]
    fn supplemental_groups_are_merged_with_the_images_or_strict() {
        let merge = LinuxContainerSecurityContext { supplemental_groups: vec![1234, 10, 1234], ..user(1000) };
        assert_eq!(who(merge.clone(), ""), "1000:50 [50, 10, 63, 1234]");
        let mut strict = merge;
        strict.set_supplemental_groups_policy(SupplementalGroupsPolicy::Strict);
        assert_eq!(who(strict.clone(), ""), "1000:50 [50, 10, 1234]");
        strict.supplemental_groups = vec![-5];
        assert_eq!(
            who(strict, ""),
            "linux.security_context.supplemental_groups: -5 is out of range, 0 to 2147483647 are allowed"
        );
    }

    #[test]
    fn an_image_without_user_files_knows_numbers_only() {
        let empty = UserDatabase::default();
        assert_eq!(identity(&user(7), "", empty).unwrap(), Identity { uid: 7, gid: 0, groups: vec![0] });
        assert!(identity(&named("ann"), "", empty).is_err());
    }
}
