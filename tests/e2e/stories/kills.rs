//! Pintle is killed while kubectl applies, scales and deletes: nothing that was acknowledged is lost, no container is
//! touched, and nothing runs that no pod speaks of.
//!
//! `E2E_KILLS` says how often (2).
//!
//! Must not know: how writes are kept.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::cluster::Cluster;
use crate::isolation::SCRATCH;

const WRITERS: usize = 3;
/// A bound, not an expectation.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);

/// Each notes what it asks for, and that it was acknowledged, in `asked.N` and `acknowledged.N`.
const LOADS: [(&str, &str); 3] = [
    (
        "apply",
        r#"printf 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: load-%s}\ndata: {count: "%s"}\n' $W $i |
           kubectl apply --request-timeout=10s -f -"#,
    ),
    (
        "come-and-go",
        r#"kubectl create --request-timeout=10s configmap cargo-$W-$i && echo "+$i" >> kept.$L.$W &&
           { test $((i % 2)) = 0 || { echo "?$i" >> kept.$L.$W;
             kubectl delete --request-timeout=10s --wait=false configmap cargo-$W-$i && echo "-$i" >> kept.$L.$W; }; }"#,
    ),
    ("scale", r"kubectl scale --request-timeout=10s deployment/load-$W --replicas=$((i % 4 + 1))"),
];

pub fn killing_pintle_under_load_loses_nothing(cluster: &mut Cluster) {
    let kills = std::env::var("E2E_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(2_u32);
    cluster.sh("kubectl create deployment steady --image=$WEB1 --replicas=3");
    for writer in 0..WRITERS {
        cluster.sh(&format!("kubectl create deployment load-{writer} --image=$SHELL_IMAGE"));
    }
    cluster.sh("kubectl rollout status deployment/steady --timeout=120s");
    let steady = containers(cluster);
    for round in 0..kills {
        let dir = PathBuf::from(SCRATCH).join(format!("kills-{round}"));
        fs::create_dir_all(&dir).expect("a folder");
        let loads = begin(cluster, &dir);
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").subsec_millis();
        std::thread::sleep(Duration::from_millis(3000 + u64::from(clock) * 5));
        cluster.kill_pintle();
        end(loads, &dir);
        let started = Instant::now();
        cluster.up();
        let took = started.elapsed();
        let acknowledged: usize = (0..WRITERS).map(|writer| compare(cluster, &dir, writer)).sum();
        cluster.sh("kubectl get configmap -o name | grep cargo- | xargs -r kubectl delete");
        assert_eq!(containers(cluster), steady, "containers that nobody touched");
        settled(cluster);
        println!("       kill {round}: {acknowledged} acknowledged writes are there, up again in {took:.1?}");
    }
    cluster.sh("kubectl delete deployment steady load-0 load-1 load-2 --wait");
    cluster.sh("kubectl delete configmap load-0 load-1 load-2 --ignore-not-found");
    settled(cluster);
}

/// However far a sandbox has come when its pod is deleted, nothing of it stays.
pub fn pods_deleted_while_they_start_leave_nothing(cluster: &mut Cluster) {
    const POD: &str = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: brief-#, labels: {app: load-0}}\nspec: \
        {terminationGracePeriodSeconds: 1, containers: [{name: c, image: IMAGE, command: [sleep, infinity]}]}\n";
    let file = PathBuf::from(SCRATCH).join("brief.yaml");
    let pod = |n: u32| POD.replace('#', &n.to_string()).replace("IMAGE", &cluster.sh("echo $SHELL_IMAGE"));
    fs::write(&file, (0..20).map(pod).collect::<String>()).expect("a file");
    let file = file.display();
    for _ in 0..3 {
        cluster.sh(&format!(
            "kubectl create -f {file} & while kill -0 $!; do kubectl delete pods -l app=load-0 --wait=false; done
             wait; kubectl delete pods -l app=load-0"
        ));
        settled(cluster);
    }
}

fn begin(cluster: &Cluster, dir: &Path) -> Vec<Child> {
    let mut loads = Vec::new();
    for (name, line) in LOADS {
        for writer in 0..WRITERS {
            let script = format!(
                "cd {}; L={name} W={writer} i=0; until test -e stop; do i=$((i+1)); echo $i >> asked.$L.$W; \
                 {{ {line}; }} > /dev/null 2>&1 && echo $i >> acknowledged.$L.$W; done",
                dir.display()
            );
            loads.push(cluster.command(&script).spawn().expect("a shell"));
        }
    }
    loads
}

fn end(loads: Vec<Child>, dir: &Path) {
    fs::write(dir.join("stop"), "").expect("a file");
    for mut load in loads {
        load.wait().expect("its end");
    }
}

fn lines(dir: &Path, file: &str, name: &str, writer: usize) -> Vec<String> {
    let text = fs::read_to_string(dir.join(format!("{file}.{name}.{writer}"))).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// What a writer's acknowledged writes left is there, or what it asked for last; how many were acknowledged.
fn compare(cluster: &Cluster, dir: &Path, writer: usize) -> usize {
    let mut count = 0;
    for (name, question) in [
        ("apply", format!("kubectl get configmap load-{writer} -o jsonpath='{{.data.count}}'")),
        ("scale", format!("kubectl get deployment load-{writer} -o jsonpath='{{.spec.replicas}}'")),
    ] {
        let acknowledged = lines(dir, "acknowledged", name, writer);
        let Some(last) = acknowledged.last() else { continue };
        let shown = |n: &String| match name {
            "scale" => (n.parse::<u32>().unwrap_or_default() % 4 + 1).to_string(),
            _ => n.clone(),
        };
        let asked = lines(dir, "asked", name, writer);
        let later = asked.iter().skip_while(|n| *n != last).map(shown);
        let found = cluster.sh(&question);
        assert!(later.collect::<Vec<_>>().contains(&found), "{name} {writer}: {last} was acknowledged; found {found}");
        count += acknowledged.len();
    }
    count + come_and_gone(cluster, dir, writer)
}

fn come_and_gone(cluster: &Cluster, dir: &Path, writer: usize) -> usize {
    let there = cluster.sh("kubectl get configmaps -o name");
    let there: BTreeSet<&str> = there.lines().filter_map(|line| line.strip_prefix("configmap/cargo-")).collect();
    let kept = lines(dir, "kept", "come-and-go", writer);
    let has = |mark: &str, n: &str| kept.contains(&format!("{mark}{n}"));
    for n in kept.iter().filter_map(|line| line.strip_prefix('+')) {
        let found = there.contains(format!("{writer}-{n}").as_str());
        assert!(found || has("?", n), "cargo-{writer}-{n} was made, and is lost");
        assert!(!found || !has("-", n), "cargo-{writer}-{n} was deleted, and is there");
    }
    kept.iter().filter(|line| !line.starts_with('?')).count()
}

/// IDs and restart counts of what runs throughout.
fn containers(cluster: &Cluster) -> String {
    let shown = "{range .items[*]}{.metadata.uid} {.status.containerStatuses[0].containerID} \
                 {.status.containerStatuses[0].restartCount}{\"\\n\"}{end}";
    cluster.sh(&format!("kubectl get pods -l app=steady -o jsonpath='{shown}' | sort"))
}

/// Waits until as many pods run as are asked for, and one monitor for each pod that runs.
fn settled(cluster: &Cluster) {
    const OURS: &str = "-l 'app in (steady, load-0, load-1, load-2)'";
    let number = |line: String| cluster.sh(&line).split_whitespace().filter_map(|n| n.parse::<usize>().ok()).sum();
    let started = Instant::now();
    loop {
        let wanted: usize = number(format!("kubectl get deployments {OURS} -o jsonpath='{{.items[*].spec.replicas}}'"));
        let ready: usize = number(format!("kubectl get pods {OURS} --no-headers | grep -c ' 1/1 .*Running' || true"));
        let there: usize = number(format!("kubectl get pods {OURS} -o name | wc -l"));
        let running: usize = number("kubectl get pods -A --field-selector=status.phase=Running -o name | wc -l".into());
        let monitors = monitors();
        if wanted == ready && wanted == there && running == monitors {
            return;
        }
        let seen = format!(
            "{wanted} pods are wanted, {there} are there, {ready} ready; {running} of all run, by {monitors} monitors"
        );
        assert!(started.elapsed() < SETTLED_WITHIN, "{seen}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn monitors() -> usize {
    let processes = fs::read_dir("/proc").expect("processes").flatten();
    let lines = processes.filter_map(|process| fs::read_to_string(process.path().join("cmdline")).ok());
    lines.filter(|line| line.starts_with("pintle-monitor")).count()
}
