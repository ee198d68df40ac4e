//! Probes and lifecycle hooks.
//!
//! Must not know: how they are carried out.

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::{invalid, invalid_number, names, nonnegative, required, text};
use crate::field::{Error, Errors, Path};

pub(super) fn of_container(container: &core::Container, path: &Path, errors: &mut Errors) {
    if let Some(lifecycle) = &container.lifecycle {
        let at = path.child("lifecycle");
        for (field, hook) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
            if let Some(hook) = hook {
                handler(&Handler::of_hook(hook), &at.child(field), errors);
            }
        }
    }
    if let Some(liveness) = &container.liveness_probe {
        one_success(liveness, &path.child("livenessProbe"), errors);
    }
    if let Some(readiness) = &container.readiness_probe {
        let at = path.child("readinessProbe");
        probe(readiness, &at, errors);
        if let Some(seconds) = readiness.termination_grace_period_seconds {
            let at = at.child("terminationGracePeriodSeconds");
            errors.push(Error::invalid(&at, seconds, "must not be set for readinessProbes"));
        }
    }
    if let Some(startup) = &container.startup_probe {
        one_success(startup, &path.child("startupProbe"), errors);
    }
}

/// Init containers that end have nothing to probe.
pub(super) fn forbidden(container: &core::Container, path: &Path, errors: &mut Errors) {
    let set = [
        ("lifecycle", container.lifecycle.is_some()),
        ("livenessProbe", container.liveness_probe.is_some()),
        ("readinessProbe", container.readiness_probe.is_some()),
        ("startupProbe", container.startup_probe.is_some()),
    ];
    for (field, _) in set.into_iter().filter(|(_, is_set)| *is_set) {
        let detail = "may not be set for init containers without restartPolicy=Always";
        errors.push(Error::forbidden(&path.child(field), detail));
    }
}

fn one_success(it: &core::Probe, path: &Path, errors: &mut Errors) {
    probe(it, path, errors);
    let threshold = it.success_threshold.unwrap_or(0);
    if threshold != 1 {
        errors.push(Error::invalid(&path.child("successThreshold"), threshold, "must be 1"));
    }
}

fn probe(probe: &core::Probe, path: &Path, errors: &mut Errors) {
    handler(&Handler::of_probe(probe), path, errors);
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (field, number) in numbers {
        nonnegative(number.map(i64::from), &path.child(field), errors);
    }
    if let Some(seconds) = probe.termination_grace_period_seconds.filter(|seconds| *seconds <= 0) {
        let at = path.child("terminationGracePeriodSeconds");
        errors.push(Error::invalid(&at, seconds, "must be greater than 0"));
    }
}

/// One of the things that probes and hooks can do.
enum Action<'a> {
    Exec(&'a core::ExecAction),
    HttpGet(&'a core::HTTPGetAction),
    TcpSocket(&'a core::TCPSocketAction),
    Grpc(&'a core::GRPCAction),
    Sleep(&'a core::SleepAction),
}

impl Action<'_> {
    fn field(&self) -> &'static str {
        match self {
            Self::Exec(_) => "exec",
            Self::HttpGet(_) => "httpGet",
            Self::TcpSocket(_) => "tcpSocket",
            Self::Grpc(_) => "grpc",
            Self::Sleep(_) => "sleep",
        }
    }

    fn check(&self, path: &Path, errors: &mut Errors) {
        match self {
            Self::Exec(exec) if exec.command.as_ref().is_none_or(Vec::is_empty) => {
                errors.push(Error::required(&path.child("command"), ""));
            }
            Self::Exec(_) => {}
            Self::HttpGet(get) => http_get(get, path, errors),
            Self::TcpSocket(socket) => port(&socket.port, &path.child("port"), errors),
            Self::Grpc(grpc) => {
                let number = i64::from(grpc.port);
                invalid_number(names::port_number(number), number, &path.child("port"), errors);
            }
            Self::Sleep(sleep) => nonnegative(Some(sleep.seconds), &path.child("seconds"), errors),
        }
    }
}

/// What a probe or hook is to do, in upstream's order; there should be one.
struct Handler<'a>(Vec<Action<'a>>);

impl<'a> Handler<'a> {
    fn of_probe(probe: &'a core::Probe) -> Self {
        let all = [
            probe.exec.as_ref().map(Action::Exec),
            probe.http_get.as_ref().map(Action::HttpGet),
            probe.tcp_socket.as_ref().map(Action::TcpSocket),
            probe.grpc.as_ref().map(Action::Grpc),
        ];
        Self(all.into_iter().flatten().collect())
    }

    fn of_hook(hook: &'a core::LifecycleHandler) -> Self {
        let all = [
            hook.exec.as_ref().map(Action::Exec),
            hook.http_get.as_ref().map(Action::HttpGet),
            hook.tcp_socket.as_ref().map(Action::TcpSocket),
            hook.sleep.as_ref().map(Action::Sleep),
        ];
        Self(all.into_iter().flatten().collect())
    }
}

fn handler(handler: &Handler<'_>, path: &Path, errors: &mut Errors) {
    let Some((first, more)) = handler.0.split_first() else {
        errors.push(Error::required(path, "must specify a handler type"));
        return;
    };
    first.check(&path.child(first.field()), errors);
    for action in more {
        let detail = "may not specify more than 1 handler type";
        errors.push(Error::forbidden(&path.child(action.field()), detail));
    }
}

fn http_get(get: &core::HTTPGetAction, path: &Path, errors: &mut Errors) {
    required(text(&get.path), &path.child("path"), errors);
    port(&get.port, &path.child("port"), errors);
    let scheme = text(&get.scheme);
    if !matches!(scheme, "HTTP" | "HTTPS") {
        errors.push(Error::not_supported(&path.child("scheme"), scheme, &["HTTP", "HTTPS"]));
    }
    for header in get.http_headers.iter().flatten() {
        invalid(names::http_header_name(&header.name), &header.name, &path.child("httpHeaders"), errors);
    }
}

/// A port by number or by the name of one of the container's.
pub(crate) fn port(port: &IntOrString, path: &Path, errors: &mut Errors) {
    match port {
        IntOrString::Int(number) => {
            let number = i64::from(*number);
            invalid_number(names::port_number(number), number, path, errors);
        }
        IntOrString::String(name) => invalid(names::port_name(name), name, path, errors),
    }
}
