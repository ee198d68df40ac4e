//! The plugin as CNI calls it: a command in the environment, a configuration on stdin, a document on stdout.
//!
//! Under the configuration type `loopback` it is that plugin too, for machines without any CNI plugins.
//! Must not know: which runtime calls.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::conf::PLUGIN_NAME;
use crate::error::{CniError, Code, Context, Result};
use crate::leases::Leases;
use crate::links::{Link, Links, Pair};
use crate::namespace;
use crate::request::{Attachment, Conf, Target, VERSIONS};
use crate::result::{AddResult, Address, Interface, Route};

/// How the program ends: its exit code, and what it prints (nothing, a result, or an error).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
}

/// A configuration may be this long.
const MOST_STDIN: u64 = 1 << 20;

/// When the program was started under a plugin's name (`pintle-cni`, `loopback`): what [`main`] does. To be asked first.
pub fn invoked() -> Option<ExitCode> {
    let program = std::env::args_os().next()?;
    let name = Path::new(&program).file_name()?;
    (name == PLUGIN_NAME || name == "loopback").then(main)
}

/// The plugin as a program: carries out the call in the process' environment and stdin, prints its document, and tells
/// how to end. To be called before tokio starts.
pub fn main() -> ExitCode {
    let mut stdin = Vec::new();
    // A configuration that cannot be read is reported as a broken one.
    let _ = std::io::stdin().take(MOST_STDIN).read_to_end(&mut stdin);
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    let outcome = call(&std::env::vars_os().filter_map(text).collect(), &stdin);
    if !outcome.stdout.is_empty() {
        println!("{}", outcome.stdout);
    }
    ExitCode::from(u8::try_from(outcome.code).unwrap_or(1))
}

/// Carries out one call. `env` holds `CNI_COMMAND` (ADD, DEL, CHECK, GC, STATUS or VERSION), `CNI_CONTAINERID`,
/// `CNI_NETNS` and `CNI_IFNAME`; `stdin` the network configuration. Blocks, and must not be called inside tokio.
pub fn call(env: &HashMap<String, String>, stdin: &[u8]) -> Outcome {
    let asked: serde_json::Value = serde_json::from_slice(stdin).unwrap_or_default();
    let version = asked.get("cniVersion").and_then(|version| version.as_str()).unwrap_or(VERSIONS[0]);
    match carry_out(env, stdin) {
        Ok(stdout) => Outcome { code: 0, stdout },
        Err(error) => Outcome { code: 1, stdout: error.document(version) },
    }
}

fn carry_out(env: &HashMap<String, String>, stdin: &[u8]) -> Result<String> {
    let command = env.get("CNI_COMMAND").map(String::as_str).unwrap_or_default();
    if command == "VERSION" {
        return Ok(json!({ "cniVersion": "1.1.0", "supportedVersions": VERSIONS }).to_string());
    }
    let network = Conf::parse(stdin)?;
    let loopback = network.plugin == "loopback";
    let silent = |done: Result<()>| done.map(|()| String::new());
    match command {
        "ADD" if loopback => add_loopback(&network, &Target::read(env)?),
        "DEL" | "CHECK" | "GC" | "STATUS" if loopback => Ok(String::new()),
        "ADD" => add(&network, &Target::read(env)?),
        "DEL" => silent(del(&network, &Target::read(env)?.attachment)),
        "CHECK" => silent(check(&network, &Target::read(env)?)),
        "GC" => silent(collect(&network)),
        "STATUS" => silent(status(&network)),
        other => Err(CniError::new(Code::InvalidEnvironment, format!("CNI_COMMAND {other:?} is unknown"))),
    }
}

fn add(network: &Conf, target: &Target) -> Result<String> {
    let range = network.range()?;
    let netns = target.netns()?;
    let namespace = namespace::open(netns)?;
    forward_packets()?;
    // The lock covers the bridge as well: two calls at once must not both make it.
    let leases = Leases::lock(&network.data_dir, &network.name)?;
    let address = leases.take(range, &target.attachment)?;
    let outer = outer_name(&target.attachment);
    let pair = Pair { outer: &outer, inner: &target.attachment.ifname, address, mtu: network.mtu };
    let attach = || {
        let (bridge, outer) = namespace::run(None, || async {
            let links = Links::open()?;
            let bridge = links.bridge(&network.bridge, range.gateway(), range.length, network.mtu).await?;
            quiet_redirects(&network.bridge)?;
            // One of a call that was cut short.
            links.remove(pair.outer).await?;
            let outer = links.pair(&pair, &namespace, &bridge).await?;
            Ok((bridge, outer))
        })?;
        let inner = namespace::run(Some(&namespace), || async {
            let links = Links::open()?;
            links.up(&links.must_find("lo").await?).await?;
            let inner = links.must_find(pair.inner).await?;
            links.up(&inner).await?;
            links.address(&inner, address, 32).await?;
            links.default_route(&inner, range.gateway()).await?;
            Ok(inner)
        })?;
        let ip =
            Address { address: format!("{address}/32"), gateway: Some(range.gateway().into()), interface: Some(2) };
        let result = AddResult {
            cni_version: network.cni_version.clone(),
            interfaces: vec![
                interface(bridge),
                interface(outer),
                Interface { sandbox: shown(netns), ..interface(inner) },
            ],
            ips: vec![ip],
            routes: vec![Route { dst: "0.0.0.0/0".into(), gw: Some(range.gateway().into()) }],
            ..AddResult::default()
        };
        Ok(result.document().to_string())
    };
    attach().inspect_err(|_| undo(&leases, &target.attachment))
}

/// Leaves nothing of a failed ADD. What cannot be undone is found by the DEL that follows.
fn undo(leases: &Leases, attachment: &Attachment) {
    let name = outer_name(attachment);
    let removed = namespace::run(None, || async { Links::open()?.remove(&name).await });
    if removed.is_ok() {
        let _ = leases.release(attachment);
    }
}

/// Idempotent, and happy with a namespace that is gone: the host's end of the pair is all there is to remove.
fn del(network: &Conf, attachment: &Attachment) -> Result<()> {
    let leases = Leases::lock(&network.data_dir, &network.name)?;
    let name = outer_name(attachment);
    namespace::run(None, || async { Links::open()?.remove(&name).await })?;
    leases.release(attachment)
}

fn check(network: &Conf, target: &Target) -> Result<()> {
    let namespace = namespace::open(target.netns()?)?;
    let lease = Leases::lock(&network.data_dir, &network.name)?.of(&target.attachment)?;
    let address = lease.ok_or_else(|| {
        CniError::new(Code::UnknownContainer, format!("{} has no address", target.attachment.container))
    })?;
    let outer = outer_name(&target.attachment);
    namespace::run(None, || async { Links::open()?.must_find(&outer).await })?;
    namespace::run(Some(&namespace), || async {
        let links = Links::open()?;
        let inner = links.must_find(&target.attachment.ifname).await?;
        if links.addresses(&inner).await?.contains(&address.into()) {
            return Ok(());
        }
        Err(CniError::new(Code::Network, format!("{} lost its address {address}", inner.name)))
    })
}

/// Removes what belongs to no attachment that the runtime still has.
fn collect(network: &Conf) -> Result<()> {
    let leases = Leases::lock(&network.data_dir, &network.name)?;
    let held = leases.all()?.into_iter().map(|(_, attachment)| attachment);
    for gone in held.filter(|attachment| !network.valid_attachments.contains(attachment)) {
        let name = outer_name(&gone);
        namespace::run(None, || async { Links::open()?.remove(&name).await })?;
        leases.release(&gone)?;
    }
    Ok(())
}

fn status(network: &Conf) -> Result<()> {
    let range = network.range()?;
    let taken = Leases::lock(&network.data_dir, &network.name)?.all()?.len();
    if taken < range.size() as usize {
        return Ok(());
    }
    Err(CniError::new(Code::NotAvailable, format!("all {taken} addresses for pods are taken")))
}

fn add_loopback(network: &Conf, target: &Target) -> Result<String> {
    let netns = target.netns()?;
    let namespace = namespace::open(netns)?;
    namespace::run(Some(&namespace), || async {
        let links = Links::open()?;
        links.up(&links.must_find("lo").await?).await
    })?;
    let interface = Interface { name: "lo".into(), mac: "00:00:00:00:00:00".into(), sandbox: shown(netns) };
    let result = AddResult {
        cni_version: network.cni_version.clone(),
        interfaces: vec![interface],
        ips: vec![Address { address: "127.0.0.1/8".into(), gateway: None, interface: Some(0) }],
        ..AddResult::default()
    };
    Ok(result.document().to_string())
}

fn interface(link: Link) -> Interface {
    Interface { name: link.name, mac: link.mac, ..Interface::default() }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The host's end: a name that follows from the attachment, so that it is found again without a record.
pub(crate) fn outer_name(attachment: &Attachment) -> String {
    let mut hash = Sha256::new();
    hash.update(attachment.container.as_bytes());
    hash.update(b"/");
    hash.update(attachment.ifname.as_bytes());
    let hex: String = hash.finalize().iter().take(5).map(|byte| format!("{byte:02x}")).collect();
    format!("veth{hex}")
}

fn forward_packets() -> Result<()> {
    set_sysctl(Path::new("/proc/sys/net/ipv4/ip_forward"), "1")
}

/// Pods reach their neighbours by the bridge on purpose: telling them of a shorter way would only break it.
fn quiet_redirects(bridge: &str) -> Result<()> {
    for device in [bridge, "all"] {
        set_sysctl(&Path::new("/proc/sys/net/ipv4/conf").join(device).join("send_redirects"), "0")?;
    }
    Ok(())
}

fn set_sysctl(path: &Path, value: &str) -> Result<()> {
    let found = std::fs::read_to_string(path).unwrap_or_default();
    if found.trim() == value {
        return Ok(());
    }
    std::fs::write(path, value).context(Code::Io, || format!("cannot set {} to {value}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(command: &str, stdin: &str) -> Outcome {
        call(&HashMap::from([("CNI_COMMAND".to_owned(), command.to_owned())]), stdin.as_bytes())
    }

    #[test]
    fn it_tells_its_versions_without_a_configuration() {
        let outcome = run("VERSION", "");
        assert_eq!(outcome.code, 0);
        assert!(outcome.stdout.contains(r#""supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]"#), "{outcome:?}");
    }

    #[test]
    fn errors_are_documents_with_the_version_that_was_asked_for() {
        let outcome = run("DANCE", r#"{"cniVersion":"1.0.0","name":"pods"}"#);
        assert_eq!(outcome.code, 1);
        assert!(outcome.stdout.contains(r#""cniVersion":"1.0.0","code":4"#), "{outcome:?}");
        assert!(run("ADD", "}").stdout.contains(r#""code":6"#));
    }

    #[test]
    fn interface_names_fit_the_kernel_and_tell_attachments_apart() {
        let name = |container: &str| outer_name(&Attachment { container: container.into(), ifname: "eth0".into() });
        assert_eq!(name("a").len(), 14);
        assert_ne!(name("a"), name("b"));
    }
}
