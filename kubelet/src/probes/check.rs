//! One run of a probe: exec, HTTP, TCP or gRPC.
//!
//! Must not know: thresholds, periods.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, ExecAction, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use pintle_cri::Runtime;
use pintle_cri::v1::ExecSyncRequest;
use tokio::net::TcpStream;

use super::{grpc, http, seconds};

/// What a probe said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// With what the event shows.
    Failure(String),
    /// The probe itself did not work.
    Unknown(String),
}

impl Outcome {
    /// As the metric names it.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Success => "successful",
            Self::Failure(_) => "failed",
            Self::Unknown(_) => "unknown",
        }
    }
}

pub async fn check(runtime: &Runtime, probe: &Probe, container: &Container, id: &str, pod_ip: &str) -> Outcome {
    let limit = Duration::from_secs(seconds(probe.timeout_seconds, 1));
    if let Some(action) = &probe.exec {
        return exec(runtime, action, id, limit).await;
    }
    if let Some(action) = &probe.http_get {
        return match http::Request::of(action, container, pod_ip) {
            Ok(request) => http_outcome(&request, http::send(&request, limit).await),
            Err(error) => Outcome::Unknown(error),
        };
    }
    if let Some(action) = &probe.tcp_socket {
        let host = action.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| pod_ip.into());
        return match port(&action.port, container) {
            Ok(port) => tcp(&host, port, limit).await,
            Err(error) => Outcome::Unknown(error),
        };
    }
    match &probe.grpc {
        Some(action) => grpc::check(pod_ip, action.port, action.service.as_deref().unwrap_or_default(), limit).await,
        None => Outcome::Unknown("missing probe handler".into()),
    }
}

async fn exec(runtime: &Runtime, action: &ExecAction, id: &str, limit: Duration) -> Outcome {
    let timeout = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
    let request = ExecSyncRequest { container_id: id.into(), cmd: action.command.clone().unwrap_or_default(), timeout };
    match runtime.runtime.clone().exec_sync(request).await {
        Ok(answer) => {
            let answer = answer.into_inner();
            let output = shown(&[answer.stdout, answer.stderr].concat());
            if answer.exit_code == 0 { Outcome::Success } else { Outcome::Failure(output) }
        }
        Err(status) if status.code() == tonic::Code::DeadlineExceeded => {
            Outcome::Failure(format!("command timed out: {}", status.message()))
        }
        Err(status) => Outcome::Unknown(crate::images::print_status(&status)),
    }
}

/// Upstream shows at most 10 KiB of a probe's output.
fn shown(output: &[u8]) -> String {
    String::from_utf8_lossy(output.get(..10 << 10).unwrap_or(output)).into_owned()
}

fn http_outcome(request: &http::Request, answer: Result<http::Answer, String>) -> Outcome {
    match answer {
        Ok(answer) if (200..400).contains(&answer.status) => Outcome::Success,
        Ok(answer) => Outcome::Failure(format!("HTTP probe failed with statuscode: {}", answer.status)),
        Err(error) => Outcome::Failure(format!("Get \"{}\": {error}", request.url())),
    }
}

async fn tcp(host: &str, port: u16, limit: Duration) -> Outcome {
    let place = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    match tokio::time::timeout(limit, TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Outcome::Success,
        Ok(Err(error)) => Outcome::Failure(format!("dial tcp {place}: {}", http::dial_error(&error))),
        Err(_) => Outcome::Failure(format!("dial tcp {place}: i/o timeout")),
    }
}

/// A port by number, or by the name the container gives it.
pub fn port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_deref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    let number = number.ok_or_else(|| format!("couldn't find port: {port:?} in container \"{}\"", container.name))?;
    u16::try_from(number).ok().filter(|number| *number > 0).ok_or_else(|| format!("invalid port number: {number}"))
}
