//! Which container runtime the node uses: the embedded one, a containerd of Pintle's own, or one that is there.
//!
//! Must not know: what is run in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use pintle_cri::known::{Known, RUNTIMES};
use pintle_cri::{CgroupDriver, Channel, ConnectError, Runtime};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::{native, parts, runtime};

/// The choice, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    Embedded,
    /// Started and kept by Pintle.
    Containerd,
    /// Somebody else's: `unix://…` or `containerd-native://…`.
    Endpoint(String),
}

impl Choice {
    /// `auto` is the endpoint where one is named, else the embedded runtime; `remote` is the endpoint where one is named,
    /// else the one of the runtimes `there` on this machine.
    pub fn parse(runtime: Option<String>, endpoint: Option<String>, there: &[&Known]) -> anyhow::Result<Self> {
        match (runtime.as_deref(), endpoint) {
            (None | Some("auto" | "remote"), Some(endpoint)) => Ok(Self::Endpoint(endpoint)),
            (Some("remote"), None) => only(there).map(Self::Endpoint),
            (None | Some("auto" | "embedded"), None) => Ok(Self::Embedded),
            (Some("containerd"), None) => Ok(Self::Containerd),
            (Some(named @ ("embedded" | "containerd")), Some(_)) => {
                anyhow::bail!("runtime: {named} is no runtime that has a containerRuntimeEndpoint: give one of the two")
            }
            (Some(endpoint), None) if endpoint.contains(":/") || endpoint.starts_with('/') => {
                Ok(Self::Endpoint(endpoint.to_owned()))
            }
            (Some(other), _) => {
                anyhow::bail!(
                    "runtime: {other:?} is not auto, embedded, containerd, remote or a socket such as unix:///run/x.sock"
                )
            }
        }
    }
}

/// The endpoint of the only one of them: which of several is meant, nobody but the user can say.
fn only(there: &[&Known]) -> anyhow::Result<String> {
    let names = |known: &[&Known]| known.iter().map(|one| one.endpoint()).collect::<Vec<_>>().join(", ");
    match there {
        [one] => Ok(one.endpoint()),
        [] => anyhow::bail!(
            "runtime: remote: nobody listens at {}: start containerd or CRI-O, or name its socket with \
             containerRuntimeEndpoint",
            names(&RUNTIMES.iter().collect::<Vec<_>>())
        ),
        several => {
            anyhow::bail!("runtime: remote: found {}: name one of them with containerRuntimeEndpoint", names(several))
        }
    }
}

/// Where the embedded runtime keeps things that outlive the machine.
pub fn root(config: &Config) -> PathBuf {
    config.data_dir.join("runtime")
}

/// Where it serves CRI to others, such as crictl.
pub fn socket(config: &Config) -> PathBuf {
    config.run_dir.join("runtime.sock")
}

/// Starts the embedded runtime in this process; it takes over what an earlier one left.
pub async fn embedded(config: &Config, stop: CancellationToken) -> anyhow::Result<pintle_oci::Runtime> {
    let state = config.run_dir.join("runtime");
    let mut settings = pintle_oci::Config::new(root(config), state, runtime::launcher()?);
    settings.cni_conf_dir.clone_from(&config.cni_conf_dir);
    if let Some(dir) = &config.cni_bin_dir {
        settings.cni_bin_dirs = vec![dir.clone()];
    }
    settings.cgroup_driver = cgroup_driver(config)?;
    settings.handlers = runtime::installed_handlers();
    settings.images = crate::images::registries(None)?;
    pintle_oci::Runtime::start(settings, stop).await
}

/// The embedded runtime's, which the kubelet follows: what is said of either of them.
fn cgroup_driver(config: &Config) -> anyhow::Result<CgroupDriver> {
    if let Some(driver) = config.cgroup_driver {
        return Ok(driver);
    }
    let settings = pintle_kubelet::Config::default();
    let file = config.kubelet_config.as_deref();
    let settings = file.map_or(Ok(settings.clone()), |file| pintle_kubelet::config::file::load(file, settings))?;
    Ok(match settings.cgroup_driver {
        pintle_kubelet::config::CgroupDriver::Cgroupfs => CgroupDriver::Cgroupfs,
        pintle_kubelet::config::CgroupDriver::Systemd => CgroupDriver::Systemd,
    })
}

/// CRI over a runtime in this process.
pub async fn in_process(runtime: &pintle_oci::Runtime) -> anyhow::Result<Runtime> {
    Runtime::over(Channel::in_process(runtime.service())).await
}

/// A connection to somebody else's runtime.
async fn connect(config: &Config, endpoint: &str) -> anyhow::Result<Runtime> {
    match native::socket(endpoint) {
        Some(socket) => native::connect(config, socket).await,
        None => pintle_cri::connect(endpoint).await.map_err(|error| match error.downcast_ref() {
            Some(ConnectError::NoCri { endpoint }) => {
                anyhow::anyhow!("{error}; or leave it off, and name containerd-native:{endpoint} instead")
            }
            _ => error,
        }),
    }
}

/// The same, for pods that are to run there: that is written down first, since `down` and `reset` are mostly called
/// without the flags of `up`.
pub async fn endpoint(config: &Config, endpoint: &str) -> anyhow::Result<Runtime> {
    let runtime = connect(config, endpoint).await?;
    note(&config.data_dir, endpoint)?;
    Ok(runtime)
}

fn notes(data_dir: &Path) -> PathBuf {
    data_dir.join("container-runtime-endpoints")
}

/// The endpoints of others' runtimes that may have pods of ours.
fn noted(data_dir: &Path) -> BTreeSet<String> {
    fs::read_to_string(notes(data_dir)).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn note(data_dir: &Path, endpoint: &str) -> anyhow::Result<()> {
    let mut known = noted(data_dir);
    if known.insert(endpoint.to_owned()) {
        let (file, lines) = (notes(data_dir), known.into_iter().collect::<Vec<_>>().join("\n"));
        fs::write(&file, lines).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

/// No runtime of others has pods of ours any more.
pub fn forget_noted(data_dir: &Path) -> anyhow::Result<()> {
    let file = notes(data_dir);
    match fs::remove_file(&file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// Every runtime that may have pods of this cluster, those of an earlier choice included; and the embedded one itself,
/// which works on when its calls have been answered, where it is among them.
pub async fn with_pods(
    config: &Config,
    stop: &CancellationToken,
) -> anyhow::Result<(Vec<Runtime>, Option<pintle_oci::Runtime>)> {
    let (mut all, mut own) = (Vec::new(), None);
    let mut others = noted(&config.data_dir);
    if let Choice::Endpoint(named) = &config.runtime {
        others.insert(named.clone());
    }
    for other in others {
        let advice = || format!("pods may run at {other} ({} says so)", notes(&config.data_dir).display());
        all.push(connect(config, &other).await.with_context(advice)?);
    }
    if root(config).join("sandboxes").is_dir() {
        let runtime = own.insert(embedded(config, stop.clone()).await?);
        all.push(in_process(runtime).await?);
    }
    if parts::containerd(config).has_state() {
        all.push(parts::own_containerd(config).await?);
    }
    Ok((all, own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(runtime: Option<&str>, endpoint: Option<&str>) -> Result<Choice, String> {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Choice::parse(own(runtime), own(endpoint), &[]).map_err(|error| error.to_string())
    }

    #[test]
    fn a_remote_runtime_is_found_where_there_is_one() {
        let remote = |there: &[&Known]| Choice::parse(Some("remote".into()), None, there).map_err(|it| it.to_string());
        let [containerd, crio] = &RUNTIMES;
        assert_eq!(remote(&[crio]), Ok(Choice::Endpoint("unix:///run/crio/crio.sock".into())));
        let error = remote(&[containerd, crio]).unwrap_err();
        assert!(error.contains("found unix:///run/containerd/containerd.sock, unix:///run/crio/crio.sock"), "{error}");
        assert!(remote(&[]).unwrap_err().contains("nobody listens at unix:///run/containerd"));
        let named = parse(Some("remote"), Some("unix:///run/x.sock"));
        assert_eq!(named, Ok(Choice::Endpoint("unix:///run/x.sock".into())));
    }

    #[test]
    fn the_embedded_runtime_is_the_default_and_a_named_socket_wins() {
        let socket = Choice::Endpoint("unix:///run/x.sock".into());
        assert_eq!(parse(None, None), Ok(Choice::Embedded));
        assert_eq!(parse(Some("auto"), None), Ok(Choice::Embedded));
        assert_eq!(parse(Some("auto"), Some("unix:///run/x.sock")), Ok(socket.clone()));
        assert_eq!(parse(Some("unix:///run/x.sock"), None), Ok(socket));
        assert_eq!(parse(Some("containerd"), None), Ok(Choice::Containerd));
    }

    #[test]
    fn a_runtime_of_others_is_known_until_its_pods_are_gone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(noted(dir.path()).is_empty());
        forget_noted(dir.path()).unwrap();
        for endpoint in ["unix:///run/x.sock", "containerd-native:///run/c.sock", "unix:///run/x.sock"] {
            note(dir.path(), endpoint).unwrap();
        }
        let known: Vec<String> = noted(dir.path()).into_iter().collect();
        assert_eq!(known, ["containerd-native:///run/c.sock", "unix:///run/x.sock"]);
        forget_noted(dir.path()).unwrap();
        assert!(noted(dir.path()).is_empty());
    }

    #[test]
    fn what_is_no_runtime_is_refused() {
        assert!(parse(Some("docker"), None).unwrap_err().contains("\"docker\" is not auto"));
        assert!(parse(Some("embedded"), Some("unix:///run/x.sock")).unwrap_err().contains("give one of the two"));
    }
}
