//! The gate: who asks, on whose behalf, and whether they may.
//!
//! Must not know: what a request does once it is let in.

use std::collections::BTreeMap;

use http::HeaderMap;
use http::request::Parts;
use pintle_api::status::Status;

use crate::auth::user::{AUTHENTICATED, SERVICE_ACCOUNT_PREFIX};
use crate::auth::{Attributes, UserInfo, forbidden};
use crate::call::Call;
use crate::handler::{InProcess, PeerUser};
use crate::request::RequestInfo;
use crate::server::ApiServer;

/// The user behind the request, once it is allowed to do what it asks.
pub fn admit(server: &ApiServer, parts: &mut Parts, info: &RequestInfo) -> Result<UserInfo, Status> {
    let user = match parts.extensions.remove::<InProcess>() {
        Some(InProcess(user)) => user,
        None => match parts.extensions.get::<PeerUser>() {
            Some(PeerUser(named)) => Result::clone(named)?,
            None => server.authenticator.authenticate(&parts.headers)?,
        },
    };
    let user = impersonated(server, &parts.headers, user)?;
    authorize(server, &attributes(&user, info))?;
    Ok(user)
}

/// Whether the user may, as the error a client reads.
pub fn authorize(server: &ApiServer, asked: &Attributes<'_>) -> Result<(), Status> {
    server.authorizer.authorize(asked).map_err(|reason| forbidden(asked, &reason))
}

/// An update or an apply that is about to create its object needs the right to create, too.
pub fn may_create(server: &ApiServer, call: &Call) -> Result<(), Status> {
    may(server, &call.user, &call.info, "create")
}

/// Whether the user may `verb` what the request is about.
pub fn may(server: &ApiServer, user: &UserInfo, info: &RequestInfo, verb: &str) -> Result<(), Status> {
    if info.verb == verb {
        return Ok(());
    }
    authorize(server, &Attributes { verb, ..attributes(user, info) })
}

fn attributes<'a>(user: &'a UserInfo, info: &'a RequestInfo) -> Attributes<'a> {
    Attributes {
        user,
        verb: &info.verb,
        namespace: &info.namespace,
        group: &info.group,
        version: &info.version,
        resource: &info.resource,
        subresource: &info.subresource,
        name: &info.name,
        path: &info.path,
        is_resource: info.is_resource,
    }
}

const EXTRA: &str = "impersonate-extra-";

/// The user that the `Impersonate-*` headers name, where the real one may impersonate each part of it.
fn impersonated(server: &ApiServer, headers: &HeaderMap, user: UserInfo) -> Result<UserInfo, Status> {
    let all = |name: &str| -> Vec<String> {
        headers.get_all(name).iter().filter_map(|it| it.to_str().ok()).map(str::to_owned).collect()
    };
    let name = all("impersonate-user").into_iter().next().unwrap_or_default();
    let (groups, uid, extra) = (all("impersonate-group"), all("impersonate-uid"), extra(headers));
    if name.is_empty() {
        if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            return Ok(user);
        }
        return Err(Status::internal("requested impersonation without impersonating a user"));
    }
    check(server, &user, &name, &groups, &uid, &extra)?;
    Ok(assumed(name, groups, uid.into_iter().next().unwrap_or_default(), extra))
}

fn extra(headers: &HeaderMap) -> BTreeMap<String, Vec<String>> {
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let Some(key) = name.as_str().strip_prefix(EXTRA) else { continue };
        let key = percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned();
        extra.entry(key).or_default().extend(value.to_str().ok().map(str::to_owned));
    }
    extra
}

fn check(
    server: &ApiServer,
    user: &UserInfo,
    name: &str,
    groups: &[String],
    uid: &[String],
    extra: &BTreeMap<String, Vec<String>>,
) -> Result<(), Status> {
    let asked = |group: &'static str, resource: &'static str, subresource: &str, namespace: &str, name: &str| {
        let asked = Attributes {
            user,
            verb: "impersonate",
            namespace,
            group,
            version: "v1",
            resource,
            subresource,
            name,
            path: "",
            is_resource: true,
        };
        authorize(server, &asked)
    };
    match name.strip_prefix(SERVICE_ACCOUNT_PREFIX).and_then(|rest| rest.split_once(':')) {
        Some((namespace, name)) => asked("", "serviceaccounts", "", namespace, name)?,
        None => asked("", "users", "", "", name)?,
    }
    groups.iter().try_for_each(|group| asked("", "groups", "", "", group))?;
    uid.iter().try_for_each(|uid| asked("authentication.k8s.io", "uids", "", "", uid))?;
    for (key, values) in extra {
        values.iter().try_for_each(|value| asked("authentication.k8s.io", "userextras", key, "", value))?;
    }
    Ok(())
}

/// As upstream fills in what was not said: a service account's groups, and that everybody named is authenticated.
fn assumed(name: String, groups: Vec<String>, uid: String, extra: BTreeMap<String, Vec<String>>) -> UserInfo {
    let account = UserInfo { name: name.clone(), ..UserInfo::default() };
    let mut user = match account.service_account_name() {
        Some((namespace, account)) if groups.is_empty() => UserInfo::service_account(namespace, account, ""),
        _ => UserInfo { name, groups, ..UserInfo::default() },
    };
    if user.name != crate::auth::user::ANONYMOUS && !user.is_in(AUTHENTICATED) {
        user.groups.push(AUTHENTICATED.to_owned());
    }
    UserInfo { uid, extra, ..user }
}
