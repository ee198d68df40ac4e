//! Manifests and indexes as values: parsed, checked, and the one for a platform chosen.
//!
//! Must not know: where the bytes come from.

use std::collections::BTreeMap;

use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};

pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const SCHEMA_1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/vnd.docker.distribution.manifest.v1+json",
];
/// Longest manifest or configuration that is read, in bytes.
pub(crate) const LONGEST: u64 = 8 << 20;

/// A blob somewhere: what it is, its digest and its length.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: Digest,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.into(), digest, size, platform: None, annotations: None }
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub architecture: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// An image of one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

impl Manifest {
    /// Attestations and other artifacts have configurations of their own kinds.
    pub fn is_image(&self) -> bool {
        [DOCKER_CONFIG, OCI_CONFIG].contains(&self.config.media_type.as_str())
    }
}

/// An image that was found, with all that led to it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Found {
    pub manifest: Manifest,
    /// The manifest as it was written.
    pub bytes: Vec<u8>,
    /// The indexes on the way to it, the innermost first.
    pub indexes: Vec<Vec<u8>>,
}

impl Found {
    pub fn new(bytes: Vec<u8>, manifest: Manifest) -> Self {
        Self { manifest, bytes, indexes: Vec::new() }
    }

    /// The digest under which it was found: of the outermost index, else its own.
    pub fn target(&self) -> Digest {
        Digest::of(self.indexes.last().unwrap_or(&self.bytes))
    }

    /// Everything that was written about it.
    pub fn documents(&self) -> impl Iterator<Item = &[u8]> {
        [&self.bytes].into_iter().chain(&self.indexes).map(Vec::as_slice)
    }
}

/// What a reference may point at.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Document {
    Manifest(Manifest),
    /// Images of several platforms.
    Index(Vec<Descriptor>),
}

/// What every form has, read first so that the error can name the form.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    config: Option<serde_json::Value>,
    layers: Option<serde_json::Value>,
    manifests: Option<serde_json::Value>,
    fs_layers: Option<serde_json::Value>,
}

/// Reads a manifest or an index. Without a media type its fields tell which it is; a document that could be read as
/// either is refused (two readers would see two images under one digest).
pub(crate) fn parse(bytes: &[u8]) -> Result<Document> {
    if bytes.len() as u64 > LONGEST {
        return Err(Error::new(ErrorKind::Refused, format!("manifest of {} bytes is too long", bytes.len())));
    }
    let outline: Outline = json(bytes, "manifest")?;
    let media_type = outline.media_type.as_str();
    if SCHEMA_1.contains(&media_type) || outline.fs_layers.is_some() || outline.schema_version == 1 {
        let text = format!(
            "media type {:?} is not supported, please rebuild the image as {DOCKER_MANIFEST:?} or {OCI_MANIFEST:?}",
            if media_type.is_empty() { SCHEMA_1[0] } else { media_type }
        );
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    if outline.schema_version != 2 {
        let text = format!("manifest of schema version {} is not supported", outline.schema_version);
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    let (manifest, index) = (outline.layers.is_some() || outline.config.is_some(), outline.manifests.is_some());
    match media_type {
        _ if manifest && index => Err(corrupt("manifest has both layers and manifests")),
        DOCKER_MANIFEST | OCI_MANIFEST | "" if manifest => Ok(Document::Manifest(json(bytes, "manifest")?)),
        DOCKER_INDEX | OCI_INDEX | "" if index => Ok(Document::Index(list(outline.manifests)?)),
        DOCKER_MANIFEST | OCI_MANIFEST | DOCKER_INDEX | OCI_INDEX | "" => {
            Err(corrupt("manifest has neither layers nor manifests"))
        }
        other => Err(Error::new(ErrorKind::Unsupported, format!("manifest of media type {other:?} is not supported"))),
    }
}

/// What a document is that was read before: as it says, or as its fields do.
pub(crate) fn media_type(bytes: &[u8]) -> Result<&'static str> {
    let outline: Outline = json(bytes, "manifest")?;
    let known = [DOCKER_MANIFEST, OCI_MANIFEST, DOCKER_INDEX, OCI_INDEX];
    let default = if outline.manifests.is_some() { OCI_INDEX } else { OCI_MANIFEST };
    Ok(known.into_iter().find(|it| *it == outline.media_type).unwrap_or(default))
}

/// An index may name what this program cannot read (another digest algorithm, say): such entries are left out.
fn list(manifests: Option<serde_json::Value>) -> Result<Vec<Descriptor>> {
    match manifests {
        Some(serde_json::Value::Array(items)) => {
            Ok(items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect())
        }
        _ => Err(corrupt("index has no list of manifests")),
    }
}

/// The configuration of an image.
pub(crate) fn parse_config(bytes: &[u8]) -> Result<ImageConfiguration> {
    json(bytes, "image configuration")
}

fn json<T: serde::de::DeserializeOwned>(bytes: &[u8], what: &'static str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| corrupt(&format!("{what} is not valid: {error}")))
}

fn corrupt(text: &str) -> Error {
    Error::new(ErrorKind::Corrupt, text.to_owned())
}

/// A layer to have: its blob, and the digest of its uncompressed tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    pub blob: Descriptor,
    pub diff_id: Digest,
}

/// The layers of an image, lowest first, each with its diffID.
pub(crate) fn layers(manifest: &Manifest, config: &ImageConfiguration, most: usize) -> Result<Vec<Layer>> {
    let diff_ids = config.rootfs().diff_ids();
    let (blobs, named) = (manifest.layers.len(), diff_ids.len());
    if blobs != named {
        return Err(corrupt(&format!("mismatched image rootfs and manifest layers: {named} and {blobs}")));
    }
    if blobs > most {
        return Err(Error::new(ErrorKind::Refused, format!("image of {blobs} layers, at most {most} are accepted")));
    }
    let pairs = manifest.layers.iter().zip(diff_ids);
    pairs.map(|(blob, id)| layer(blob, id)).collect()
}

fn layer(blob: &Descriptor, diff_id: &str) -> Result<Layer> {
    if !is_layer(&blob.media_type) {
        let text = format!("layer {} of media type {:?} is not supported", blob.digest, blob.media_type);
        return Err(Error::new(ErrorKind::Unsupported, text));
    }
    Ok(Layer { blob: blob.clone(), diff_id: diff_id.parse()? })
}

/// Layers of tar; how it is compressed, their first bytes tell.
fn is_layer(media_type: &str) -> bool {
    let kind = ["application/vnd.docker.image.rootfs.", "application/vnd.oci.image.layer."];
    let Some(rest) = kind.iter().find_map(|it| media_type.strip_prefix(it)) else { return false };
    let form = ["diff.tar", "foreign.diff.tar", "v1.tar", "nondistributable.v1.tar"];
    let Some(compression) = form.iter().find_map(|it| rest.strip_prefix(it)) else { return false };
    matches!(compression, "" | ".gzip" | "+gzip" | ".zstd" | "+zstd")
}

/// This machine's platform, in OCI's (Go's) words.
pub(crate) fn this_platform() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", ""),
        "aarch64" => ("arm64", "v8"),
        "arm" => ("arm", "v7"),
        "x86" => ("386", ""),
        "powerpc64" => ("ppc64le", ""),
        other => (other, ""),
    };
    Platform { os: "linux".into(), architecture: architecture.into(), variant: variant.into() }
}

/// The entries of an index that this platform runs, the best first; entries that name no platform come last.
pub(crate) fn choose<'a>(entries: &'a [Descriptor], own: &Platform) -> Vec<&'a Descriptor> {
    let mut fitting: Vec<(u32, &Descriptor)> =
        entries.iter().filter_map(|entry| Some((rank(entry.platform.as_ref(), own)?, entry))).collect();
    fitting.sort_by_key(|(rank, _)| *rank);
    fitting.into_iter().map(|(_, entry)| entry).collect()
}

const UNNAMED: u32 = 100;

/// What this platform runs for another's sake (amd64 what is for 386, arm64 what is for arm) fits less well.
const FOREIGN: u32 = 50;

/// How well a platform fits, 0 best; nothing where it does not run. As containerd has it.
fn rank(platform: Option<&Platform>, own: &Platform) -> Option<u32> {
    let Some(platform) = platform else { return Some(UNNAMED) };
    if platform.os != own.os {
        return None;
    }
    let (architecture, variant) = normal(platform);
    let level = |variant: &str| variant.strip_prefix('v').and_then(|level| level.parse::<u32>().ok());
    match (architecture, own.architecture.as_str()) {
        ("arm", "arm") => level(&own.variant)?.checked_sub(level(variant)?),
        ("arm", "arm64") => Some(FOREIGN + 8_u32.checked_sub(level(variant)?)?),
        ("386", "amd64") => Some(FOREIGN),
        (its, ours) => (its == ours && variant == normal(own).1).then_some(0),
    }
}

/// Architecture and variant under the names that most use.
fn normal(platform: &Platform) -> (&str, &str) {
    match (platform.architecture.as_str(), platform.variant.as_str()) {
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
        ("aarch64", variant) => ("arm64", variant),
        ("i386", _) => ("386", ""),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        as_they_are => as_they_are,
    }
}

/// Whether an image is for this platform, by what it says of itself.
pub(crate) fn runs_on(config: &ImageConfiguration, own: &Platform) -> bool {
    let its = Platform {
        os: config.os().to_string(),
        architecture: config.architecture().to_string(),
        variant: config.variant().clone().unwrap_or_default(),
    };
    rank(Some(&its), own).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn descriptor(media_type: &str) -> serde_json::Value {
        json!({ "mediaType": media_type, "digest": format!("sha256:{}", "a".repeat(64)), "size": 3 })
    }

    fn entry(os: &str, architecture: &str, variant: &str) -> Descriptor {
        let mut entry: Descriptor = serde_json::from_value(descriptor(OCI_MANIFEST)).unwrap();
        entry.platform = Some(Platform { os: os.into(), architecture: architecture.into(), variant: variant.into() });
        entry
    }

    fn failure(document: serde_json::Value) -> (ErrorKind, String) {
        let error = parse(document.to_string().as_bytes()).unwrap_err();
        (error.kind(), error.to_string())
    }

    #[test]
    fn fields_tell_what_a_document_without_media_type_is() {
        let manifest = json!({ "schemaVersion": 2, "config": descriptor(OCI_CONFIG), "layers": [] });
        assert!(matches!(parse(manifest.to_string().as_bytes()).unwrap(), Document::Manifest(_)));
        let index = json!({ "schemaVersion": 2, "manifests": [descriptor(OCI_MANIFEST), { "digest": "md5:1" }] });
        let Document::Index(entries) = parse(index.to_string().as_bytes()).unwrap() else { panic!() };
        assert_eq!(entries.len(), 1);
    }

    #[test]
    fn what_is_not_supported_is_named() {
        let (kind, text) = failure(json!({ "schemaVersion": 1, "fsLayers": [] }));
        assert_eq!(kind, ErrorKind::Unsupported);
        assert!(text.contains("manifest.v1+prettyjws"), "{text}");
        let (kind, text) = failure(json!({ "schemaVersion": 2, "mediaType": "application/x", "layers": [] }));
        assert_eq!((kind, text.contains("application/x")), (ErrorKind::Unsupported, true));
        assert_eq!(failure(json!({ "schemaVersion": 3 })).0, ErrorKind::Unsupported);
        assert_eq!(failure(json!({ "schemaVersion": 2 })).0, ErrorKind::Corrupt);
        assert_eq!(failure(json!({ "schemaVersion": 2, "layers": [], "manifests": [] })).0, ErrorKind::Corrupt);
        assert_eq!(failure(json!("x")).0, ErrorKind::Corrupt);
    }

    #[test]
    fn layers_of_unknown_media_types_are_named() {
        for good in ["application/vnd.oci.image.layer.v1.tar+zstd", "application/vnd.docker.image.rootfs.diff.tar.gzip"]
        {
            assert!(is_layer(good), "{good}");
        }
        let manifest: Manifest = serde_json::from_value(json!({
            "schemaVersion": 2, "config": descriptor(OCI_CONFIG),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+encrypted")],
        }))
        .unwrap();
        let config = json!({ "architecture": "amd64", "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", "b".repeat(64))] } });
        let config = parse_config(config.to_string().as_bytes()).unwrap();
        let error = layers(&manifest, &config, 10).unwrap_err();
        assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("+encrypted"), "{error}");
        assert_eq!(layers(&manifest, &config, 0).unwrap_err().kind(), ErrorKind::Refused);
    }

    /// What of these entries a machine takes, the best first.
    fn taken(entries: &[&str], own: &str) -> Vec<String> {
        let split = |text: &str| {
            let mut parts = text.split('/').map(str::to_owned);
            [(); 3].map(|()| parts.next().unwrap_or_default())
        };
        let entries: Vec<Descriptor> = entries.iter().map(|it| split(it)).map(|[a, b, c]| entry(&a, &b, &c)).collect();
        let own = entry_platform(split(own));
        let shown = |it: &Platform| format!("{}/{}/{}", it.os, it.architecture, it.variant);
        let chosen = choose(&entries, &own).into_iter().filter_map(|it| it.platform.as_ref());
        chosen.map(|it| shown(it).trim_end_matches('/').to_owned()).collect()
    }

    fn entry_platform([os, architecture, variant]: [String; 3]) -> Platform {
        Platform { os, architecture, variant }
    }

    #[test]
    fn the_best_entry_for_a_platform_comes_first() {
        let arms = ["linux/arm/v6", "linux/arm/v7", "unknown/unknown", "linux/arm64/v8", "windows/arm/v7"];
        assert_eq!(taken(&arms, "linux/arm/v7"), ["linux/arm/v7", "linux/arm/v6"]);
        assert_eq!(taken(&arms, "linux/arm64/v8"), ["linux/arm64/v8", "linux/arm/v7", "linux/arm/v6"]);
        let intel = ["linux/386", "linux/amd64/v3", "linux/amd64/v2", "linux/x86_64", "linux/amd64/v1"];
        assert_eq!(taken(&intel, "linux/amd64"), ["linux/x86_64", "linux/amd64/v1", "linux/386"]);
        assert_eq!(taken(&["linux/aarch64", "linux/armhf"], "linux/arm64/v8"), ["linux/aarch64", "linux/armhf"]);
        assert!(taken(&["linux/amd64/v3", "linux/s390x"], "linux/amd64").is_empty());
    }

    #[test]
    fn a_configuration_as_docker_writes_it_is_read() {
        let config = json!({
            "architecture": "amd64", "os": "linux", "docker_version": "20.10", "container": "0", "variant": "v1",
            "created": "2023-05-18T22:34:17Z", "author": "", "container_config": { "Hostname": "x" },
            "config": {
                "Hostname": "", "User": "", "AttachStdin": false, "Tty": false, "Env": ["A=b"], "Cmd": ["sh"],
                "Image": "sha256:0", "Volumes": { "/data": {} }, "WorkingDir": "", "Entrypoint": null, "OnBuild": null,
                "Labels": null, "ExposedPorts": { "80/tcp": {} }, "StopSignal": "SIGQUIT", "Shell": ["sh"],
                "Healthcheck": { "Test": ["CMD", "true"], "Interval": 1 },
            },
            "history": [{ "created": "2023-05-18T22:34:17Z", "created_by": "x", "empty_layer": true }],
            "rootfs": { "type": "layers", "diff_ids": [] },
        });
        let config = parse_config(config.to_string().as_bytes()).unwrap();
        assert_eq!(config.config().as_ref().unwrap().stop_signal().as_deref(), Some("SIGQUIT"));
        let bare = json!({ "architecture": "", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] },
            "config": { "Volumes": null, "ExposedPorts": null } });
        parse_config(bare.to_string().as_bytes()).unwrap();
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = (parse(&bytes), parse_config(&bytes));
        }

        #[test]
        fn no_document_makes_it_panic(flips in proptest::collection::vec((0..4000_usize, 0..40_usize), 1..6)) {
            const PARTS: [&str; 8] = ["null", "[]", "{}", "-1", "\"\"", "99999999999999999999", "[[", "true"];
            let index = json!({ "schemaVersion": 2, "manifests": [descriptor(OCI_MANIFEST)], "config": null });
            let manifest = json!({ "schemaVersion": 2, "config": descriptor(OCI_CONFIG), "layers": [descriptor("x")] });
            for document in [index, manifest] {
                let mut text = document.to_string();
                for (at, part) in &flips {
                    let at = at % text.len();
                    let end = (at + part % 7).min(text.len());
                    text.replace_range(at..end, PARTS[part % PARTS.len()]);
                }
                if let Ok(Document::Index(entries)) = parse(text.as_bytes()) {
                    choose(&entries, &this_platform());
                }
            }
        }
    }
}
