//! The images that the suite carries itself.
//!
//! Must not know: how a runtime comes by them.

use pintle_cri::archive::{Entry, Image, ImageConfig, layer};

/// The static program that every image holds; see `program/main.rs`.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/program"));
pub const PROGRAM_PATH: &str = "/program";

const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\ntester:x:1234:1235:tester:/:/bin/sh\n";
const GROUP: &[u8] = b"root:x:0:\ntester:x:1235:\nextra:x:1236:tester\n";

/// What most tests run: the program, users, an environment, a working directory.
pub const TOOLS: &str = "tools";
/// As [`TOOLS`], with a user by name.
pub const NAMED_USER: &str = "named-user";
/// As [`TOOLS`], with a user by number.
pub const NUMBERED_USER: &str = "numbered-user";
/// Three layers that replace and remove each other's files.
pub const LAYERED: &str = "layered";
/// Images that tests pull and remove themselves.
pub const BY_TAG: &str = "by-tag";
pub const BY_DIGEST: &str = "by-digest";
pub const REMOVED: &str = "removed";

/// Those that are pulled before the first test.
pub const FOR_ALL: [&str; 4] = [TOOLS, NAMED_USER, NUMBERED_USER, LAYERED];

/// Every image by its name.
pub fn all() -> Vec<(&'static str, Image)> {
    let tools = || vec![tools_layer()];
    let as_user = |user: &str| ImageConfig { user: user.into(), ..config(TOOLS) };
    vec![
        (TOOLS, Image::build(&config(TOOLS), tools())),
        (NAMED_USER, Image::build(&as_user("tester"), tools())),
        (NUMBERED_USER, Image::build(&as_user("4321:4322"), tools())),
        (LAYERED, Image::build(&config(LAYERED), layered())),
        (BY_TAG, Image::build(&config(BY_TAG), tools())),
        (BY_DIGEST, Image::build(&config(BY_DIGEST), tools())),
        (REMOVED, Image::build(&config(REMOVED), tools())),
    ]
}

fn config(name: &str) -> ImageConfig {
    ImageConfig {
        entrypoint: vec![PROGRAM_PATH.into()],
        cmd: vec!["args".into(), "from the image".into()],
        env: vec!["FROM_IMAGE=kept".into(), "REPLACED=by the image".into(), format!("IMAGE={name}")],
        working_dir: "/work".into(),
        ..ImageConfig::default()
    }
}

fn tools_layer() -> Vec<u8> {
    layer(&[
        Entry::file("program", 0o755, PROGRAM),
        Entry::directory("tmp", 0o1777),
        Entry::directory("work", 0o755),
        Entry::directory("etc", 0o755),
        Entry::file("etc/passwd", 0o644, PASSWD),
        Entry::file("etc/group", 0o644, GROUP),
    ])
}

fn layered() -> Vec<Vec<u8>> {
    let second = layer(&[
        Entry::directory("data", 0o755),
        Entry::file("data/replaced", 0o644, b"old"),
        Entry::file("data/removed", 0o644, b"old"),
        Entry::directory("emptied", 0o755),
        Entry::file("emptied/old", 0o644, b"old"),
    ]);
    let third = layer(&[
        Entry::directory("data", 0o755),
        Entry::file("data/replaced", 0o644, b"new"),
        Entry::file("data/.wh.removed", 0o644, b""),
        Entry::directory("emptied", 0o755),
        Entry::file("emptied/.wh..wh..opq", 0o644, b""),
        Entry::file("emptied/new", 0o644, b"new"),
    ]);
    vec![tools_layer(), second, third]
}
