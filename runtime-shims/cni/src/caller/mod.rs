//! Attaching pods: CNI from the runtime's side (specification 1.1), over whichever plugins are configured.
//!
//! Calls for one pod come one after the other, those for different pods side by side. An operation once begun goes on
//! when its caller stops waiting: half an attachment would be nobody's.
//! Must not know: CRI, containers.

mod error;
mod folder;
mod kept;
mod leave;
mod list;
mod pod;
mod run;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{OwnedMutexGuard, RwLock, Semaphore};
use tracing::{debug, warn};

pub use error::{CallError, PluginError};
pub use pod::{Bandwidth, Capabilities, Dns, INTERFACE, Pod, PortMapping};

use crate::request::VERSIONS;
use crate::result::AddResult;
use kept::{Kept, Records};
pub(crate) use list::List;
use list::Plugin;
use run::{Call, Programs};

/// How long a plugin may take.
const WITHIN: Duration = Duration::from_secs(60);

/// The pod network: whichever the first configuration of a folder says.
#[derive(Clone)]
pub struct Network {
    inner: Arc<Inner>,
    _watch: Arc<Watch>,
}

/// Follows the folder as long as this lives.
struct Watch(tokio::task::JoinHandle<()>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Inner {
    conf_dir: PathBuf,
    programs: Programs,
    records: Records,
    list: Mutex<Arc<Result<List, CallError>>>,
    /// A pod's calls wait for each other here.
    turns: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
    /// Collection wants that nothing is being attached.
    calm: RwLock<()>,
    leaving: Arc<Semaphore>,
}

impl Network {
    /// Reads the configuration from `conf_dir` (`/etc/cni/net.d`) and follows its changes; programs of plugins are
    /// looked for in `bin_dirs`; what is attached is kept in `cache_dir`. That there is no configuration yet is no
    /// error here: see [`Network::status`]. To be called inside tokio.
    ///
    /// # Errors
    /// `cache_dir` cannot be made.
    pub fn load(conf_dir: &Path, bin_dirs: &[PathBuf], cache_dir: &Path) -> Result<Self, CallError> {
        let inner = Arc::new(Inner {
            conf_dir: conf_dir.to_owned(),
            programs: Programs { dirs: bin_dirs.to_vec(), within: WITHIN },
            records: Records::open(cache_dir)?,
            list: Mutex::new(Arc::new(folder::load(conf_dir))),
            turns: Mutex::default(),
            calm: RwLock::default(),
            leaving: leave::room(),
        });
        let watched = inner.clone();
        let watch = tokio::spawn(folder::watch(conf_dir.to_owned(), move || watched.reload()));
        Ok(Self { inner, _watch: Arc::new(Watch(watch)) })
    }

    /// Attaches the pod: every plugin in turn. When one fails, those before it are undone.
    ///
    /// # Errors
    /// No configuration, or what a plugin says.
    pub async fn add(&self, pod: &Pod) -> Result<AddResult, CallError> {
        let (inner, pod) = (self.inner.clone(), pod.clone());
        lasting(async move {
            let _calm = inner.calm.read().await;
            let _turn = inner.turn(&pod.id).await;
            inner.add(&pod).await
        })
        .await
    }

    /// Detaches the pod of this sandbox id, by the configuration it was attached with; nothing to do when it is not
    /// attached, and no matter whether its namespace is still there.
    ///
    /// # Errors
    /// What a plugin says; the pod counts as attached then, and can be detached again.
    pub async fn del(&self, id: &str) -> Result<(), CallError> {
        let (inner, id) = (self.inner.clone(), id.to_owned());
        lasting(async move {
            let _calm = inner.calm.read().await;
            let _turn = inner.turn(&id).await;
            inner.del(&id).await
        })
        .await
    }

    /// Is the pod still attached as it was? True where the version or the configuration has no CHECK.
    ///
    /// # Errors
    /// It is not, or what a plugin says.
    pub async fn check(&self, id: &str) -> Result<(), CallError> {
        let _turn = self.inner.turn(id).await;
        let kept = self.inner.records.read(id)?.ok_or_else(|| CallError::NotAttached(id.into()))?;
        let list = kept.list()?;
        if !list.speaks("0.4.0") || list.disable_check {
            return Ok(());
        }
        for plugin in &list.plugins {
            self.inner.call("CHECK", &list, plugin, &kept.pod, kept.result.as_ref()).await?;
        }
        Ok(())
    }

    /// What the last ADD of this pod answered; `None` when it is not attached.
    ///
    /// # Errors
    /// What is kept cannot be read.
    pub fn result(&self, id: &str) -> Result<Option<AddResult>, CallError> {
        let result = self.inner.records.read(id)?.and_then(|kept| kept.result);
        Ok(result.and_then(|it| serde_json::from_value(it).ok()))
    }

    /// Detaches every pod that is attached and not among the `live` sandbox ids, and has plugins release what belongs to
    /// nobody. `live` is asked while nothing is being attached, so it must count pods whose ADD is still to come.
    ///
    /// # Errors
    /// The first failure; the rest is collected nevertheless.
    pub async fn gc(&self, live: impl FnOnce() -> HashSet<String>) -> Result<(), CallError> {
        let _calm = self.inner.calm.write().await;
        let live = live();
        let mut outcome = Ok(());
        for id in self.inner.records.ids()?.into_iter().filter(|id| !live.contains(id)) {
            outcome = outcome.and(self.inner.del(&id).await);
        }
        outcome.and(self.inner.collect(&live).await)
    }

    /// Can pods be attached?
    ///
    /// # Errors
    /// No configuration, or the plugin that cannot.
    pub async fn status(&self) -> Result<(), CallError> {
        let list = self.inner.list()?;
        if !list.speaks("1.1.0") {
            return Ok(());
        }
        for plugin in &list.plugins {
            let stdin = list.stdin(plugin, &Capabilities::default(), None);
            self.inner
                .programs
                .run(Call { plugin: plugin.kind.clone(), command: "STATUS", env: Vec::new(), stdin })
                .await?;
        }
        Ok(())
    }

    /// The name of the network, for humans; `None` without a configuration.
    pub fn name(&self) -> Option<String> {
        self.inner.list().ok().map(|list| list.name)
    }
}

/// Does the work even when the caller stops waiting.
async fn lasting<T: Send + 'static>(
    work: impl Future<Output = Result<T, CallError>> + Send + 'static,
) -> Result<T, CallError> {
    tokio::spawn(work).await.unwrap_or(Err(CallError::Lost))
}

impl Inner {
    fn reload(&self) {
        let found = folder::load(&self.conf_dir);
        match &found {
            Ok(list) => debug!("pod network: {}", list.name),
            Err(error) => debug!("pod network: {error}"),
        }
        *self.list.lock() = Arc::new(found);
    }

    /// The configuration; looked for again where there was none, since the folder's event may still be on its way.
    fn list(&self) -> Result<List, CallError> {
        if let Ok(list) = &*self.list.lock().clone() {
            return Ok(list.clone());
        }
        let list = folder::load(&self.conf_dir)?;
        *self.list.lock() = Arc::new(Ok(list.clone()));
        Ok(list)
    }

    async fn turn(&self, id: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.lock();
            // Those that nobody waits for go, so that the table does not grow.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(id.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }

    async fn add(&self, pod: &Pod) -> Result<AddResult, CallError> {
        let list = self.list()?;
        // Before the first plugin runs: what it leaves when the runtime is killed must be found again.
        let mut kept = Kept { network: list.document(), pod: pod.clone(), result: None };
        self.records.write(&kept)?;
        match self.chain(&list, pod).await {
            Ok(result) => {
                kept.result = Some(result.clone());
                self.records.write(&kept)?;
                serde_json::from_value(result).map_err(|error| {
                    let plugin = list.plugins.last().map(|it| it.kind.clone()).unwrap_or_default();
                    CallError::Broken { plugin, command: "ADD", why: format!("its result is none: {error}") }
                })
            }
            Err(error) => {
                if let Err(undone) = self.del(&pod.id).await {
                    warn!("pod {}: what a failed attachment left cannot be removed yet: {undone}", pod.id);
                }
                Err(error)
            }
        }
    }

    /// Each plugin gets the result of the one before it; the last one's is the chain's.
    async fn chain(&self, list: &List, pod: &Pod) -> Result<Value, CallError> {
        let mut result = None;
        for plugin in &list.plugins {
            result = Some(self.call("ADD", list, plugin, pod, result.as_ref()).await?);
        }
        Ok(result.unwrap_or_default())
    }

    async fn del(&self, id: &str) -> Result<(), CallError> {
        let (kept, list) = match self.records.read(id).and_then(|kept| kept.map(Kept::with_list).transpose()) {
            Ok(None) => return Ok(()),
            Ok(Some(found)) => found,
            // Such as a file that a power cut left empty. Whatever belongs to the id goes by what is configured now.
            Err(error) => {
                warn!("pod {id}: {error}; it is detached without what was kept");
                let list = self.list()?;
                let pod = Pod { id: id.into(), ..Pod::default() };
                (Kept { network: list.document(), pod, result: None }, list)
            }
        };
        let result = kept.result.as_ref().filter(|_| list.speaks("0.4.0"));
        for plugin in list.plugins.iter().rev() {
            self.call("DEL", &list, plugin, &kept.pod, result).await?;
        }
        self.records.remove(id)
    }

    async fn call(
        &self,
        command: &'static str,
        list: &List,
        plugin: &Plugin,
        pod: &Pod,
        previous: Option<&Value>,
    ) -> Result<Value, CallError> {
        // A DEL may come after its namespace is gone; then plugins must not be told of one.
        let netns =
            if command != "DEL" || pod.netns.exists() { pod.netns.display().to_string() } else { String::new() };
        let env = vec![
            ("CNI_CONTAINERID", pod.id.clone()),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", INTERFACE.to_owned()),
            ("CNI_ARGS", pod.arguments()),
        ];
        let stdin = list.stdin(plugin, &pod.capabilities, previous);
        let called = self.programs.run(Call { plugin: plugin.kind.clone(), command, env, stdin }).await;
        match called {
            Err(CallError::Refused { plugin, command, error }) if error.code == 1 => {
                Err(self.other_versions(plugin, command, error).await)
            }
            other => other,
        }
    }

    /// Explains a refused version by what the plugin does speak.
    async fn other_versions(&self, plugin: String, command: &'static str, mut error: PluginError) -> CallError {
        let stdin = serde_json::json!({ "cniVersion": VERSIONS[VERSIONS.len() - 1] });
        let call = Call { plugin: plugin.clone(), command: "VERSION", env: Vec::new(), stdin };
        if let Ok(answer) = self.programs.run(call).await {
            error.details = format!("{} (it speaks {})", error.details, answer["supportedVersions"]).trim().to_owned();
        }
        CallError::Refused { plugin, command, error }
    }

    async fn collect(&self, live: &HashSet<String>) -> Result<(), CallError> {
        let Ok(list) = self.list() else { return Ok(()) };
        if !list.speaks("1.1.0") || list.disable_gc {
            return Ok(());
        }
        let live: Vec<_> = live.iter().map(|id| (id.clone(), INTERFACE.to_owned())).collect();
        for plugin in &list.plugins {
            let stdin = list.gc_stdin(plugin, &live);
            self.programs.run(Call { plugin: plugin.kind.clone(), command: "GC", env: Vec::new(), stdin }).await?;
        }
        Ok(())
    }
}
