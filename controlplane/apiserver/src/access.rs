//! The gate: who asks, and whether they may.
//!
//! Must not know: what a request does once it is let in.

use http::request::Parts;
use pintle_api::status::Status;

use crate::auth::UserInfo;
use crate::handler::InProcess;
use crate::request::RequestInfo;
use crate::server::ApiServer;

/// The user behind the request, once it is allowed to do what it asks.
pub async fn admit(_server: &ApiServer, parts: &mut Parts, _info: &RequestInfo) -> Result<UserInfo, Status> {
    match parts.extensions.remove::<InProcess>() {
        Some(InProcess(user)) => Ok(user),
        None => Err(Status::unauthorized()),
    }
}
