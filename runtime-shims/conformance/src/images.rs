//! The images that the suite carries itself.
//!
//! Must not know: how a runtime comes by them.

use std::io::Write as _;

use pintle_cri::archive::{Blob, Entry, Image, ImageConfig, layer};
use serde_json::json;

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
/// As [`TOOLS`], ended by SIGUSR1.
pub const STOP_SIGNAL: &str = "stop-signal";
/// As [`TOOLS`], its layer compressed.
pub const COMPRESSED: &str = "compressed";
/// One tag that stands for first one image, then the other.
pub const MOVED: &str = "moved";
pub const MOVED_LATER: &str = "moved-later";
/// An index of images for several platforms, of which [`TOOLS`] is this machine's.
pub const INDEX: &str = "index";
/// An index without this machine's platform.
pub const ELSEWHERE: &str = "elsewhere";
/// What is served for its layer is not what its manifest says.
pub const FORGED: &str = "forged";
/// Its manifest is no JSON.
pub const GARBLED: &str = "garbled";
/// Images that tests pull and remove themselves.
pub const BY_TAG: &str = "by-tag";
pub const BY_DIGEST: &str = "by-digest";
pub const REMOVED: &str = "removed";
pub const REMOVED_BY_ID: &str = "removed-by-id";

/// Those that are pulled before the first test.
pub const FOR_ALL: [&str; 5] = [TOOLS, NAMED_USER, NUMBERED_USER, LAYERED, STOP_SIGNAL];

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A name, what its tag stands for, and all that this is made of.
#[derive(Debug)]
pub struct Served {
    pub name: &'static str,
    pub manifest: Blob,
    pub blobs: Vec<Blob>,
}

impl Served {
    fn image(name: &'static str, image: Image) -> Self {
        let blobs = image.layers.into_iter().chain([image.config]).collect();
        Self { name, manifest: image.manifest, blobs }
    }
}

/// Every image.
pub fn all() -> Vec<Served> {
    let whole = plain().into_iter().map(|(name, image)| Served::image(name, image));
    let special = [compressed(), index(INDEX, true), index(ELSEWHERE, false), forged(), garbled()];
    whole.chain(special).collect()
}

fn plain() -> Vec<(&'static str, Image)> {
    let tools = || vec![tools_layer()];
    let as_user = |user: &str| ImageConfig { user: user.into(), ..config(TOOLS) };
    let stopped_by = |signal: &str| ImageConfig { stop_signal: signal.into(), ..config(STOP_SIGNAL) };
    vec![
        (TOOLS, Image::build(&config(TOOLS), tools())),
        (NAMED_USER, Image::build(&as_user("tester"), tools())),
        (NUMBERED_USER, Image::build(&as_user("4321:4322"), tools())),
        (LAYERED, Image::build(&config(LAYERED), layered())),
        (BY_TAG, Image::build(&config(BY_TAG), tools())),
        (BY_DIGEST, Image::build(&config(BY_DIGEST), tools())),
        (REMOVED, Image::build(&config(REMOVED), tools())),
        (REMOVED_BY_ID, Image::build(&config(REMOVED_BY_ID), tools())),
        (STOP_SIGNAL, Image::build(&stopped_by("SIGUSR1"), tools())),
        (MOVED, Image::build(&config(MOVED), tools())),
        (MOVED_LATER, Image::build(&config(MOVED_LATER), tools())),
    ]
}

fn manifest(config: &Blob, layers: &[&Blob]) -> Blob {
    let layers: Vec<_> = layers.iter().map(|layer| &layer.descriptor).collect();
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let text = json!({ "schemaVersion": 2, "mediaType": media_type, "config": config.descriptor, "layers": layers });
    Blob::new(media_type, text.to_string().into_bytes())
}

fn compressed() -> Served {
    let plain = Image::build(&config(COMPRESSED), vec![tools_layer()]);
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // into memory, which takes all
    let _ = writer.write_all(plain.layers.first().map_or(&[], |layer| &layer.bytes));
    let bytes = writer.finish().unwrap_or_default();
    let layer = Blob::new("application/vnd.oci.image.layer.v1.tar+gzip", bytes);
    Served { name: COMPRESSED, manifest: manifest(&plain.config, &[&layer]), blobs: vec![layer, plain.config] }
}

fn index(name: &'static str, here: bool) -> Served {
    let image = Image::build(&config(INDEX), vec![tools_layer()]);
    let of = |architecture: &str, os: &str| {
        let mut entry = json!(image.manifest.descriptor);
        if let Some(entry) = entry.as_object_mut() {
            entry.insert("platform".into(), json!({ "architecture": architecture, "os": os }));
        }
        entry
    };
    let this = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    let mut manifests = vec![of("s390x", "plan9"), of("mips64le", "windows")];
    manifests.extend(here.then(|| of(this, "linux")));
    let text = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests });
    let manifest = Blob::new(OCI_INDEX, text.to_string().into_bytes());
    let blobs = image.layers.into_iter().chain([image.config, image.manifest]).collect();
    Served { name, manifest, blobs }
}

fn forged() -> Served {
    let mut served = Served::image(FORGED, Image::build(&config(FORGED), vec![layer(&[Entry::directory("a", 0o755)])]));
    if let Some(byte) = served.blobs.first_mut().and_then(|layer| layer.bytes.first_mut()) {
        *byte ^= 1;
    }
    served
}

fn garbled() -> Served {
    let manifest = Blob::new("application/vnd.oci.image.manifest.v1+json", b"{\"schemaVersion\":2,".to_vec());
    Served { name: GARBLED, manifest, blobs: Vec::new() }
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
