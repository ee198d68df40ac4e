//! Writes 1 KiB values from a number of tasks and prints the rate and the CPU time: the store's share of the
//! API server's create rate. `bench DIR TASKS WRITES [PRELOADED]`

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use pintle_store::{Options, Store, Write, open};

async fn create_all(store: &Arc<dyn Store>, prefix: &str, tasks: usize, writes: usize) {
    let value: bytes::Bytes = vec![b'x'; 1024].into();
    let tasks = (0..tasks).map(|task| {
        let (store, value, prefix) = (store.clone(), value.clone(), prefix.to_owned());
        tokio::spawn(async move {
            for n in (task..writes).step_by(tasks) {
                // scattered, as names in namespaces are
                let key = format!("/registry/{prefix}/{:08x}", n.wrapping_mul(2_654_435_761) as u32);
                let write = Write::Create { key: key.into(), value: value.clone() };
                if let Err(error) = store.write(write).await {
                    eprintln!("{error}");
                    return;
                }
            }
        })
    });
    futures::future::join_all(tasks).await;
}

fn cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).map(|usage| usage.user_time() + usage.system_time());
    usage.map_or(Duration::ZERO, |time| Duration::from_micros(time.num_microseconds() as u64))
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| args.get(at).map_or(Ok(default), |text| text.parse());
    let dir = args.first().context("usage: bench DIR TASKS WRITES [PRELOADED]")?;
    let begun = Instant::now();
    let store: Arc<dyn Store> = Arc::new(open(Path::new(dir), Options::default())?);
    println!("opened in {:?}", begun.elapsed());
    let (tasks, writes, preloaded) = (number(1, 16)?, number(2, 20_000)?, number(3, 0)?);
    create_all(&store, "before", 512, preloaded).await;
    let (begun, cpu_before) = (Instant::now(), cpu());
    create_all(&store, "now", tasks, writes).await;
    let (took, cpu) = (begun.elapsed(), cpu() - cpu_before);
    let rate = writes as f64 / took.as_secs_f64();
    println!("{writes} writes by {tasks} tasks: {rate:.0}/s, {:?} CPU each", cpu / writes.max(1) as u32);
    Ok(())
}
