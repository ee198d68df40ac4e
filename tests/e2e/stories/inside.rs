//! Reaching into containers: logs, commands, files, ports.
//!
//! Must not know: who made them.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cluster::Cluster;

pub fn logs_are_read_and_followed(cluster: &mut Cluster) {
    assert_eq!(cluster.sh("kubectl logs job/once 2>/dev/null"), "from the job\nand done");
    assert_eq!(cluster.sh("kubectl logs job/once --tail=1 2>/dev/null"), "and done");
    let prefixed = cluster.sh("kubectl logs -l app=web --prefix --tail=-1");
    assert_eq!(prefixed.lines().filter(|line| line.ends_with("web] serving")).count(), 3, "{prefixed}");
    cluster.sh("kubectl run counter --restart=Never --image=$SHELL_IMAGE -- sh -c 'for i in 1 2 3 4 5; do echo $i; sleep 0.3; done'");
    cluster.reaches("kubectl logs counter", "1");
    assert_eq!(cluster.sh("kubectl logs -f counter"), "1\n2\n3\n4\n5", "following ends with the container");
    cluster.sh("kubectl delete pod counter --wait=false");
}

pub fn logs_of_the_container_before_and_of_files_before_are_kept(cluster: &mut Cluster) {
    cluster.sh(
        "kubectl run twice --restart=OnFailure --image=$SHELL_IMAGE -- sh -c 'test -e /tmp/x || echo round; exit 1'",
    );
    cluster.sh("kubectl wait --for=jsonpath='{.status.containerStatuses[0].restartCount}'=1 pod/twice --timeout=60s");
    assert_eq!(cluster.sh("kubectl logs twice --previous"), "round");
    cluster.sh("kubectl delete pod twice --now --timeout=60s");
    // the kubelet of these stories rotates at 64 KiB; a follower reads across
    cluster.sh("kubectl run talker --restart=Never --image=$SHELL_IMAGE -- sh -c 'i=0; until test -e /tmp/enough; do i=$((i+1)); echo line $i ------------------------------------------------------------; sleep 0.001; done; echo the end'");
    cluster.sh("kubectl wait --for=condition=Ready pod/talker --timeout=60s");
    let mut follower = cluster.command("exec kubectl logs -f talker");
    let follower = follower.stdout(Stdio::piped()).spawn().expect("kubectl");
    cluster.reaches("ls /var/log/pods/default_talker_*/talker | wc -l | sed 's/^[2-9]$/rotated/'", "rotated");
    // the container may end before the command that makes it does
    cluster.sh("kubectl exec talker -- touch /tmp/enough || true");
    let followed = follower.wait_with_output().expect("its end");
    let followed = String::from_utf8_lossy(&followed.stdout);
    let numbers: Vec<usize> = followed.lines().filter_map(|line| line.split(' ').nth(1)?.parse().ok()).collect();
    assert!(numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "a follower misses and repeats nothing");
    assert!(followed.ends_with("the end\n"), "{} lines", numbers.len());
    cluster.sh("kubectl delete pod talker --now --timeout=60s");
}

pub fn commands_run_in_containers(cluster: &mut Cluster) {
    assert_eq!(cluster.sh("kubectl exec shell -- echo aye"), "aye");
    assert_eq!(cluster.run("kubectl exec shell -- sh -c 'exit 7'").status.code(), Some(7));
    assert_eq!(cluster.sh("printf 'one\\ntwo\\n' | kubectl exec -i shell -- wc -l"), "2");
    assert_eq!(cluster.sh("kubectl exec shell -- sh -c 'echo out; echo err >&2' 2>&1 >/dev/null"), "err");
    let terminal = cluster.sh("script -qec 'kubectl exec -it shell -- tty' /dev/null");
    assert!(terminal.contains("/dev/pts/"), "{terminal}");
    let unknown = cluster.fails("kubectl exec shell -- no-such-program");
    assert!(unknown.contains("executable file not found in $PATH"), "{unknown}");
}

pub fn a_terminal_is_attached_to_a_new_pod(cluster: &mut Cluster) {
    let said = cluster.sh("echo ahoy | kubectl run parrot --rm -i --restart=Never --image=$SHELL_IMAGE -- cat");
    assert!(said.contains("ahoy") && said.contains("pod \"parrot\" deleted"), "{said}");
    cluster.sh("kubectl wait --for=delete pod/parrot --timeout=30s");
}

pub fn files_are_copied_both_ways(cluster: &mut Cluster) {
    cluster.sh("head -c 3000000 /dev/urandom > cargo && kubectl cp cargo shell:/tmp/cargo");
    cluster.sh("kubectl cp shell:/tmp/cargo back && cmp cargo back");
    cluster.sh("mkdir -p hold/deep && echo crate > hold/deep/crate && kubectl cp hold shell:/tmp/hold");
    assert_eq!(cluster.sh("kubectl exec shell -- cat /tmp/hold/deep/crate"), "crate");
    cluster.sh("kubectl exec shell -- chmod 640 /tmp/hold/deep/crate && kubectl cp shell:/tmp/hold back-again");
    assert_eq!(cluster.sh("cat back-again/deep/crate"), "crate");
    let missing = cluster.sh("kubectl cp shell:/tmp/nothing nowhere 2>&1");
    assert!(missing.contains("No such file or directory"), "{missing}");
}

pub fn a_port_is_forwarded(cluster: &mut Cluster) {
    let mut forward = cluster.command("exec kubectl port-forward service/web 18080:80");
    let mut forward = forward.stdout(Stdio::piped()).spawn().expect("kubectl");
    let mut lines = BufReader::new(forward.stdout.take().expect("its output")).lines();
    let line = lines.next().expect("a line").expect("text");
    let pages = cluster.run("for i in 1 2 3; do curl -s --max-time 10 http://127.0.0.1:18080/; done");
    kill(Pid::from_raw(forward.id().cast_signed()), Signal::SIGTERM).expect("a signal");
    forward.wait().expect("its end");
    assert_eq!(line, "Forwarding from 127.0.0.1:18080 -> 80");
    assert_eq!(String::from_utf8_lossy(&pages.stdout), "web 1\nweb 1\nweb 1\n");
}
