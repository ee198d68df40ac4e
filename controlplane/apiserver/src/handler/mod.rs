//! A request's way through the server: who asks, may they, is there room, what is it about, and the answer.
//!
//! Must not know: how connections are made, or how a verb is carried out.

pub mod in_flight;

use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{Method, Request, Response};
use pintle_api::status::Status;

use crate::auth::UserInfo;
use crate::body::{Body, RequestBody};
use crate::call::{Call, Warnings};
use crate::negotiate;
use crate::render::gzip;
use crate::request::{Query, RequestInfo};
use crate::server::ApiServer;
use crate::verbs::reviews;
use crate::{access, aggregation, relay, render, verbs, wellknown};

impl ApiServer {
    /// Answers one request. It is carried out in a task of its own: a client that goes away leaves nothing half done.
    pub async fn handle(self: Arc<Self>, request: Request<RequestBody>) -> Response<Body> {
        let (parts, body) = request.into_parts();
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let info = match RequestInfo::new(&parts.method, parts.uri.path(), &query) {
            Ok(info) => info,
            Err(bad) => return render::status(&Status::bad_request(bad.0), Default::default()),
        };
        let started = Instant::now();
        let compresses = parts.method == Method::GET && !info.is_long_running() && gzip::is_accepted(&parts.headers);
        let seen = self.telemetry.begin(&info);
        let bound = if info.is_long_running() { None } else { Some(self.deadline(&query)) };
        let server = self.clone();
        let work = tokio::spawn(async move { server.answer(parts, info, query, body).await });
        let response = match bound {
            None => work.await,
            Some(bound) => match tokio::time::timeout(bound, work).await {
                Ok(done) => done,
                Err(_) => Ok(render::status(&timed_out(), Default::default())),
            },
        };
        let response = response.unwrap_or_else(|crash| {
            tracing::error!(error = %crash, "a request's handler crashed");
            render::status(&Status::internal("the handler crashed"), Default::default())
        });
        self.telemetry.end(seen, response.status().as_u16(), started.elapsed());
        if compresses { gzip::compressed(response) } else { response }
    }

    fn deadline(&self, query: &Query) -> std::time::Duration {
        let asked = query.get("timeout").and_then(|t| t.strip_suffix('s')).and_then(|t| t.parse::<u64>().ok());
        let most = self.config.request_timeout;
        asked.map_or(most, |seconds| std::time::Duration::from_secs(seconds.max(1)).min(most))
    }

    async fn answer(
        self: Arc<Self>,
        mut parts: Parts,
        info: RequestInfo,
        query: Query,
        body: RequestBody,
    ) -> Response<Body> {
        let errors = negotiate::accepted_for_errors(&parts.headers, &query);
        let user = match access::admit(&self, &mut parts, &info) {
            Ok(user) => user,
            Err(status) => return render::status(&status, errors),
        };
        let _place = match (!info.is_long_running()).then(|| self.in_flight.enter(&info.verb)).transpose() {
            Ok(place) => place,
            Err(status) => return render::status(&status, errors),
        };
        if let Some(remote) = self.aggregation.remote(&info) {
            return Box::pin(aggregation::serve(&self, &remote, parts, &info, &user, body)).await;
        }
        if !info.is_resource {
            return wellknown::serve(&self, parts, &info, &query, &user, body).await;
        }
        let Some(kind) = self.kind(&info.group, &info.version, &info.resource) else {
            return render::nothing_here();
        };
        if relay::is_relayed(&info) {
            return Box::pin(relay::serve(&self, parts, &info, &query, &user, body)).await;
        }
        let negotiate = if reviews::is_review(kind.kind) { negotiate::accepted_plain } else { negotiate::accepted };
        let accepted = match negotiate(&parts.headers, &query) {
            Ok(accepted) if kind.custom.is_some() => accepted.without_protobuf(),
            Ok(accepted) => accepted,
            Err(status) => return render::status(&status, errors),
        };
        let call = Call { info, query, headers: parts.headers, user, accepted, kind, warnings: Warnings::default() };
        if let Some(deprecated) = kind.deprecation() {
            call.warnings.add(deprecated);
        }
        let call = Arc::new(call);
        // on the heap at once: whatever verbs need would be copied with every step on the way here
        let reply = Box::pin(verbs::carry_out(&self, &call, body)).await;
        render::reply(&call, reply)
    }
}

fn timed_out() -> Status {
    Status::new(504, "Timeout", "Timeout: request did not complete within the allotted timeout")
}

/// The identity of a caller in this process. Only `client` makes one: no header can.
#[derive(Clone)]
pub(crate) struct InProcess(pub UserInfo);

/// Whom a client's certificate names, read once for its connection; of a certificate that names nobody, the refusal.
#[derive(Clone)]
pub(crate) struct PeerUser(pub Arc<Result<UserInfo, Status>>);

/// Where a client's connection comes from.
#[derive(Clone, Copy)]
pub(crate) struct PeerAddress(pub std::net::IpAddr);
