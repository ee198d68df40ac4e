//! The checks of both standards, each with the version it exists since.
//!
//! Must not know: levels' labels, or who is told.

use serde_json::Value;

use super::Violation;
use super::profiles::{app_armor, se_linux, seccomp_baseline, seccomp_restricted};
use super::subject::{Subject, Words, containers, each, name, plural, quoted, setters};

type Test = fn(&Subject<'_>) -> Option<Violation>;

pub struct Check {
    pub id: &'static str,
    pub since: u32,
    /// The check of the baseline that this one, of the restricted standard, takes the place of.
    pub overrides: Option<&'static str>,
    pub test: Test,
}

const fn check(id: &'static str, since: u32, test: Test) -> Check {
    Check { id, since, overrides: None, test }
}

const fn instead(id: &'static str, since: u32, overrides: &'static str, test: Test) -> Check {
    Check { id, since, overrides: Some(overrides), test }
}

/// In the order of their names, as upstream runs them.
pub const BASELINE: [Check; 12] = [
    check("appArmorProfile", 0, app_armor),
    check("capabilities_baseline", 0, capabilities),
    check("hostNamespaces", 0, host_namespaces),
    check("hostPathVolumes", 0, host_paths),
    check("hostPorts", 0, host_ports),
    check("hostProbesAndHostLifecycle", 34, host_probes),
    check("privileged", 0, privileged),
    check("procMount", 0, |subject| if subject.has_own_users() { None } else { proc_mount(subject) }),
    check("seLinuxOptions", 0, se_linux),
    check("seccompProfile_baseline", 0, seccomp_baseline),
    check("sysctls", 0, sysctls),
    check("windowsHostProcess", 0, host_process),
];

pub const RESTRICTED: [Check; 7] = [
    check("allowPrivilegeEscalation", 8, escalation),
    instead("capabilities_restricted", 22, "capabilities_baseline", all_dropped),
    instead("procMount_restricted", 35, "procMount", proc_mount),
    instead("restrictedVolumes", 0, "hostPathVolumes", volumes),
    check("runAsNonRoot", 0, non_root),
    check("runAsUser", 23, user),
    instead("seccompProfile_restricted", 19, "seccompProfile_baseline", seccomp_restricted),
];

pub fn violation(reason: &str, detail: String) -> Option<Violation> {
    Some(Violation { reason: reason.to_owned(), detail })
}

fn capabilities(subject: &Subject<'_>) -> Option<Violation> {
    const ALLOWED: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let detail = added(subject, &ALLOWED)?;
    violation("non-default capabilities", detail)
}

/// Who adds capabilities beyond `allowed`, and which.
fn added(subject: &Subject<'_>, allowed: &[&str]) -> Option<String> {
    let mut found = Words::new();
    let bad = subject.those(|container| {
        let added = each(&container["securityContext"]["capabilities"]["add"]).filter_map(Value::as_str);
        let before = found.len();
        let forbidden: Vec<&str> = added.filter(|one| !allowed.contains(one)).collect();
        found.extend(forbidden.iter().map(|&one| one.to_owned()));
        found.len() > before || !forbidden.is_empty()
    });
    let detail =
        || format!("{} must not include {} in securityContext.capabilities.add", containers(&bad), quoted(&found));
    (!bad.is_empty()).then(detail)
}

fn host_namespaces(subject: &Subject<'_>) -> Option<Violation> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| subject.spec[*field] == true);
    let shared: Vec<String> = shared.map(|field| format!("{field}=true")).collect();
    if shared.is_empty() { None } else { violation("host namespaces", shared.join(", ")) }
}

fn host_paths(subject: &Subject<'_>) -> Option<Violation> {
    let bad: Vec<&str> =
        each(&subject.spec["volumes"]).filter(|volume| !volume["hostPath"].is_null()).map(name).collect();
    if bad.is_empty() {
        return None;
    }
    violation("hostPath volumes", format!("{} {}", plural("volume", "volumes", bad.len()), quoted(&bad)))
}

fn host_ports(subject: &Subject<'_>) -> Option<Violation> {
    let mut ports = Words::new();
    let bad = subject.those(|container| {
        let used = each(&container["ports"]).filter_map(|port| port["hostPort"].as_i64()).filter(|port| *port != 0);
        let used: Vec<String> = used.map(|port| port.to_string()).collect();
        ports.extend(used.iter().cloned());
        !used.is_empty()
    });
    if bad.is_empty() {
        return None;
    }
    let list: Vec<&str> = ports.iter().map(String::as_str).collect();
    let (uses, what) = (plural("uses", "use", bad.len()), plural("hostPort", "hostPorts", list.len()));
    violation("hostPort", format!("{} {uses} {what} {}", containers(&bad), list.join(", ")))
}

/// Probes and hooks that ask another host than the pod.
fn host_probes(subject: &Subject<'_>) -> Option<Violation> {
    let (mut hosts, mut bad) = (Words::new(), Words::new());
    for container in subject.containers() {
        let hooks = &container["lifecycle"];
        let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| &container[probe]);
        for handler in probes.into_iter().chain([&hooks["postStart"], &hooks["preStop"]]) {
            let said = [&handler["httpGet"]["host"], &handler["tcpSocket"]["host"]];
            for host in said.into_iter().filter_map(Value::as_str).filter(|host| !host.is_empty()) {
                hosts.insert(host.to_owned());
                bad.insert(name(container).to_owned());
            }
        }
    }
    if bad.is_empty() {
        return None;
    }
    let bad: Vec<&str> = bad.iter().map(String::as_str).collect();
    let uses = plural("uses", "use", bad.len());
    let what = plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len());
    violation("probe or lifecycle host", format!("{} {uses} {what} {}", containers(&bad), quoted(&hosts)))
}

fn privileged(subject: &Subject<'_>) -> Option<Violation> {
    let bad = subject.those(|container| container["securityContext"]["privileged"] == true);
    if bad.is_empty() {
        return None;
    }
    violation("privileged", format!("{} must not set securityContext.privileged=true", containers(&bad)))
}

fn proc_mount(subject: &Subject<'_>) -> Option<Violation> {
    let mut kinds = Words::new();
    let bad = subject.those(|container| {
        let kind = container["securityContext"]["procMount"].as_str().filter(|kind| *kind != "Default");
        kinds.extend(kind.map(str::to_owned));
        kind.is_some()
    });
    if bad.is_empty() {
        return None;
    }
    let kinds = quoted(&kinds);
    violation("procMount", format!("{} must not set securityContext.procMount to {kinds}", containers(&bad)))
}

fn sysctls(subject: &Subject<'_>) -> Option<Violation> {
    /// With the version that allowed them first.
    const ALLOWED: [(&str, u32); 12] = [
        ("kernel.shm_rmid_forced", 0),
        ("net.ipv4.ip_local_port_range", 0),
        ("net.ipv4.tcp_syncookies", 0),
        ("net.ipv4.ping_group_range", 0),
        ("net.ipv4.ip_unprivileged_port_start", 0),
        ("net.ipv4.ip_local_reserved_ports", 27),
        ("net.ipv4.tcp_keepalive_time", 29),
        ("net.ipv4.tcp_fin_timeout", 29),
        ("net.ipv4.tcp_keepalive_intvl", 29),
        ("net.ipv4.tcp_keepalive_probes", 29),
        ("net.ipv4.tcp_rmem", 32),
        ("net.ipv4.tcp_wmem", 32),
    ];
    let allowed = |name: &str| ALLOWED.iter().any(|(one, since)| *one == name && subject.minor >= *since);
    let set = each(&subject.spec["securityContext"]["sysctls"]).map(name);
    let bad: Vec<&str> = set.filter(|name| !allowed(name)).collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

fn host_process(subject: &Subject<'_>) -> Option<Violation> {
    let is_host = |holder: &Value| holder["securityContext"]["windowsOptions"]["hostProcess"] == true;
    let who = setters(is_host(subject.spec), &subject.those(is_host))?;
    violation("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}

fn escalation(subject: &Subject<'_>) -> Option<Violation> {
    if subject.minor >= 25 && subject.is_windows() {
        return None;
    }
    let bad = subject.those(|container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    if bad.is_empty() {
        return None;
    }
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&bad));
    violation("allowPrivilegeEscalation != false", detail)
}

fn all_dropped(subject: &Subject<'_>) -> Option<Violation> {
    if subject.minor >= 25 && subject.is_windows() {
        return None;
    }
    let keeps = subject.those(|container| {
        let mut dropped = each(&container["securityContext"]["capabilities"]["drop"]);
        !dropped.any(|one| one == "ALL")
    });
    let keeps = (!keeps.is_empty())
        .then(|| format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeps)));
    let details: Vec<String> = keeps.into_iter().chain(added(subject, &["NET_BIND_SERVICE"])).collect();
    if details.is_empty() { None } else { violation("unrestricted capabilities", details.join("; ")) }
}

fn volumes(subject: &Subject<'_>) -> Option<Violation> {
    const ALLOWED: [&str; 9] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let has = |volume: &Value, kinds: &[&str]| kinds.iter().any(|kind| !volume[*kind].is_null());
    let bad: Vec<&Value> = each(&subject.spec["volumes"]).filter(|volume| !has(volume, &ALLOWED)).collect();
    if bad.is_empty() {
        return None;
    }
    let kind = |volume: &&Value| {
        let mut fields = volume.as_object().into_iter().flatten();
        let found = fields.find(|(field, value)| *field != "name" && !value.is_null());
        found.map_or("unknown", |(field, _)| field.as_str()).to_owned()
    };
    let kinds: Words = bad.iter().map(kind).collect();
    let names: Vec<&str> = bad.iter().map(|volume| name(volume)).collect();
    let (volumes, uses) = (plural("volume", "volumes", names.len()), plural("uses", "use", names.len()));
    let what = plural("restricted volume type", "restricted volume types", kinds.len());
    violation("restricted volume types", format!("{volumes} {} {uses} {what} {}", quoted(&names), quoted(&kinds)))
}

fn non_root(subject: &Subject<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    if subject.has_own_users() {
        return None;
    }
    let of = |holder: &Value| holder["securityContext"]["runAsNonRoot"].as_bool();
    let pod = of(subject.spec);
    let explicit = subject.those(|container| of(container) == Some(false));
    if let Some(who) = setters(pod == Some(false), &explicit) {
        return violation(REASON, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    let silent = subject.those(|container| of(container).is_none() && pod != Some(true));
    if silent.is_empty() {
        return None;
    }
    violation(REASON, format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&silent)))
}

fn user(subject: &Subject<'_>) -> Option<Violation> {
    if subject.has_own_users() {
        return None;
    }
    let is_root = |holder: &Value| holder["securityContext"]["runAsUser"] == 0;
    let who = setters(is_root(subject.spec), &subject.those(is_root))?;
    violation("runAsUser=0", format!("{who} must not set runAsUser=0"))
}
