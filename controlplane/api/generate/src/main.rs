//! Reads the API types of an upstream Kubernetes checkout and writes the table of facts that `pintle-api` embeds.
//!
//! Run at development time only, when the Kubernetes version changes:
//!
//!     cargo run -p pintle-api-generate -- <checkout> controlplane/api/src/facts/generated/facts.txt
//!
//! Must not know: how the facts are used. What a line means is documented in `pintle-api`'s `facts/parse.rs`.

mod emit;
mod go;
mod proto;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [checkout, out] = args.as_slice() else { bail!("usage: pintle-api-generate <checkout> <out>") };
    let staging = Path::new(checkout).join("staging/src");
    let mut packages = Vec::new();
    for path in package_paths(&staging)? {
        packages.push(go::read_package(&staging, &path).with_context(|| format!("read package {path}"))?);
    }
    let text = emit::facts(&packages)?;
    std::fs::write(out, text).with_context(|| format!("write {out}"))
}

/// Import paths of every package that holds API types.
fn package_paths(staging: &Path) -> Result<Vec<String>> {
    let mut paths = vec![
        "k8s.io/apimachinery/pkg/apis/meta/v1".to_owned(),
        "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1".to_owned(),
        "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1".to_owned(),
    ];
    for group in folders(&staging.join("k8s.io/api"))? {
        for version in folders(&group)? {
            if version.join("generated.proto").exists() {
                let path = version.strip_prefix(staging).context("a folder outside of staging")?;
                paths.push(path.to_string_lossy().into_owned());
            }
        }
    }
    paths.sort();
    Ok(paths)
}

fn folders(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
