//! Whole requests and the whole specification they make, as readable text.
//!
//! Must not know: the rules; the texts in `golden/` are looked at when they change.

use oci_spec::image::Config;
use oci_spec::runtime::{Capability, LinuxDeviceType, Spec};
use pintle_cri::v1;
use serde_json::Value;

use crate::*;

/// One line per value, sorted by its path; sets are sorted.
fn text(spec: &Spec) -> String {
    let mut lines = Vec::new();
    flatten("", &serde_json::to_value(spec).unwrap(), &mut lines);
    lines.sort();
    lines.join("\n") + "\n"
}

fn flatten(path: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| flatten(&format!("{path}.{name}"), value, lines))
        }
        Value::Array(list) if list.iter().all(|one| !one.is_object() && !one.is_array()) => {
            let mut words: Vec<_> = list.iter().map(plain).collect();
            if path.contains(".capabilities.") {
                words.sort();
            }
            lines.push(format!("{path} = {}", words.join(" ")));
        }
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, value)| flatten(&format!("{path}[{index:02}]"), value, lines));
        }
        value => lines.push(format!("{path} = {}", plain(value))),
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Compares with the text kept in `src/golden/`; `UPDATE_GOLDEN=1` writes it.
fn check(name: &str, spec: &Spec) {
    let path = format!("{}/src/golden/{name}.txt", env!("CARGO_MANIFEST_DIR"));
    let text = text(spec);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(format!("{}/src/golden", env!("CARGO_MANIFEST_DIR"))).unwrap();
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "{name}");
}

fn host() -> Host {
    let vda = DeviceNode {
        path: "/dev/vda".into(),
        kind: LinuxDeviceType::B,
        major: 254,
        minor: 0,
        mode: 0o60660,
        uid: 0,
        gid: 6,
    };
    Host {
        hostname: "node-1".into(),
        cgroup_driver: CgroupDriver::Cgroupfs,
        swap: true,
        hugetlb: true,
        capabilities: vec![Capability::Chown, Capability::SysAdmin, Capability::NetAdmin],
        seccomp: true,
        recursive_read_only: true,
        id_mapped_mounts: true,
        devices: vec![vda],
        unprivileged_ports: true,
        ..Host::default()
    }
}

fn pod(privileged: bool, options: v1::NamespaceOption) -> v1::PodSandboxConfig {
    let context =
        v1::LinuxSandboxSecurityContext { privileged, namespace_options: Some(options), ..Default::default() };
    v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: "web".into(),
            uid: "u-1".into(),
            namespace: "default".into(),
            attempt: 0,
        }),
        hostname: "web".into(),
        log_directory: "/var/log/pods/web".into(),
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent: "/kubepods/burstable/podu-1".into(),
            security_context: Some(context),
            sysctls: [("net.core.somaxconn".to_owned(), "1024".to_owned())].into(),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn image() -> Config {
    let mut image = Config::default();
    image.set_entrypoint(Some(vec!["/entry".into()]));
    image.set_cmd(Some(vec!["serve".into()]));
    image.set_env(Some(vec!["PATH=/bin:/usr/bin".into(), "MODE=image".into()]));
    image.set_user(Some("ann".into()));
    image.set_working_dir(Some("/srv".into()));
    image.set_volumes(Some(vec!["/data".into()]));
    image
}

fn own_namespaces() -> v1::NamespaceOption {
    v1::NamespaceOption { pid: v1::NamespaceMode::Container.into(), ..Default::default() }
}

fn container(context: v1::LinuxContainerSecurityContext) -> v1::ContainerConfig {
    let profile = |kind: v1::security_profile::ProfileType| v1::SecurityProfile {
        profile_type: kind.into(),
        localhost_ref: String::new(),
    };
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: "main".into(), attempt: 2 }),
        envs: vec![v1::KeyValue { key: "MODE".into(), value: b"pod".to_vec() }],
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(v1::LinuxContainerResources {
                cpu_period: 100_000,
                cpu_quota: 50_000,
                cpu_shares: 512,
                memory_limit_in_bytes: 128 << 20,
                oom_score_adj: 900,
                ..Default::default()
            }),
            security_context: Some(v1::LinuxContainerSecurityContext {
                seccomp: context.seccomp.clone().or(Some(profile(v1::security_profile::ProfileType::Unconfined))),
                ..context
            }),
        }),
        ..Default::default()
    }
}

fn made(sandbox: &v1::PodSandboxConfig, config: &v1::ContainerConfig, cdi: &[String]) -> Result<Spec, Invalid> {
    let (image, host) = (image(), host());
    let at = |name: &str| std::path::PathBuf::from(format!("/run/pintle/runtime/sandboxes/S/ns/{name}"));
    let namespaces = NamespacePaths {
        net: at("net"),
        ipc: at("ipc"),
        uts: at("uts"),
        pid: Some(at("pid")),
        user: Some(at("user")),
        target_pid: None,
    };
    let files = SandboxFiles {
        hostname: Some("/s/hostname".into()),
        hosts: Some("/s/hosts".into()),
        resolv_conf: Some("/s/resolv.conf".into()),
        shm: Some("/s/shm".into()),
    };
    let found = |mount: &v1::Mount| MountSource { path: mount.host_path.clone().into(), ..MountSource::default() };
    let sources: Vec<_> = config.mounts.iter().map(found).collect();
    container_spec(&ContainerInput {
        id: "C",
        config,
        sandbox_id: "S",
        sandbox,
        image: Some(&image),
        image_name: "example.com/web:1",
        rootfs: "/var/lib/pintle/runtime/containers/C/rootfs".into(),
        users: UserDatabase { passwd: "root:x:0:0::/:\nann:x:1000:1000::/:\n", group: "ann:x:1000:\naudio:x:63:ann\n" },
        namespaces: &namespaces,
        files: &files,
        mounts: &sources,
        volumes: &image_volumes(config, Some(&image), std::path::Path::new("/c/volumes")),
        devices: &[],
        cdi_specs: cdi,
        seccomp_profile: None,
        selinux_level: "",
        apparmor: Some(&AppArmor { loaded: vec![], default: Some("pintle-default".into()) }),
        host: &host,
    })
}

#[test]
fn a_usual_container() {
    let mut config = container(v1::LinuxContainerSecurityContext {
        namespace_options: Some(own_namespaces()),
        no_new_privs: true,
        masked_paths: vec!["/proc/kcore".into()],
        readonly_paths: vec!["/proc/sys".into()],
        ..Default::default()
    });
    let mount = |container: &str, host: &str, readonly| v1::Mount {
        container_path: container.into(),
        host_path: host.into(),
        readonly,
        ..Default::default()
    };
    config.mounts = vec![mount("/var/run/secrets/x", "/p/secret", true), mount("/etc/hosts", "/p/hosts", false)];
    check("usual", &made(&pod(false, own_namespaces()), &config, &[]).unwrap());
}

#[test]
fn a_privileged_container_on_the_hosts_network() {
    let node = v1::NamespaceMode::Node.into();
    let options = v1::NamespaceOption { network: node, pid: node, ipc: node, ..Default::default() };
    let config = container(v1::LinuxContainerSecurityContext {
        namespace_options: Some(options.clone()),
        privileged: true,
        run_as_user: Some(v1::Int64Value { value: 0 }),
        masked_paths: vec!["/proc/kcore".into()],
        ..Default::default()
    });
    check("privileged", &made(&pod(true, options.clone()), &config, &[]).unwrap());
    assert_eq!(
        made(&pod(false, options), &config, &[]).unwrap_err().to_string(),
        "linux.security_context.privileged: no privileged container allowed in sandbox"
    );
}

#[test]
fn a_container_in_a_user_namespace() {
    let line = v1::IdMapping { host_id: 65_536, container_id: 0, length: 65_536 };
    let mode = v1::NamespaceMode::Pod.into();
    let users = v1::UserNamespace { mode, uids: vec![line], gids: vec![line] };
    let options = v1::NamespaceOption { userns_options: Some(users), ..own_namespaces() };
    let context = v1::LinuxContainerSecurityContext {
        namespace_options: Some(options.clone()),
        readonly_rootfs: true,
        ..Default::default()
    };
    check("user-namespace", &made(&pod(false, options), &container(context), &[]).unwrap());
}

#[test]
fn a_device_of_cdi() {
    let spec = "cdiVersion: 0.6.0\nkind: example.com/disk\ncontainerEdits: {env: [A=all]}\ndevices:\n- name: one\n  \
                containerEdits:\n    env: [DISK=1]\n    deviceNodes: [{path: /dev/disk, hostPath: /dev/vda, permissions: r}]\n    \
                mounts: [{hostPath: /lib/d, containerPath: /lib/d, options: [ro, bind]}]\n    \
                hooks: [{hookName: createContainer, path: /bin/hook, args: [hook, x]}]\n";
    let context = v1::LinuxContainerSecurityContext { namespace_options: Some(own_namespaces()), ..Default::default() };
    let mut config = container(context);
    config.cdi_devices = vec![v1::CdiDevice { name: "example.com/disk=one".into() }];
    config.annotations = [("cdi.k8s.io/x".to_owned(), "example.com/disk=one".to_owned())].into();
    let sandbox = pod(false, own_namespaces());
    check("cdi", &made(&sandbox, &config, &[spec.to_owned()]).unwrap());
    let reason = |config: &v1::ContainerConfig, specs: &[String]| made(&sandbox, config, specs).unwrap_err().reason;
    assert_eq!(reason(&config, &[]), "CDI device injection failed: unresolvable CDI devices example.com/disk=one");
    assert!(reason(&config, &["kind: [".to_owned()]).starts_with("invalid CDI specification: "));
    config.cdi_devices[0].name = "disk".into();
    assert_eq!(reason(&config, &[]), "\"disk\" is not a name like vendor.com/class=device");
}

#[test]
fn an_image_mount_is_read_only_and_has_no_host_path() {
    let context = v1::LinuxContainerSecurityContext { namespace_options: Some(own_namespaces()), ..Default::default() };
    let mut config = container(context);
    let image = Some(v1::ImageSpec { image: "example.com/data".into(), ..Default::default() });
    config.mounts = vec![v1::Mount { container_path: "/models".into(), image, ..Default::default() }];
    let sandbox = pod(false, own_namespaces());
    assert_eq!(
        made(&sandbox, &config, &[]).unwrap_err().reason,
        "ImageVolumeMountFailed: readonly must be true while mount image (at \"/models\")"
    );
    config.mounts[0].readonly = true;
    assert!(made(&sandbox, &config, &[]).is_ok());
}

#[test]
fn the_process_of_a_sandbox() {
    let options = v1::NamespaceOption::default();
    let files = SandboxFiles { shm: Some("/s/shm".into()), ..SandboxFiles::default() };
    let mut image = Config::default();
    image.set_entrypoint(Some(vec!["/pause".into()]));
    let spec = sandbox_spec(&SandboxInput {
        id: "S",
        config: &pod(false, options),
        image: Some(&image),
        image_name: "pause",
        rootfs: "rootfs".into(),
        namespaces: None,
        files: &files,
        sysctls_set: false,
        seccomp_profile: None,
        selinux_level: "",
        host: &Host { least_oom_score_adj: Some(0), ..host() },
    });
    check("sandbox", &spec.unwrap());
}
