//! Whether this node takes a pod: upstream's predicates and its allowed sysctls.
//!
//! Must not know: how a pod that is refused is told of.

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use pintle_api::resources::{Amounts, requests_with_overhead};

use super::pod as spec_of;
use super::quantity;

/// What pods may have of the node together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Room {
    /// Thousandths.
    pub cpu: i64,
    /// Bytes.
    pub memory: i64,
    pub ephemeral_storage: i64,
    pub pods: i64,
}

/// Why a pod is not taken, as its status has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub reason: String,
    pub message: String,
}

fn refusal(reason: &str, message: impl Into<String>) -> Refusal {
    Refusal { reason: reason.into(), message: message.into() }
}

/// Whether the pod can be here beside `others`. `unsafe_sysctls` are allowed beyond the safe ones, patterns ending in
/// `*` among them. Sources: pkg/kubelet/lifecycle/predicate.go, pkg/kubelet/sysctl.
///
/// # Errors
/// The first reason against it.
pub fn admit(pod: &Pod, others: &[&Pod], room: Room, unsafe_sysctls: &[String]) -> Result<(), Refusal> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    sysctls(spec, unsafe_sysctls)?;
    operating_system(pod, spec)?;
    let others: Vec<&PodSpec> =
        others.iter().copied().filter(|other| counts(other)).filter_map(|it| it.spec.as_ref()).collect();
    resources(spec, &others, room)?;
    ports(spec, &others)
}

/// Whether the pod gets the supplemental groups that it asks for; `strict`: the runtime can give these alone.
///
/// # Errors
/// It asks for them alone, and would get its image's, too.
pub fn supplemental_groups(pod: &Pod, strict: bool) -> Result<(), Refusal> {
    let context = pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
    let asked = context.and_then(|context| context.supplemental_groups_policy.as_deref());
    if asked == Some("Strict") && !strict {
        let message = "SupplementalGroupsPolicy=Strict is not supported in this node";
        return Err(refusal("SupplementalGroupsPolicyNotSupported", message));
    }
    Ok(())
}

/// Whether the node has what the pod asks for beside what `others` were allocated.
///
/// # Errors
/// What there is too little of.
pub fn fits(pod: &Pod, others: &[&Pod], room: Room) -> Result<(), Refusal> {
    let others: Vec<&PodSpec> =
        others.iter().copied().filter(|other| counts(other)).filter_map(|it| it.spec.as_ref()).collect();
    pod.spec.as_ref().map_or(Ok(()), |spec| resources(spec, &others, room))
}

fn counts(pod: &Pod) -> bool {
    !spec_of::has_ended(pod)
}

fn operating_system(pod: &Pod, spec: &PodSpec) -> Result<(), Refusal> {
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get("kubernetes.io/os"));
    if label.is_some_and(|label| label != "linux") {
        let message = "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label";
        return Err(refusal("PodOSSelectorNodeLabelDoesNotMatch", message));
    }
    if spec.os.as_ref().is_some_and(|os| os.name != "linux") {
        return Err(refusal("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"));
    }
    Ok(())
}

fn resources(spec: &PodSpec, others: &[&PodSpec], room: Room) -> Result<(), Refusal> {
    let asked = requests_with_overhead(spec);
    let used: Vec<Amounts> = others.iter().map(|other| requests_with_overhead(other)).collect();
    let of = |amounts: &Amounts, name: &str| {
        let Some(amount) = amounts.get(name) else { return 0 };
        let written: Quantity = amount.written();
        if name == "cpu" { quantity::milli(&written) } else { quantity::value(&written) }
    };
    let number = i64::try_from(others.len()).unwrap_or(i64::MAX);
    let table = [("cpu", room.cpu), ("memory", room.memory), ("ephemeral-storage", room.ephemeral_storage)];
    let amounts = table.map(|(name, capacity)| {
        (name, of(&asked, name), used.iter().map(|amounts| of(amounts, name)).sum::<i64>(), capacity)
    });
    for (name, requested, used, capacity) in [("pods", 1, number, room.pods)].into_iter().chain(amounts) {
        if requested > 0 && requested > capacity - used {
            let message = format!(
                "Node didn't have enough resource: {name}, requested: {requested}, used: {used}, capacity: {capacity}"
            );
            return Err(refusal(&format!("OutOf{name}"), message));
        }
    }
    Ok(())
}

/// Ports of the host: `(address, protocol, port)`.
fn host_ports(spec: &PodSpec) -> impl Iterator<Item = (&str, &str, i32)> {
    let sidecars = spec.init_containers.iter().flatten().filter(|container| spec_of::is_sidecar(container));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|container| container.ports.iter().flatten());
    ports.filter_map(|port| {
        let address = port.host_ip.as_deref().filter(|ip| !ip.is_empty()).unwrap_or("0.0.0.0");
        Some((address, port.protocol.as_deref().unwrap_or("TCP"), port.host_port.filter(|port| *port > 0)?))
    })
}

fn ports(spec: &PodSpec, others: &[&PodSpec]) -> Result<(), Refusal> {
    let any = |address: &str| matches!(address, "0.0.0.0" | "::");
    let clash = |one: (&str, &str, i32), other: (&str, &str, i32)| {
        (one.1, one.2) == (other.1, other.2) && (one.0 == other.0 || any(one.0) || any(other.0))
    };
    let taken = host_ports(spec).any(|one| others.iter().any(|other| host_ports(other).any(|it| clash(one, it))));
    if taken {
        let why = "node(s) didn't have free ports for the requested pod ports";
        return Err(refusal("NodePorts", format!("Predicate NodePorts failed: {why}")));
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Namespace {
    Ipc,
    Net,
}

/// Namespaced and without influence on other pods; every kernel that Pintle runs on has them so.
const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// The namespace that a sysctl, or all that begin so, belong to.
fn namespace(name: &str) -> Option<Namespace> {
    let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|prefix| name.starts_with(prefix));
    match name {
        "kernel.sem" => Some(Namespace::Ipc),
        _ if ipc => Some(Namespace::Ipc),
        _ => name.starts_with("net.").then_some(Namespace::Net),
    }
}

/// With dots between its parts: a slash as the first separator makes the others slashes, too.
fn normalized(name: &str) -> String {
    match name.find(['.', '/']).and_then(|at| name.get(at..=at)) {
        Some("/") => name
            .chars()
            .map(|one| {
                if one == '/' {
                    '.'
                } else if one == '.' {
                    '/'
                } else {
                    one
                }
            })
            .collect(),
        _ => name.into(),
    }
}

/// Checks the pattern of `allowedUnsafeSysctls`.
///
/// # Errors
/// It is none of a namespace.
pub fn check_pattern(pattern: &str) -> Result<(), String> {
    let name = normalized(pattern);
    let name = name.strip_suffix('*').unwrap_or(&name);
    namespace(name).map(drop).ok_or_else(|| format!("the sysctls {name:?} are not known to be namespaced"))
}

fn sysctls(spec: &PodSpec, allowed: &[String]) -> Result<(), Refusal> {
    let asked = spec.security_context.iter().flat_map(|context| context.sysctls.iter().flatten());
    for sysctl in asked {
        let name = normalized(&sysctl.name);
        let matches = |pattern: &String| {
            let pattern = normalized(pattern);
            pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
        };
        let problem = match namespace(&name).filter(|_| SAFE.contains(&&*name) || allowed.iter().any(matches)) {
            None => format!("{name:?} not allowlisted"),
            Some(Namespace::Ipc) if spec.host_ipc == Some(true) => {
                format!("{name:?} not allowed with host IPC enabled")
            }
            Some(Namespace::Net) if spec.host_network == Some(true) => {
                format!("{name:?} not allowed with host Net enabled")
            }
            Some(_) => continue,
        };
        return Err(refusal("SysctlForbidden", format!("forbidden sysctl: {problem}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::pod;
    use super::*;

    const ROOM: Room = Room { cpu: 2000, memory: 1 << 30, ephemeral_storage: 1 << 40, pods: 3 };

    fn said(spec: &str, others: &[&Pod]) -> String {
        let refused = admit(&pod(spec), others, ROOM, &["net.core.*".into(), "kernel/msgmax".into()]).unwrap_err();
        format!("{}: {}", refused.reason, refused.message)
    }

    #[test]
    fn a_node_takes_what_fits_beside_the_others() {
        let asks = |cpu: &str, memory: &str| {
            format!("  containers:\n  - {{name: c, resources: {{requests: {{cpu: {cpu}, memory: {memory}}}}}}}\n")
        };
        let other = pod(&asks("1500m", "512Mi"));
        let mut done = other.clone();
        done.status.get_or_insert_default().phase = Some("Succeeded".into());
        assert_eq!(admit(&pod(&asks("500m", "512Mi")), &[&other, &done], ROOM, &[]), Ok(()));
        assert_eq!(
            said(&asks("501m", "1"), &[&other]),
            "OutOfcpu: Node didn't have enough resource: cpu, requested: 501, used: 1500, capacity: 2000"
        );
        assert!(said(&asks("1m", "513Mi"), &[&other]).starts_with("OutOfmemory: "));
        let small = pod("  containers: [{name: c}]\n");
        assert!(said("  containers: [{name: c}]\n", &[&small, &small, &small]).starts_with("OutOfpods: "));
    }

    #[test]
    fn a_port_of_the_host_is_given_once() {
        let with = |ip: &str| {
            format!("  containers:\n  - {{name: c, ports: [{{containerPort: 80, hostPort: 80, hostIP: \"{ip}\"}}]}}\n")
        };
        let other = pod(&with("10.0.0.1"));
        assert_eq!(admit(&pod(&with("10.0.0.2")), &[&other], ROOM, &[]), Ok(()));
        assert!(said(&with(""), &[&other]).starts_with("NodePorts: Predicate NodePorts failed"));
    }

    #[test]
    fn sysctls_are_safe_or_allowed_and_not_the_hosts() {
        let with = |name: &str, more: &str| {
            format!(
                "  containers: [{{name: c}}]\n  securityContext: {{sysctls: [{{name: {name}, value: \"1\"}}]}}\n{more}"
            )
        };
        let allowed = ["net.core.*".to_owned(), "kernel/msgmax".to_owned()];
        for name in ["net.ipv4.tcp_syncookies", "net/ipv4/tcp_syncookies", "net.core.somaxconn", "kernel.msgmax"] {
            assert_eq!(admit(&pod(&with(name, "")), &[], ROOM, &allowed), Ok(()), "{name}");
        }
        assert_eq!(
            said(&with("kernel.sem", ""), &[]),
            r#"SysctlForbidden: forbidden sysctl: "kernel.sem" not allowlisted"#
        );
        assert_eq!(
            said(&with("net.core.somaxconn", "  hostNetwork: true\n"), &[]),
            r#"SysctlForbidden: forbidden sysctl: "net.core.somaxconn" not allowed with host Net enabled"#
        );
        assert!(check_pattern("kernel.shm*").is_ok() && check_pattern("vm.swappiness").is_err());
    }

    #[test]
    fn another_systems_pods_are_not_taken() {
        assert!(said("  containers: [{name: c}]\n  os: {name: windows}\n", &[]).starts_with("PodOSNotSupported"));
    }
    #[test]
    fn groups_beyond_the_pods_own_are_refused_where_the_runtime_cannot_leave_them_out() {
        let strict = pod("  containers: [{name: c}]\n  securityContext: {supplementalGroupsPolicy: Strict}\n");
        let merge = pod("  containers: [{name: c}]\n  securityContext: {supplementalGroupsPolicy: Merge}\n");
        assert_eq!(supplemental_groups(&strict, true), Ok(()));
        assert_eq!(supplemental_groups(&merge, false), Ok(()));
        let refused = supplemental_groups(&strict, false).unwrap_err();
        assert_eq!(refused.message, "SupplementalGroupsPolicy=Strict is not supported in this node");
    }
}
