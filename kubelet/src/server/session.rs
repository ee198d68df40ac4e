//! exec, attach, port-forward: the runtime is asked for a place to stream from, and the bridge carries the bytes. `run`
//! is the short form without streams.
//!
//! Must not know: the streaming protocols.

use http::{Request, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use pintle_cri::streaming::bridge::{self, Session, Streams};
use pintle_cri::v1::{
    AttachRequest, ExecRequest, ExecSyncRequest, ListPodSandboxRequest, PodSandboxFilter, PodSandboxState,
    PortForwardRequest,
};

use super::Server;
use super::answer::{Answer, text};
use super::route::{Place, Route, query};
use crate::plan::pod;
use crate::plan::sandbox_config::POD_UID;

impl Server {
    /// The pod a path names.
    pub(super) fn pod(&self, place: &Place) -> Result<std::sync::Arc<Pod>, Box<Answer>> {
        let found = self.shown.find(&place.namespace, &place.pod);
        let found = found.filter(|pod| place.uid.as_deref().is_none_or(|uid| uid == pod::uid(pod)));
        found.ok_or_else(|| {
            let message = format!("pod \"{}_{}\" does not exist", place.pod, place.namespace);
            Box::new(text(StatusCode::NOT_FOUND, message))
        })
    }

    /// The id of a running container.
    pub(super) fn container_id(&self, place: &Place) -> Result<String, Box<Answer>> {
        let pod = self.pod(place)?;
        let status = container_status(&pod, &place.container);
        let running = status.filter(|status| status.state.as_ref().is_some_and(|state| state.running.is_some()));
        let id =
            running.and_then(|status| status.container_id.as_deref()?.split_once("://").map(|(_, id)| id.to_string()));
        let missing = || text(StatusCode::NOT_FOUND, format!("container not found (\"{}\")", place.container));
        id.ok_or_else(|| Box::new(missing()))
    }

    pub(super) async fn session(&self, request: Request<Incoming>, route: Route) -> Answer {
        match self.streaming_url(request.uri(), &route).await {
            Err(answer) => *answer,
            Ok((url, session)) => bridge::serve(request, &url, session).await.map(|body| body.boxed()),
        }
    }

    async fn streaming_url(&self, uri: &Uri, route: &Route) -> Result<(String, Session), Box<Answer>> {
        let query = query(uri);
        let mut runtime = self.runtime.runtime.clone();
        let streams = streams(&query);
        match route {
            Route::Exec(place) => {
                let Streams { stdin, stdout, stderr, tty } = streams;
                let request = ExecRequest {
                    container_id: self.container_id(place)?,
                    cmd: all(&query, "command"),
                    tty,
                    stdin,
                    stdout,
                    stderr,
                };
                let answer = runtime.exec(request).await.map_err(boxed)?;
                Ok((answer.into_inner().url, Session::Command(streams)))
            }
            Route::Attach(place) => {
                let Streams { stdin, stdout, stderr, tty } = streams;
                let request = AttachRequest { container_id: self.container_id(place)?, stdin, tty, stdout, stderr };
                let answer = runtime.attach(request).await.map_err(boxed)?;
                Ok((answer.into_inner().url, Session::Command(streams)))
            }
            Route::PortForward(place) => {
                let pod = self.pod(place)?;
                let ports: Vec<u16> = all(&query, "port")
                    .iter()
                    .flat_map(|ports| ports.split(','))
                    .filter_map(|port| port.parse().ok())
                    .collect();
                let request = PortForwardRequest {
                    pod_sandbox_id: self.ready_sandbox(&pod).await?,
                    port: ports.iter().map(|port| i32::from(*port)).collect(),
                };
                let answer = runtime.port_forward(request).await.map_err(boxed)?;
                Ok((answer.into_inner().url, Session::PortForward { ports }))
            }
            _ => Err(Box::new(text(StatusCode::NOT_FOUND, "404 page not found"))),
        }
    }

    async fn ready_sandbox(&self, pod: &Pod) -> Result<String, Box<Answer>> {
        let label = (POD_UID.to_string(), pod::uid(pod).to_string());
        let filter =
            PodSandboxFilter { label_selector: std::iter::once(label).collect(), ..PodSandboxFilter::default() };
        let listed = self
            .runtime
            .runtime
            .clone()
            .list_pod_sandbox(ListPodSandboxRequest { filter: Some(filter) })
            .await
            .map_err(boxed)?;
        let ready = listed.into_inner().items.into_iter().find(|one| one.state() == PodSandboxState::SandboxReady);
        ready.map(|one| one.id).ok_or_else(|| {
            let message = format!("failed to find sandboxes for pod \"{}\"", pod::display(pod));
            Box::new(text(StatusCode::NOT_FOUND, message))
        })
    }

    /// One command, its output as the answer.
    pub(super) async fn run_command(&self, uri: &Uri, route: Route) -> Answer {
        let Route::Run(place) = route else { return text(StatusCode::NOT_FOUND, "404 page not found") };
        let id = match self.container_id(&place) {
            Ok(id) => id,
            Err(answer) => return *answer,
        };
        let command = all(&query(uri), "cmd").iter().flat_map(|line| line.split(' ')).map(str::to_string).collect();
        match self
            .runtime
            .runtime
            .clone()
            .exec_sync(ExecSyncRequest { container_id: id, cmd: command, timeout: 0 })
            .await
        {
            Ok(answer) => {
                let answer = answer.into_inner();
                let output = String::from_utf8_lossy(&[answer.stdout, answer.stderr].concat()).into_owned();
                match answer.exit_code {
                    0 => text(StatusCode::OK, output),
                    code => text(StatusCode::INTERNAL_SERVER_ERROR, format!("command exited with {code}: {output}")),
                }
            }
            Err(status) => refused(status),
        }
    }
}

fn boxed(status: tonic::Status) -> Box<Answer> {
    Box::new(refused(status))
}

fn refused(status: tonic::Status) -> Answer {
    let code = match status.code() {
        tonic::Code::NotFound => StatusCode::NOT_FOUND,
        tonic::Code::InvalidArgument => StatusCode::BAD_REQUEST,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    };
    text(code, crate::images::print_status(&status))
}

/// The status of any of the pod's containers.
pub(super) fn container_status<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    let lists = [&status.container_statuses, &status.init_container_statuses, &status.ephemeral_container_statuses];
    lists.into_iter().flatten().flatten().find(|one| one.name == name)
}

fn all(query: &[(String, String)], key: &str) -> Vec<String> {
    query.iter().filter(|(known, _)| known == key).map(|(_, value)| value.clone()).collect()
}

/// The API's names and the kubelet's own older ones.
fn streams(query: &[(String, String)]) -> Streams {
    let on = |names: [&str; 2]| {
        query.iter().any(|(key, value)| names.contains(&key.as_str()) && matches!(value.as_str(), "1" | "true"))
    };
    let tty = on(["tty", "tty"]);
    Streams {
        stdin: on(["input", "stdin"]),
        stdout: on(["output", "stdout"]),
        stderr: on(["error", "stderr"]) && !tty,
        tty,
    }
}
