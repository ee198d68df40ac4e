//! What a runtime's calls cost: lives of pods, one at a time and several at once, and the memory of pods that stand.
//!
//! Several runtimes are measured in turns, round by round, so that whatever else the machine does meets all of them alike.
//! Must not know: how figures are shown, which runtimes they are of.

mod figures;
mod life;
mod memory;
mod table;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use pintle_cri::v1;

use crate::bench::{Bench, Shared};
use crate::controllers::Controllers;
use crate::demand::image;
use crate::images::{self, TOOLS};
use crate::registry::Registry;
use crate::run::sweep;
use figures::{Figures, Lives};

pub use figures::Comparison;

/// The kernel takes networks down after the call that ends them: nobody is to meet what is left of the one before.
const SETTLE: Duration = Duration::from_millis(100);

/// How much is measured.
#[derive(Debug)]
pub struct Options {
    /// Lives of each part, at least one.
    pub lives: usize,
    /// How many lives go on at once in the second part, at least two for there to be one.
    pub at_once: usize,
    /// How many pods stand while memory is looked at; none and it is not.
    pub standing: usize,
    /// Who makes the cgroups of a runtime that does not tell it; nothing is cgroupfs.
    pub cgroup_driver: Option<v1::CgroupDriver>,
    /// Logs of containers; must be the same path for the runtimes. Removed at the end.
    pub dir: PathBuf,
}

/// One runtime under measurement.
struct Measured {
    shared: Arc<Shared>,
    endpoint: String,
    figures: Figures,
    /// Pods so far, which names them.
    pods: usize,
}

/// Measures runtimes, each with the name it is shown by; `told` hears what is being done.
///
/// # Errors
/// A call that fails: figures of a runtime that fails say nothing. What was made is removed first.
pub async fn run(
    runtimes: Vec<(String, pintle_cri::Runtime)>,
    options: &Options,
    mut told: impl FnMut(&str),
) -> anyhow::Result<Comparison> {
    std::fs::create_dir_all(&options.dir).with_context(|| format!("making {}", options.dir.display()))?;
    let mut all = Vec::new();
    for (endpoint, runtime) in runtimes {
        all.push(Measured::prepare(endpoint, runtime, options).await?);
    }
    let measured = measure(&mut all, options, &mut told).await;
    for one in &all {
        one.leave().await;
    }
    std::fs::remove_dir_all(&options.dir).with_context(|| format!("removing {}", options.dir.display()))?;
    measured?;
    Ok(Comparison { at_once: options.at_once, runtimes: all.into_iter().map(|one| one.figures).collect() })
}

async fn measure(all: &mut [Measured], options: &Options, told: &mut impl FnMut(&str)) -> anyhow::Result<()> {
    told("warming up: a pod each");
    for one in &mut *all {
        one.live(1, 1).await?;
    }
    told(&format!("one at a time: {} pods each", options.lives));
    for round in 0..options.lives {
        for one in in_turn(all, round) {
            tokio::time::sleep(SETTLE).await;
            let lives = one.live(1, 1).await?;
            one.figures.alone.extend(lives);
        }
    }
    if options.at_once > 1 {
        told(&format!("{} at once: {} pods each", options.at_once, options.lives));
        // a round is long enough that most of it has all places taken
        let round = (options.at_once * 4).min(options.lives);
        for number in 0..options.lives.div_ceil(round.max(1)) {
            for one in in_turn(all, number) {
                tokio::time::sleep(SETTLE).await;
                let lives = one.live(round, options.at_once).await?;
                one.figures.together.extend(lives);
            }
        }
    }
    if options.standing > 0 {
        told(&format!("memory: {} pods each", options.standing));
        for one in all {
            one.weigh(options.standing).await?;
        }
    }
    Ok(())
}

/// Forwards and backwards by turns, so that nobody always comes after the same one.
fn in_turn(all: &mut [Measured], round: usize) -> Box<dyn Iterator<Item = &mut Measured> + '_> {
    if round.is_multiple_of(2) { Box::new(all.iter_mut()) } else { Box::new(all.iter_mut().rev()) }
}

impl Measured {
    async fn prepare(endpoint: String, runtime: pintle_cri::Runtime, options: &Options) -> anyhow::Result<Self> {
        let tools: Vec<_> = images::all().into_iter().filter(|one| one.name == TOOLS).collect();
        let registry = Registry::start(tools).await?;
        let request = v1::PullImageRequest { image: Some(image(&registry.tagged(TOOLS))), ..Default::default() };
        let pulled = runtime.images.clone().pull_image(request).await;
        pulled.with_context(|| format!("pulling {}", registry.tagged(TOOLS)))?;
        let status = runtime.runtime.clone().status(v1::StatusRequest { verbose: false }).await.context("Status")?;
        let told = status.into_inner();
        let mut conditions = told.status.iter().flat_map(|status| &status.conditions);
        let pod_network = conditions.any(|one| one.r#type == "NetworkReady" && one.status);
        let figures = Figures::of(&runtime.version, pod_network);
        let said = options.cgroup_driver.unwrap_or(v1::CgroupDriver::Cgroupfs);
        let cgroup_driver = runtime.cgroup_driver(said).await.context("asking the runtime for its cgroup driver")?;
        let (controllers, dir) = (Controllers::of_machine(), options.dir.clone());
        let modern = true;
        let shared = Shared { runtime, registry, pod_network, told, modern, cgroup_driver, controllers, dir };
        let shared = Arc::new(shared);
        Ok(Self { shared, endpoint, figures, pods: 0 })
    }

    /// The beginning of every mark of this process's pods.
    fn marks() -> String {
        format!("benchmark-{}-", std::process::id())
    }

    fn bench(&mut self) -> Bench {
        self.pods += 1;
        Bench::new(self.shared.clone(), format!("{}{}", Self::marks(), self.pods))
    }

    /// So many lives, so many of them at once.
    async fn live(&mut self, lives: usize, at_once: usize) -> anyhow::Result<Lives> {
        let benches: Vec<Bench> = (0..lives).map(|_| self.bench()).collect();
        let began = Instant::now();
        let lived = futures::stream::iter(&benches).map(life::live).buffer_unordered(at_once);
        let lived: Vec<_> = lived.try_collect().await.with_context(|| self.endpoint.clone())?;
        Ok(Lives::new(lived, began.elapsed()))
    }

    /// What so many pods hold while they stand, a container in each.
    async fn weigh(&mut self, standing: usize) -> anyhow::Result<()> {
        let server = memory::server(&self.endpoint).await?;
        let before = memory::Look::now();
        let benches: Vec<Bench> = (0..standing).map(|_| self.bench()).collect();
        let begun = futures::stream::iter(&benches).map(life::begin).buffer_unordered(4);
        let begun: Vec<_> = begun.try_collect().await.with_context(|| self.endpoint.clone())?;
        self.figures.memory = Some(memory::Look::now().since(&before, server, standing));
        for (bench, (pod, container)) in benches.iter().zip(begun) {
            life::end(bench, &pod, &container).await.with_context(|| self.endpoint.clone())?;
        }
        Ok(())
    }

    /// Removes what is left of it; what cannot be removed is the runtime's to explain.
    async fn leave(&self) {
        sweep(&self.shared, |mark| mark.starts_with(&Self::marks())).await;
        let request = v1::RemoveImageRequest { image: Some(image(&self.shared.registry.tagged(TOOLS))) };
        let _ = self.shared.runtime.images.clone().remove_image(request).await;
    }
}
