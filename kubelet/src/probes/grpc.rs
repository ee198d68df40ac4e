//! The gRPC health check (grpc.health.v1).
//!
//! Must not know: thresholds.

use std::time::Duration;

use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;

use super::Outcome;

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HealthCheckResponse {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// `SERVING` in `ServingStatus`.
const SERVING: i32 = 1;

pub async fn check(host: &str, port: i32, service: &str, limit: Duration) -> Outcome {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_string() };
    match tokio::time::timeout(limit, ask(&host, port, service)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::Failure(format!(
            "timeout: failed to connect service \"{host}:{port}\" within {limit:?}: context deadline exceeded"
        )),
    }
}

async fn ask(host: &str, port: i32, service: &str) -> Outcome {
    let connected = match Endpoint::from_shared(format!("http://{host}:{port}")) {
        Ok(endpoint) => endpoint.connect().await,
        Err(error) => return Outcome::Unknown(error.to_string()),
    };
    let channel = match connected {
        Ok(channel) => channel,
        Err(error) => {
            return Outcome::Failure(format!("error: failed to connect to service at \"{host}:{port}\": {error}"));
        }
    };
    let mut client = tonic::client::Grpc::new(channel);
    if let Err(error) = client.ready().await {
        return Outcome::Failure(error.to_string());
    }
    let codec = tonic_prost::ProstCodec::<HealthCheckRequest, HealthCheckResponse>::default();
    let request = tonic::Request::new(HealthCheckRequest { service: service.into() });
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    match client.unary(request, path, codec).await {
        Ok(answer) if answer.get_ref().status == SERVING => Outcome::Success,
        Ok(answer) => {
            Outcome::Failure(format!("service unhealthy (responded with \"{}\")", status_name(answer.get_ref().status)))
        }
        Err(status) if status.code() == tonic::Code::Unimplemented => Outcome::Failure(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)".into(),
        ),
        Err(status) => {
            Outcome::Failure(format!("error: health rpc probe failed: {}", crate::images::print_status(&status)))
        }
    }
}

fn status_name(status: i32) -> &'static str {
    match status {
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "UNKNOWN",
    }
}
