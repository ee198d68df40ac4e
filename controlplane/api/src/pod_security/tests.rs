//! The standards: what each level lets through, and in which words it does not.

use serde_json::json;

use super::*;

fn standard(level: Level) -> Standard {
    Standard { level, version: Version::Latest }
}

#[test]
fn a_plain_pod_is_baseline_but_not_restricted() {
    let pod = json!({ "spec": { "containers": [{ "name": "c" }] } });
    assert!(violations(standard(Level::Baseline), &pod).is_empty());
    assert_eq!(
        details(&violations(standard(Level::Restricted), &pod)),
        "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
         \"Localhost\")"
    );
}

#[test]
fn a_confined_pod_is_restricted() {
    let pod = json!({ "spec": {
        "securityContext": { "runAsNonRoot": true, "seccompProfile": { "type": "RuntimeDefault" } },
        "volumes": [{ "name": "v", "emptyDir": {} }],
        "containers": [{ "name": "c", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"], "add": ["NET_BIND_SERVICE"] } } }],
    } });
    assert_eq!(violations(standard(Level::Restricted), &pod), []);
}

#[test]
fn every_check_of_the_baseline_names_who_does_what() {
    let cases = [
        (json!({ "hostPID": true, "hostNetwork": true }), "host namespaces (hostNetwork=true, hostPID=true)"),
        (json!({ "volumes": [{ "name": "v", "hostPath": { "path": "/" } }] }), "hostPath volumes (volume \"v\")"),
        (
            json!({ "containers": [{ "name": "a", "ports": [{ "hostPort": 80 }] }, { "name": "b", "ports": [{ "hostPort": 81 }] }] }),
            "hostPort (containers \"a\", \"b\" use hostPorts 80, 81)",
        ),
        (
            json!({ "containers": [{ "name": "a", "securityContext": { "privileged": true } }] }),
            "privileged (container \"a\" must not set securityContext.privileged=true)",
        ),
        (
            json!({ "containers": [{ "name": "a", "securityContext": { "capabilities": { "add": ["SYS_ADMIN"] } } }] }),
            "non-default capabilities (container \"a\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            json!({ "securityContext": { "seccompProfile": { "type": "Unconfined" } } }),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            json!({ "securityContext": { "appArmorProfile": { "type": "Unconfined" } } }),
            "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")",
        ),
        (
            json!({ "securityContext": { "seLinuxOptions": { "type": "spc_t", "user": "u" } } }),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
        ),
        (
            json!({ "securityContext": { "sysctls": [{ "name": "kernel.msgmax", "value": "1" }] } }),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            json!({ "containers": [{ "name": "a", "livenessProbe": { "httpGet": { "host": "h" } } }] }),
            "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"h\")",
        ),
        (
            json!({ "containers": [{ "name": "a", "securityContext": { "procMount": "Unmasked" } }] }),
            "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            json!({ "securityContext": { "windowsOptions": { "hostProcess": true } } }),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(details(&violations(standard(Level::Baseline), &json!({ "spec": spec }))), expected);
    }
}

#[test]
fn restricted_pods_have_no_volumes_of_the_host_and_do_not_run_as_root() {
    let pod = json!({ "spec": {
        "securityContext": { "runAsNonRoot": false, "runAsUser": 0, "seccompProfile": { "type": "RuntimeDefault" } },
        "volumes": [{ "name": "v", "hostPath": { "path": "/" } }],
        "containers": [],
    } });
    assert_eq!(
        details(&violations(standard(Level::Restricted), &pod)),
        "restricted volume types (volume \"v\" uses restricted volume type \"hostPath\"), \
         runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false), \
         runAsUser=0 (pod must not set runAsUser=0)"
    );
}

#[test]
fn a_standard_is_as_strict_as_its_version() {
    let pod = json!({ "spec": { "securityContext": { "sysctls": [{ "name": "net.ipv4.tcp_rmem" }] } } });
    let at = |minor| Standard { level: Level::Baseline, version: Version::Minor(minor) };
    assert!(!violations(at(31), &pod).is_empty() && violations(at(32), &pod).is_empty());
}

#[test]
fn labels_say_what_is_enforced_and_a_stricter_one_warns_too() {
    let policy = |labels: &[(&str, &'static str)]| {
        Policy::of(|key| {
            labels.iter().find(|(name, _)| key == format!("pod-security.kubernetes.io/{name}")).map(|(_, value)| *value)
        })
    };
    let (plain, errors) = policy(&[]);
    assert!(plain.is_privileged() && errors.is_empty());
    let (enforced, _) = policy(&[("enforce", "baseline"), ("enforce-version", "v1.30")]);
    assert_eq!(
        (enforced.enforce.to_string(), enforced.warn.to_string()),
        ("baseline:v1.30".into(), "baseline:v1.30".into())
    );
    let (wrong, errors) = policy(&[("enforce", "none"), ("warn-version", "v2")]);
    assert_eq!(wrong.enforce.level, Level::Restricted);
    assert_eq!(
        errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"none\": \
             must be one of privileged, baseline, restricted",
            "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"v2\": must be \"latest\" or \"v1.x\"",
        ]
    );
}
