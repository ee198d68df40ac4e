//! Having an image: pull policy, one pull at a time per image reference and pod, back-off after failures, upstream's
//! events and reasons.
//!
//! Must not know: containers.

pub mod collect;
mod credentials;
mod reference;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, ImageVolumeSource, ObjectReference, Pod};
use parking_lot::Mutex;
use pintle_client::events::Recorder;
use pintle_cri::Runtime;
use pintle_cri::v1::{AuthConfig, Image, ImageSpec, ImageStatusRequest, PodSandboxConfig, PullImageRequest};
use tokio::sync::Semaphore;

use crate::apply::pod_reference;
use crate::objects::Objects;
use crate::plan::pod;
use crate::plan::security::ImageUser;

/// Why a container has no image: the waiting state's reason and message.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageError {
    pub reason: &'static str,
    pub message: String,
}

/// An image that is asked for, and its pull policy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wanted<'a> {
    pub image: &'a str,
    policy: Option<&'a str>,
}

/// An image the runtime has.
#[derive(Debug, Clone)]
pub struct Present {
    pub spec: ImageSpec,
    pub user: ImageUser,
}

/// Failures of one (pod, image).
struct Failure {
    delay: Duration,
    until: Instant,
    message: String,
}

const FIRST_DELAY: Duration = Duration::from_secs(10);
const LONGEST_DELAY: Duration = Duration::from_secs(300);
/// Failures remembered at most; the oldest go first.
const REMEMBERED: usize = 4096;

/// Pulls for every pod of the node. Clones share the limits.
#[derive(Clone)]
pub struct Images {
    runtime: Runtime,
    recorder: Recorder,
    objects: Objects,
    /// The kubelet's folder, where the node's own credentials may be.
    root_dir: PathBuf,
    slots: Arc<Semaphore>,
    failures: Arc<Mutex<HashMap<(String, String), Failure>>>,
}

impl Images {
    /// `parallel`: pulls at the same time, 1 for serialized pulls.
    pub fn new(runtime: Runtime, recorder: Recorder, objects: Objects, root_dir: PathBuf, parallel: usize) -> Self {
        let slots = Arc::new(Semaphore::new(parallel.max(1)));
        Self { runtime, recorder, objects, root_dir, slots, failures: Arc::default() }
    }

    /// An image, pulled if its policy asks for it.
    ///
    /// # Errors
    /// Upstream's reasons: ErrImagePull, ImagePullBackOff, ErrImageNeverPull, InvalidImageName, ImageInspectError,
    /// RegistryUnavailable, SignatureValidationFailed.
    pub async fn ensure(
        &self,
        pod: &Pod,
        wanted: Wanted<'_>,
        regarding: &ObjectReference,
        sandbox: &PodSandboxConfig,
    ) -> Result<Present, ImageError> {
        let Wanted { image: wanted, policy } = wanted;
        let name = reference::with_default_tag(wanted).map_err(|error| {
            let message = format!("Failed to apply default image tag \"{wanted}\": {error}");
            self.recorder.warning(regarding, "InspectFailed", message.clone());
            ImageError { reason: "InvalidImageName", message }
        })?;
        let spec = ImageSpec { image: name.clone(), user_specified_image: wanted.into(), ..ImageSpec::default() };
        let present = self.status(&spec).await.map_err(|error| {
            let message = format!("Failed to inspect image \"{name}\": {error}");
            self.recorder.warning(regarding, "InspectFailed", message.clone());
            ImageError { reason: "ImageInspectError", message }
        })?;
        match (policy_of(policy, &name), present) {
            ("Never", None) => {
                let message = format!("Container image \"{wanted}\" is not present with pull policy of Never");
                self.recorder.warning(regarding, "ErrImageNeverPull", message.clone());
                Err(ImageError { reason: "ErrImageNeverPull", message })
            }
            ("Never" | "IfNotPresent", Some(image)) => {
                let message =
                    format!("Container image \"{wanted}\" already present on machine and can be accessed by the pod");
                self.recorder.normal(regarding, "Pulled", message);
                Ok(describe(image, wanted))
            }
            _ => self.pull(pod, &spec, regarding, sandbox).await,
        }
    }

    /// The image when the runtime has it.
    async fn status(&self, spec: &ImageSpec) -> Result<Option<Image>, tonic::Status> {
        let request = ImageStatusRequest { image: Some(spec.clone()), verbose: false };
        Ok(self.runtime.images.clone().image_status(request).await?.into_inner().image)
    }

    async fn pull(
        &self,
        pod: &Pod,
        spec: &ImageSpec,
        regarding: &ObjectReference,
        sandbox: &PodSandboxConfig,
    ) -> Result<Present, ImageError> {
        let wanted = &spec.user_specified_image;
        let key = (pod::uid(pod).to_string(), spec.image.clone());
        if let Some(previous) = self.backing_off(&key) {
            let message = format!("Back-off pulling image \"{wanted}\"");
            self.recorder.normal(regarding, "BackOff", message.clone());
            return Err(ImageError { reason: "ImagePullBackOff", message: format!("{message}: {previous}") });
        }
        self.recorder.normal(regarding, "Pulling", format!("Pulling image \"{wanted}\""));
        let asked = Instant::now();
        // the semaphore is never closed
        let _slot = self.slots.acquire().await;
        let began = Instant::now();
        match self.pull_with_credentials(pod, spec, sandbox).await {
            Ok(image) => {
                self.failures.lock().remove(&key);
                let (took, waited) = (began.elapsed().as_millis(), asked.elapsed().as_millis());
                let message = format!(
                    "Successfully pulled image \"{wanted}\" in {took}ms ({waited}ms including waiting). Image size: {} bytes.",
                    image.size
                );
                self.recorder.normal(regarding, "Pulled", message);
                Ok(describe(image, wanted))
            }
            Err(text) => {
                self.recorder.warning(regarding, "Failed", format!("Failed to pull image \"{wanted}\": {text}"));
                let error = pull_error(wanted, text);
                self.remember(key, &error);
                Err(error)
            }
        }
    }

    async fn pull_with_credentials(
        &self,
        pod: &Pod,
        spec: &ImageSpec,
        sandbox: &PodSandboxConfig,
    ) -> Result<Image, String> {
        let found = credentials::of(pod, &spec.image, &self.objects, &self.root_dir).await;
        if !found.missing.is_empty() {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                found.missing.join(", ")
            );
            self.recorder.warning(&pod_reference(pod), "FailedToRetrieveImagePullSecret", message);
        }
        let mut candidates: Vec<Option<AuthConfig>> = found.auths.into_iter().map(Some).collect();
        // without any that fits, upstream tries anonymously
        if candidates.is_empty() {
            candidates.push(None);
        }
        let mut errors: Vec<String> = Vec::new();
        for auth in candidates {
            let request = PullImageRequest { image: Some(spec.clone()), auth, sandbox_config: Some(sandbox.clone()) };
            match self.runtime.images.clone().pull_image(request).await {
                Ok(answer) => return self.pulled(spec, answer.into_inner().image_ref).await,
                Err(status) => errors.push(print_pull(&status)),
            }
        }
        errors.dedup();
        Err(if errors.len() == 1 { errors.remove(0) } else { format!("[{}]", errors.join(", ")) })
    }

    async fn pulled(&self, spec: &ImageSpec, image_ref: String) -> Result<Image, String> {
        let by_name = self.status(spec).await.map_err(|status| print_status(&status))?;
        match by_name {
            Some(image) => Ok(image),
            None => {
                let by_ref = ImageSpec { image: image_ref, ..ImageSpec::default() };
                let found = self.status(&by_ref).await.map_err(|status| print_status(&status))?;
                found.ok_or_else(|| format!("image \"{}\" is gone right after its pull", spec.image))
            }
        }
    }

    fn backing_off(&self, key: &(String, String)) -> Option<String> {
        let failures = self.failures.lock();
        failures.get(key).filter(|failure| Instant::now() < failure.until).map(|failure| failure.message.clone())
    }

    /// When the pod may try an image again that it could not have.
    pub fn retry_after(&self, pod: &Pod, image: &str) -> Option<Duration> {
        let name = reference::with_default_tag(image).ok()?;
        let failures = self.failures.lock();
        let failure = failures.get(&(pod::uid(pod).to_string(), name))?;
        Some(failure.until.saturating_duration_since(Instant::now()))
    }

    fn remember(&self, key: (String, String), error: &ImageError) {
        let mut failures = self.failures.lock();
        let delay = failures.get(&key).map_or(FIRST_DELAY, |failure| (failure.delay * 2).min(LONGEST_DELAY));
        let until = Instant::now() + delay;
        failures.insert(key, Failure { delay, until, message: format!("{}: {}", error.reason, error.message) });
        if failures.len() > REMEMBERED {
            failures.retain(|_, failure| failure.until > Instant::now());
        }
    }

    /// Forgets the failures of a pod that is gone.
    pub fn forget(&self, uid: &str) {
        self.failures.lock().retain(|(of, _), _| of != uid);
    }
}

/// As Go prints a gRPC error, which is what upstream's messages show.
pub fn print_status(status: &tonic::Status) -> String {
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}

/// The same of a pull, where upstream leaves out a code that says nothing.
fn print_pull(status: &tonic::Status) -> String {
    match status.code() {
        tonic::Code::Unknown => status.message().to_owned(),
        _ => print_status(status),
    }
}

/// Why a pull failed; runtimes say two reasons by how their text begins (cri-api's `errors.go`).
fn pull_error(wanted: &str, text: String) -> ImageError {
    const SAID: [(&str, &str); 2] = [
        ("RegistryUnavailable", "the registry is unavailable"),
        ("SignatureValidationFailed", "the signature validation failed"),
    ];
    for (reason, why) in SAID {
        if let Some(rest) = text.strip_prefix(reason) {
            return ImageError { reason, message: format!("image pull failed for {wanted} because {why}{rest}") };
        }
    }
    ImageError { reason: "ErrImagePull", message: text }
}

fn describe(image: Image, wanted: &str) -> Present {
    let user = ImageUser { uid: image.uid.as_ref().map(|uid| uid.value), username: image.username };
    let spec = ImageSpec { image: image.id, user_specified_image: wanted.into(), ..ImageSpec::default() };
    Present { spec, user }
}

impl<'a> Wanted<'a> {
    /// The image a container runs.
    pub fn of_container(container: &'a Container) -> Self {
        Self { image: container.image.as_deref().unwrap_or_default(), policy: container.image_pull_policy.as_deref() }
    }

    /// The image a volume shows.
    pub fn of_volume(source: &'a ImageVolumeSource) -> Self {
        Self { image: source.reference.as_deref().unwrap_or_default(), policy: source.pull_policy.as_deref() }
    }
}

/// The policy that is given; without one, `Always` for the tag `latest`, else `IfNotPresent`.
fn policy_of<'a>(given: Option<&'a str>, name: &str) -> &'a str {
    match given.filter(|policy| !policy.is_empty()) {
        Some(policy) => policy,
        None if name.ends_with(":latest") => "Always",
        None => "IfNotPresent",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_says_by_its_text_why_it_could_not_pull() {
        let failed = |status: tonic::Status| {
            let error = pull_error("a/b:1", print_pull(&status));
            format!("{}: {}", error.reason, error.message)
        };
        assert_eq!(
            failed(tonic::Status::unknown("SignatureValidationFailed: no key")),
            "SignatureValidationFailed: image pull failed for a/b:1 because the signature validation failed: no key"
        );
        assert_eq!(
            failed(tonic::Status::unknown("RegistryUnavailable")),
            "RegistryUnavailable: image pull failed for a/b:1 because the registry is unavailable"
        );
        assert_eq!(failed(tonic::Status::unknown("no")), "ErrImagePull: no");
        assert_eq!(failed(tonic::Status::not_found("no")), "ErrImagePull: rpc error: code = NotFound desc = no");
    }
}
