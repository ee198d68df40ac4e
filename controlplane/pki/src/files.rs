//! The PKI's folder: what is there is used, what is missing or about to end is made.
//! File names are kubeadm's, so that existing manuals hold.
//!
//! Must not know: which parts use which certificate.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::authority::{Authority, Leaf, Pair, seconds_left};
use crate::tokens;

/// A certificate with less than this left is made anew.
const RENEW_BEFORE_SECONDS: i64 = 60 * 86_400;

/// A folder of certificates and keys: keys 0600, the folder 0755.
pub struct Folder(PathBuf);

impl Folder {
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true).mode(0o755);
        builder.create(path).with_context(|| format!("making {}", path.display()))?;
        Ok(Self(path.to_owned()))
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// The authority `<name>.crt`, `<name>.key`; made where neither file is there.
    pub fn authority(&self, name: &str, common_name: &str) -> anyhow::Result<Authority> {
        if let Some(pair) = self.read(name)? {
            return Authority::load(pair).with_context(|| format!("in {}", self.path(name).display()));
        }
        let authority = Authority::create(common_name)?;
        self.write(name, authority.pair())?;
        Ok(authority)
    }

    /// The certificate `<name>.crt`, `<name>.key`: the one that is there if `authority` issued it, it says what `leaf`
    /// says and it has long enough to live; else a new one.
    pub fn certificate(&self, name: &str, authority: &Authority, leaf: &Leaf<'_>) -> anyhow::Result<Pair> {
        let mark = fingerprint(authority, leaf);
        let mark_file = format!("{name}.issued-for");
        let kept = fs::read_to_string(self.path(&mark_file)).is_ok_and(|kept| kept == mark);
        if kept
            && let Some(pair) = self.read(name)?
            && seconds_left(&pair.certificate, jiff::Timestamp::now()).is_ok_and(|left| left > RENEW_BEFORE_SECONDS)
        {
            return Ok(pair);
        }
        let pair = authority.issue(leaf)?;
        self.write(name, &pair)?;
        write_file(&self.path(&mark_file), mark.as_bytes(), 0o644)?;
        Ok(pair)
    }

    /// The service-account signing key `sa.key` (and `sa.pub`), PEM; made where it is missing.
    pub fn service_account_key(&self) -> anyhow::Result<String> {
        let path = self.path("sa.key");
        if let Some(key) = read_if_there(&path)? {
            return Ok(key);
        }
        let key = tokens::generate()?;
        write_file(&path, key.as_bytes(), 0o600)?;
        write_file(&self.path("sa.pub"), tokens::public_pem(&key)?.as_bytes(), 0o644)?;
        Ok(key)
    }

    fn read(&self, name: &str) -> anyhow::Result<Option<Pair>> {
        let (certificate, key) = (self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")));
        match (read_if_there(&certificate)?, read_if_there(&key)?) {
            (Some(certificate), Some(key)) => Ok(Some(Pair { certificate, key })),
            (None, None) => Ok(None),
            (Some(_), None) => anyhow::bail!("{} is there but {} is missing", certificate.display(), key.display()),
            (None, Some(_)) => anyhow::bail!("{} is there but {} is missing", key.display(), certificate.display()),
        }
    }

    fn write(&self, name: &str, pair: &Pair) -> anyhow::Result<()> {
        write_file(&self.path(&format!("{name}.key")), pair.key.as_bytes(), 0o600)?;
        write_file(&self.path(&format!("{name}.crt")), pair.certificate.as_bytes(), 0o644)
    }
}

/// What a certificate was issued for, so that a changed address makes a new one.
fn fingerprint(authority: &Authority, leaf: &Leaf<'_>) -> String {
    use sha2::Digest as _;
    let said = format!("{leaf:?} {}", authority.certificate_pem());
    sha2::Sha256::digest(said).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read_if_there(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// Writes `path` whole or not at all, with `mode` from its first byte.
pub fn write_file(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let mut name = path.file_name().context("a file without a name")?.to_owned();
    name.push(".new");
    let fresh = path.with_file_name(name);
    let write = || -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&fresh)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().with_context(|| format!("writing {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_kept_and_what_changed_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let authority = folder.authority("ca", "kubernetes").unwrap();
        assert_eq!(folder.authority("ca", "kubernetes").unwrap().certificate_pem(), authority.certificate_pem());

        let first = folder.certificate("admin", &authority, &Leaf::client("admin", Some("system:masters"))).unwrap();
        let same = folder.certificate("admin", &authority, &Leaf::client("admin", Some("system:masters"))).unwrap();
        let other = folder.certificate("admin", &authority, &Leaf::client("admin", Some("other"))).unwrap();
        assert_eq!(first.certificate, same.certificate);
        assert_ne!(first.certificate, other.certificate);
    }

    #[test]
    fn half_an_authority_is_an_error_that_names_the_missing_file() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        folder.authority("ca", "kubernetes").unwrap();
        std::fs::remove_file(dir.path().join("ca.key")).unwrap();
        let error = folder.authority("ca", "kubernetes").err().unwrap().to_string();
        assert!(error.ends_with("ca.key is missing"), "{error}");
    }
}
