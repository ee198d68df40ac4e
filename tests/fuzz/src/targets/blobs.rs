//! Images of blobs that name each other by digest, some of them changed before the next names them.
//!
//! Must not know: how blobs travel.

use pintle_cri::archive::{Entry, layer};
use pintle_images::Digest;
use serde_json::{Value, json};

use crate::{Dice, json, tar};

const MANIFESTS: &[&str] = &[
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "",
];
const INDEXES: &[&str] =
    &["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json", ""];
const CONFIGS: &[&str] =
    &["application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json", "x"];
const LAYERS: &[&str] = &[
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.oci.image.layer.v1.tar+encrypted",
];

/// Everything that was named.
#[derive(Debug, Default)]
pub(super) struct Blobs(pub Vec<(Digest, Vec<u8>)>);

/// An image by its parts.
pub(super) struct Image {
    /// A descriptor.
    pub manifest: Value,
    pub config: Digest,
    pub layers: Vec<Digest>,
}

/// Mostly the first.
fn kind(of: &[&'static str], dice: &mut Dice) -> &'static str {
    match dice.one_in(3) {
        true => of[dice.below(of.len())],
        false => of[0],
    }
}

fn platform() -> Value {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    json!({ "os": "linux", "architecture": architecture })
}

impl Blobs {
    fn keep(&mut self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.0.push((digest.clone(), bytes));
        digest
    }

    /// Its descriptor.
    fn blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let size = bytes.len();
        json!({ "mediaType": media_type, "digest": self.keep(bytes).as_str(), "size": size })
    }

    fn document(&mut self, media_type: &str, mut document: Value, dice: &mut Dice) -> Value {
        if dice.one_in(5) {
            json::mutate(&mut document, dice, 2);
        }
        self.blob(media_type, document.to_string().into_bytes())
    }

    pub fn image(&mut self, dice: &mut Dice) -> Image {
        let (mut diff_ids, mut descriptors) = (Vec::new(), Vec::new());
        for _ in 0..dice.below(3) {
            let tar = match dice.one_in(2) {
                true => layer(&[Entry::directory("d", 0o755), Entry::file("d/f", 0o644, b"text")]),
                false => tar::layer(dice, 4, "/etc"),
            };
            diff_ids.push(Digest::of(&tar).to_string());
            descriptors.push(self.blob(kind(LAYERS, dice), tar::packed(tar, dice)));
        }
        let of = |it: &Value| it["digest"].as_str().and_then(|it| it.parse().ok());
        let layers = descriptors.iter().filter_map(of).collect();
        let mut config = platform();
        config["config"] = json!({ "Env": ["A=b"], "User": "1:2", "Volumes": { "/data": {} } });
        config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
        let config = self.document(kind(CONFIGS, dice), config, dice);
        let own = of(&config).unwrap_or_else(|| Digest::of(b""));
        let media_type = kind(MANIFESTS, dice);
        let mut manifest = json!({ "schemaVersion": 2, "config": config, "layers": descriptors });
        if !media_type.is_empty() {
            manifest["mediaType"] = json!(media_type);
        }
        Image { manifest: self.document(media_type, manifest, dice), config: own, layers }
    }

    /// Descriptors in an index, or in indexes of indexes.
    pub fn index(&mut self, mut entries: Vec<Value>, dice: &mut Dice) -> Value {
        for entry in &mut entries {
            if dice.one_in(2) {
                entry["platform"] = platform();
            }
        }
        let media_type = kind(INDEXES, dice);
        let index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": entries });
        let index = self.document(media_type, index, dice);
        if dice.one_in(4) { self.index(vec![index], dice) } else { index }
    }
}
