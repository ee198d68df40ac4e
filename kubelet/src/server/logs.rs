//! `/containerLogs` and `/logs`.
//!
//! Must not know: the log format.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{StatusCode, Uri};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use pintle_cri::Runtime;
use pintle_cri::log::Stream;
use pintle_cri::v1::{ContainerState, ContainerStatusRequest};
use tokio::sync::mpsc;

use super::Server;
use super::answer::{self, Answer, text};
use super::route::{Place, query};
use super::session::container_status;
use crate::logs::read::{self, Options};
use crate::plan::pod;

/// Chunks that may wait for a slow reader.
const QUEUE: usize = 16;

/// What the query asks for.
#[derive(Debug, Default, PartialEq)]
struct Wanted {
    options: Options,
    previous: bool,
}

impl Wanted {
    fn of(uri: &Uri, now: Timestamp) -> Result<Self, String> {
        let mut wanted = Self::default();
        for (key, value) in query(uri) {
            let number = || {
                value.parse::<u64>().map_err(|_| {
                    format!("Invalid value: \"{value}\": {key} must be a number greater than or equal to 0")
                })
            };
            let truth = matches!(value.as_str(), "" | "1" | "true");
            match key.as_str() {
                "follow" => wanted.options.follow = truth,
                "previous" => wanted.previous = truth,
                "timestamps" => wanted.options.timestamps = truth,
                "tailLines" => wanted.options.tail = Some(number()?),
                "limitBytes" => wanted.options.limit = Some(number()?),
                "sinceSeconds" => wanted.options.since = now.checked_sub(Duration::from_secs(number()?)).ok(),
                "sinceTime" => {
                    wanted.options.since = Some(
                        value.parse().map_err(|_| format!("Invalid value: \"{value}\": sinceTime must be a time"))?,
                    )
                }
                "stream" => {
                    wanted.options.stream = match value.as_str() {
                        "Stdout" => Some(Stream::Stdout),
                        "Stderr" => Some(Stream::Stderr),
                        _ => None,
                    }
                }
                _ => {}
            }
        }
        Ok(wanted)
    }
}

impl Server {
    pub(super) async fn container_logs(&self, uri: &Uri, place: &Place) -> Answer {
        let wanted = match Wanted::of(uri, Timestamp::now()) {
            Ok(wanted) => wanted,
            Err(message) => return text(StatusCode::UNPROCESSABLE_ENTITY, message),
        };
        match self.log_of(place, wanted.previous).await {
            Ok((id, path)) => self.stream_log(id, path, wanted.options),
            Err(answer) => *answer,
        }
    }

    /// The container's id and its log.
    async fn log_of(&self, place: &Place, previous: bool) -> Result<(String, PathBuf), Box<Answer>> {
        let pod = self.pod(place)?;
        let known = pod.spec.as_ref().is_some_and(|spec| pod::find_container(spec, &place.container).is_some());
        if !known {
            let message = format!("container \"{}\" not found in pod \"{}\"", place.container, place.pod);
            return Err(Box::new(text(StatusCode::NOT_FOUND, message)));
        }
        let status = container_status(&pod, &place.container);
        let id = log_container(status, previous)
            .map_err(|reason| Box::new(text(StatusCode::BAD_REQUEST, explain(&pod, place, &reason))))?;
        let request = ContainerStatusRequest { container_id: id.clone(), verbose: false };
        match self.runtime.runtime.clone().container_status(request).await {
            Ok(answer) => Ok((id, PathBuf::from(answer.into_inner().status.unwrap_or_default().log_path))),
            Err(status) => {
                let message = format!("failed to try resolving symlinks in path: {}", status.message());
                Err(Box::new(text(StatusCode::NOT_FOUND, message)))
            }
        }
    }

    fn stream_log(&self, id: String, path: PathBuf, options: Options) -> Answer {
        let (to, chunks) = mpsc::channel(QUEUE);
        let runtime = self.runtime.clone();
        tokio::spawn(async move {
            let running = || is_running(runtime.clone(), id.clone());
            if let Err(error) = read::read(&path, &options, &to, running).await {
                let message = format!("failed to read the log {}: {error}\n", path.display());
                // a reader that left needs no message
                let _ = to.send(message.into()).await;
            }
        });
        answer::stream(chunks)
    }
}

async fn is_running(runtime: Runtime, container_id: String) -> bool {
    let request = ContainerStatusRequest { container_id, verbose: false };
    let answer = runtime.runtime.clone().container_status(request).await;
    answer.is_ok_and(|answer| {
        answer.into_inner().status.is_some_and(|status| status.state() == ContainerState::ContainerRunning)
    })
}

/// The instance whose log is meant, or why there is none.
fn log_container(status: Option<&ContainerStatus>, previous: bool) -> Result<String, String> {
    let Some(status) = status else { return Err("is not available".into()) };
    let bare = |id: Option<&str>| id.and_then(|id| id.split_once("://")).map(|(_, id)| id.to_string());
    let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref());
    let last = last.and_then(|last| bare(last.container_id.as_deref()));
    if previous {
        return last.ok_or_else(|| "previous".into());
    }
    let state = status.state.clone().unwrap_or_default();
    if state.running.is_some() {
        return bare(status.container_id.as_deref()).ok_or_else(|| "is not available".into());
    }
    if let Some(ended) = &state.terminated {
        return bare(ended.container_id.as_deref()).or(last).ok_or_else(|| "is terminated".into());
    }
    let reason = state.waiting.and_then(|waiting| waiting.reason).unwrap_or_default();
    last.ok_or_else(|| match reason.as_str() {
        "ErrImagePull" => "is waiting to start: image can't be pulled".into(),
        "ImagePullBackOff" => "is waiting to start: trying and failing to pull image".into(),
        reason => format!("is waiting to start: {reason}"),
    })
}

fn explain(pod: &Pod, place: &Place, reason: &str) -> String {
    match reason {
        "previous" => {
            format!("previous terminated container \"{}\" in pod \"{}\" not found", place.container, place.pod)
        }
        reason => format!("container \"{}\" in pod \"{}\" {reason}", place.container, pod::name(pod)),
    }
}

/// A file below `/var/log`, or the names in a directory of it.
pub fn node_log(path: &str) -> Answer {
    let escapes = path.split('/').any(|part| part == "..");
    let full = Path::new("/var/log").join(path);
    let inside = full.canonicalize().is_ok_and(|real| real.starts_with("/var/log"));
    if escapes || !inside {
        return text(StatusCode::NOT_FOUND, "404 page not found");
    }
    if !full.is_dir() {
        return match std::fs::read(&full) {
            Ok(bytes) => text(StatusCode::OK, String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        };
    }
    let mut names: Vec<String> = std::fs::read_dir(&full)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    text(StatusCode::OK, names.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_become_options() {
        let uri: Uri = "/x?follow=true&tailLines=5&sinceSeconds=10&previous=true".parse().unwrap();
        let wanted = Wanted::of(&uri, Timestamp::from_second(100).unwrap()).unwrap();
        assert!(wanted.options.follow && wanted.previous);
        assert_eq!((wanted.options.tail, wanted.options.since), (Some(5), Timestamp::from_second(90).ok()));
        assert!(Wanted::of(&"/x?tailLines=-1".parse().unwrap(), Timestamp::UNIX_EPOCH).is_err());
    }

    #[test]
    fn a_waiting_container_says_why_it_has_no_log() {
        let status: ContainerStatus = serde_json::from_str(
            r#"{"name":"a","image":"","imageID":"","ready":false,"restartCount":0,"state":{"waiting":{"reason":"ContainerCreating"}}}"#,
        )
        .unwrap();
        assert_eq!(log_container(Some(&status), false), Err("is waiting to start: ContainerCreating".into()));
        assert_eq!(log_container(Some(&status), true), Err("previous".into()));
    }
}
