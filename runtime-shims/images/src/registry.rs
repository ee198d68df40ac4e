//! One registry, or a mirror of it, over oci-client: authorization, manifests, streams of blobs.
//!
//! Nothing it returns is verified. Must not know: what is stored, retries.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt};
use oci_client::client::{BlobResponse, Certificate, CertificateEncoding, ClientConfig, ClientProtocol};
use oci_client::errors::{OciDistributionError, OciErrorCode};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, RegistryOperation};

use crate::config::Endpoint;
use crate::digest::Digest;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::manifest::{DOCKER_INDEX, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST};
use crate::reference::{Object, Reference};

const ACCEPT: [&str; 4] = [OCI_INDEX, DOCKER_INDEX, OCI_MANIFEST, DOCKER_MANIFEST];
const CONNECT: Duration = Duration::from_secs(15);
/// A registry that sends nothing for so long is given up (and asked again).
const SILENCE: Duration = Duration::from_secs(60);
/// A whole manifest, with the authorization before it.
const MANIFEST: Duration = Duration::from_secs(120);

/// Credentials for a registry, as `imagePullSecrets` and CRI bring them.
#[derive(Clone, PartialEq, Eq)]
pub enum Auth {
    /// A user and a password, also to get tokens with.
    Basic { username: String, password: String },
    /// A bearer token for the registry itself (CRI's `registryToken`).
    Token(String),
}

impl std::fmt::Debug for Auth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Basic { username, .. } => write!(f, "Basic({username:?}, …)"),
            Self::Token(_) => f.write_str("Token(…)"),
        }
    }
}

/// A place that may have an image.
pub(crate) struct Remote {
    client: Client,
    image: oci_client::Reference,
    auth: RegistryAuth,
    pub host: String,
}

/// A blob's bytes, from its beginning or from where it was asked for.
pub(crate) struct Stream {
    pub from: u64,
    pub bytes: BoxStream<'static, Result<Bytes>>,
}

impl Remote {
    /// Does not connect yet.
    ///
    /// # Errors
    /// The certificates in its settings cannot be read.
    pub fn new(endpoint: &Endpoint, reference: &Reference, auth: Option<&Auth>) -> Result<Self> {
        let mut image = named(reference);
        if endpoint.mirror {
            image.set_mirror_registry(endpoint.host.clone());
        }
        let callers = auth.filter(|_| !endpoint.mirror).map(|auth| match auth {
            Auth::Basic { username, password } => RegistryAuth::Basic(username.clone(), password.clone()),
            Auth::Token(token) => RegistryAuth::Bearer(token.clone()),
        });
        let configured = || endpoint.auth.clone().map(|it| RegistryAuth::Basic(it.username, it.password));
        let auth = callers.or_else(configured).unwrap_or(RegistryAuth::Anonymous);
        Ok(Self { client: endpoint.client()?, image, auth, host: endpoint.host.clone() })
    }

    /// Gets a token where the registry wants one.
    pub async fn authorize(&self) -> Result<()> {
        let got = self.client.auth(&self.image, &self.auth, RegistryOperation::Pull);
        let token = contained(got).await?.map_err(|error| match error {
            OciDistributionError::AuthenticationFailure(reason) => {
                let reason: String = reason.chars().take(500).collect();
                unauthorized(&format!("failed to fetch token: {reason}"))
            }
            other => failure(other),
        })?;
        match token.is_none_or(|token| token.bytes().all(is_of_header)) {
            true => Ok(()),
            false => Err(unauthorized("the token is no text that a header may have")),
        }
    }

    /// The bytes of a manifest or index.
    pub async fn manifest(&self, object: &Object) -> Result<Vec<u8>> {
        let image = match object {
            Object::Tag(_) => self.image.clone(),
            Object::Digest(digest) => self.image.clone_with_digest(digest.to_string()),
        };
        let got = async {
            self.authorize().await?;
            contained(self.client.pull_manifest_raw(&image, &self.auth, &ACCEPT)).await?.map_err(failure)
        };
        let slow = |_| Error::new(ErrorKind::Unavailable, format!("{} did not send a manifest in time", self.host));
        let (bytes, _) = tokio::time::timeout(MANIFEST, got).await.map_err(slow)??;
        Ok(bytes.to_vec())
    }

    /// A blob from `offset` on; a registry that cannot resume sends all of it.
    pub async fn blob(&self, digest: &Digest, offset: u64) -> Result<Stream> {
        let answer = self.client.pull_blob_stream_partial(&self.image, digest.as_str(), offset, None);
        let (from, stream) = match contained(answer).await?.map_err(failure)? {
            BlobResponse::Full(stream) => (0, stream),
            BlobResponse::Partial(stream) => (offset, stream),
        };
        let broken = |error: std::io::Error| Error::new(ErrorKind::Unavailable, text_of(&error));
        Ok(Stream { from, bytes: stream.stream.map_err(broken).boxed() })
    }
}

/// An answer of oci-client's, which panics where a token that it fetched anew is no text for a header.
async fn contained<T>(answer: impl Future<Output = T>) -> Result<T> {
    let panicked = |_| Error::new(ErrorKind::Internal, "the registry's answer cannot be made sense of");
    AssertUnwindSafe(answer).catch_unwind().await.map_err(panicked)
}

fn is_of_header(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~')
}

fn unauthorized(why: &str) -> Error {
    Error::new(ErrorKind::Unauthorized, format!("failed to authorize: {why}"))
}

fn named(reference: &Reference) -> oci_client::Reference {
    let (domain, path) = (reference.domain().to_owned(), reference.path().to_owned());
    match reference.object() {
        Object::Tag(tag) => oci_client::Reference::with_tag(domain, path, tag.clone()),
        Object::Digest(digest) => oci_client::Reference::with_digest(domain, path, digest.to_string()),
    }
}

impl Endpoint {
    /// A client that speaks to this place as configured. Does not connect yet.
    ///
    /// # Errors
    /// The certificates in its settings cannot be read.
    pub fn client(&self) -> Result<Client> {
        // the program installs its TLS provider first; a library's tests may not have
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let certificates = match &self.ca_file {
            Some(path) => {
                let data = std::fs::read(path).context(|| format!("cannot read {}", path.display()))?;
                vec![Certificate { encoding: CertificateEncoding::Pem, data }]
            }
            None => Vec::new(),
        };
        let config = |skip_verify: bool| ClientConfig {
            protocol: if self.plain_http { ClientProtocol::Http } else { ClientProtocol::Https },
            accept_invalid_certificates: skip_verify,
            extra_root_certificates: certificates.clone(),
            read_timeout: Some(SILENCE),
            connect_timeout: Some(CONNECT),
            user_agent: concat!("pintle/", env!("CARGO_PKG_VERSION")),
            ..Default::default()
        };
        let made = Client::try_from(config(self.skip_verify));
        // a machine without any certificates can still speak plain HTTP, where there is nothing to verify
        let made = if self.plain_http { made.or_else(|_| Client::try_from(config(true))) } else { made };
        made.map_err(|error| Error::new(ErrorKind::Internal, text_of(&error)).context("cannot set up TLS"))
    }
}

fn failure(error: OciDistributionError) -> Error {
    use OciDistributionError as E;
    let kind = match &error {
        E::RegistryError { envelope, .. } => {
            envelope.errors.first().map_or(ErrorKind::Unavailable, |it| of_code(&it.code))
        }
        E::ServerError { code, .. } => of_status(*code),
        E::UnauthorizedError { .. } | E::AuthenticationFailure(_) => ErrorKind::Unauthorized,
        E::ImageManifestNotFoundError(_) => ErrorKind::NotFound,
        E::DigestError(_) => ErrorKind::Corrupt,
        _ => ErrorKind::Unavailable,
    };
    let text = match &error {
        E::UnauthorizedError { url } => format!("unexpected status from GET request to {url}: 401 Unauthorized"),
        E::RegistryError { envelope, url } => {
            let said = envelope.errors.first().map(|it| format!("{:?}: {}", it.code, it.message)).unwrap_or_default();
            format!("unexpected answer from {url}: {said}")
        }
        E::ServerError { code, url, message } => {
            let said: String = message.chars().take(300).collect();
            format!("unexpected status from GET request to {url}: {code}: {said}")
        }
        other => text_of(other),
    };
    Error::new(kind, text)
}

fn of_code(code: &OciErrorCode) -> ErrorKind {
    use OciErrorCode as C;
    match code {
        C::ManifestUnknown
        | C::NameUnknown
        | C::NotFound
        | C::BlobUnknown
        | C::ManifestBlobUnknown
        | C::NameInvalid => ErrorKind::NotFound,
        C::Unauthorized | C::Denied => ErrorKind::Unauthorized,
        C::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::Unavailable,
    }
}

fn of_status(code: u16) -> ErrorKind {
    match code {
        404 | 410 => ErrorKind::NotFound,
        401 | 403 => ErrorKind::Unauthorized,
        400 | 405 | 416 => ErrorKind::Corrupt,
        _ => ErrorKind::Unavailable,
    }
}

/// An error with its causes, each said once.
fn text_of(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}
