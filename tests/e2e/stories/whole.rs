//! Stories of the whole cluster: it starts, stops and goes.
//!
//! Must not know: what runs in it.

use crate::cluster::Cluster;
use crate::isolation::SCRATCH;
use crate::traces::Traces;

pub fn a_machine_becomes_a_cluster(cluster: &mut Cluster) {
    cluster.up();
    assert_eq!(cluster.sh("curl -sk https://127.0.0.1:6443/livez"), "ok");
    assert_eq!(cluster.sh("stat -c %a /etc/pintle/admin.kubeconfig"), "600");
}

/// What `pintle up` says while it refuses to start.
#[track_caller]
fn refused(cluster: &Cluster, arguments: &[&str]) -> String {
    let said = cluster.pintle("up").args(arguments).output().expect("pintle");
    let text = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(1), "pintle up {arguments:?}: {text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

pub fn a_start_that_cannot_work_says_why(cluster: &mut Cluster) {
    let said = refused(cluster, &[]);
    assert!(said.contains("pintle runs already (pid "), "{said}");
    let elsewhere = format!("{SCRATCH}/elsewhere");
    let said = refused(cluster, &["--run-dir", &elsewhere, "--data-dir", &elsewhere]);
    assert!(said.contains("port 6443, which the API server needs, is taken by pintle (pid "), "{said}");
    assert!(said.contains("port 10250, which the kubelet needs"), "{said}");
    let said = refused(cluster, &["--cluster-cidr", "10.96.0.0/16"]);
    assert!(said.contains("overlap"), "{said}");
    let mut nobody = std::process::Command::new("unshare");
    nobody.args(["--user", env!("CARGO_BIN_EXE_pintle"), "up", "--run-dir", &elsewhere, "--data-dir", &elsewhere]);
    let said = nobody.output().expect("unshare");
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("not root: run it with sudo"), "{said}");
}

pub fn a_configuration_file_that_cannot_be_is_told(cluster: &mut Cluster) {
    let file = format!("{SCRATCH}/broken.yaml");
    let told = |text: &[u8]| {
        std::fs::write(&file, text).expect("a file");
        let said = refused(cluster, &["--config", &file]);
        assert!(said.contains(&file) && said.len() < 2000, "{said}");
        said
    };
    let said = told(b"secureport: 6443\n");
    assert!(said.contains("unknown field `secureport`"), "{said}");
    let said = told(b"securePort: a few\n");
    assert!(said.contains("securePort: invalid type: string \"a few\", expected u16"), "{said}");
    told(b"securePort: 65536\n");
    told(b"securePort: 1\nsecurePort: 2\n");
    told(b"- not\n- a map\n");
    told(b"securePort: [\n");
    told(b"\x00\xff\xfe binary");
    told(&b"a: {".repeat(5000));
    let bomb: String = (1..40).map(|n| format!("a{n}: &a{n} [*a{0}, *a{0}, *a{0}, *a{0}]\n", n - 1)).collect();
    told(format!("a0: &a0 [x]\n{bomb}").as_bytes());
    let said = refused(cluster, &["--config", "/nowhere.yaml"]);
    assert!(said.contains("reading /nowhere.yaml: No such file or directory"), "{said}");
    let said = refused(cluster, &["--config", "/etc"]);
    assert!(said.contains("reading /etc: Is a directory"), "{said}");
}

pub fn stopping_leaves_containers_running(cluster: &mut Cluster) {
    cluster
        .sh("kubectl create deployment still --image=$WEB1 && kubectl rollout status deployment/still --timeout=60s");
    let address = cluster.sh("kubectl get pods -l app=still -o jsonpath='{.items[0].status.podIP}'");
    cluster.stop_pintle();
    assert_eq!(cluster.sh(&format!("curl -s --max-time 5 http://{address}/")), "web 1");
    cluster.up();
    cluster.sh("kubectl wait --for=condition=Ready pod -l app=still --timeout=60s");
}

pub fn a_damaged_store_is_named_and_loses_nothing(cluster: &mut Cluster) {
    for n in 0..3 {
        cluster.sh(&format!("kubectl create configmap ballast-{n}"));
    }
    let containers = "{.items[*].status.containerStatuses[0].containerID}";
    let before = cluster.sh(&format!("kubectl get pods -o jsonpath='{containers}'"));
    cluster.stop_pintle();
    let newest = cluster.sh("ls -t /var/lib/pintle/store/journal.* | head -1");
    for (file, at) in [("/var/lib/pintle/store/store.redb", 3), (&*newest, 100)] {
        let whole = std::fs::read(file).expect("the file");
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        std::fs::write(file, &damaged).expect("its damage");
        let said = refused(cluster, &[]);
        assert!(said.contains(file) && said.contains("is damaged or foreign"), "{said}");
        assert!(said.contains("Put a copy of /var/lib/pintle/store back"), "{said}");
        assert!(std::fs::read(file).expect("the file") == damaged, "it is left as it was");
        std::fs::write(file, &whole).expect("the copy");
    }
    cluster.up();
    cluster.sh("kubectl wait --for=condition=Ready pod -l app=still --timeout=60s");
    assert_eq!(cluster.sh("kubectl get configmaps -o name | grep -c ballast"), "3");
    assert_eq!(cluster.sh(&format!("kubectl get pods -o jsonpath='{containers}'")), before);
}

pub fn reset_leaves_nothing(cluster: &mut Cluster) {
    let unsure = cluster.pintle("reset").output().expect("pintle");
    assert!(!unsure.status.success(), "reset asks for --yes");
    let said = cluster.pintle("reset").arg("--yes").output().expect("pintle");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    let left = Traces::look().since(&cluster.before);
    assert!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
}
