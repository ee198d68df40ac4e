//! The command line.
//!
//! Must not know: how anything is measured.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measures a Kubernetes cluster: any that a kubeconfig leads to, Pintle's or upstream's, in the same way.
#[derive(Debug, Parser)]
#[command(
    name = "pintle-bench",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Examples:\n  pintle-bench                                          all of it, against /etc/pintle/admin.kubeconfig\n  \
                  pintle-bench --only memory --window 30                PSS, and CPU over 30 s\n  \
                  pintle-bench --only objects --kubeconfig ~/.kube/config --json upstream.json\n  \
                  pintle-bench --only pods --scale 30,100,0 --image registry.k8s.io/pause:3.10\n  \
                  pintle-bench --only start,memory --start-command 'pintle up'\n\
  pintle-bench --beside upstream.json                   the same arguments as in the run that wrote it\n  \
                  pintle-bench compare --beside upstream-1.json,upstream-2.json pintle-1.json pintle-2.json\n\
                  Figures of two stacks compare only when taken by the same build of this program on the same machine."
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The cluster
    #[arg(long, value_name = "FILE", env = "KUBECONFIG", default_value = "/etc/pintle/admin.kubeconfig")]
    pub kubeconfig: PathBuf,
    /// What to measure, by commas [default: all; start only where --start-command is given]
    #[arg(long, value_delimiter = ',', value_name = "MEASURES")]
    pub only: Vec<Measure>,
    /// Write everything to this file as JSON, too
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Put the figures of another run beside these, from the file that its --json wrote
    #[arg(long, value_name = "FILE")]
    pub beside: Option<PathBuf>,
    /// The longest any single step may take, in seconds
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    pub timeout: u64,

    /// A process of the stack; may be repeated
    #[arg(long, value_name = "PID", help_heading = "The stack's processes (memory, CPU)")]
    pub pid: Vec<u32>,
    /// A regular expression on command lines of the stack; may be repeated [default: the programs of Pintle, upstream
    /// Kubernetes, etcd and containerd]
    #[arg(long = "match", value_name = "REGEX", help_heading = "The stack's processes (memory, CPU)")]
    pub patterns: Vec<String>,
    /// How long idle CPU time is counted, in seconds
    #[arg(long, default_value_t = 10, value_name = "SECONDS", help_heading = "The stack's processes (memory, CPU)")]
    pub window: u64,

    /// An image whose containers run until they are told to stop [default: a shell that sleeps, from a registry on
    /// loopback that lives as long as this program; the node has to be this machine]
    #[arg(long, value_name = "REFERENCE", help_heading = "Pods")]
    pub image: Option<String>,
    /// Replicas a Deployment goes to, one after the other, from 0
    #[arg(long, value_delimiter = ',', default_value = "30,0,100,0", value_name = "COUNTS", help_heading = "Pods")]
    pub scale: Vec<u32>,

    /// ConfigMaps of 1 KiB to create, and to list afterwards
    #[arg(long, default_value_t = 5000, value_name = "COUNT", help_heading = "Objects")]
    pub objects: usize,
    /// Connections that create
    #[arg(long, default_value_t = 16, value_name = "COUNT", help_heading = "Objects")]
    pub connections: usize,
    /// Lists in all while many run at once
    #[arg(long, default_value_t = 64, value_name = "COUNT", help_heading = "Objects")]
    pub lists: usize,
    /// Lists at once
    #[arg(long, default_value_t = 16, value_name = "COUNT", help_heading = "Objects")]
    pub lists_at_once: usize,
    /// Watchers, each on a connection of its own
    #[arg(long, default_value_t = 100, value_name = "COUNT", help_heading = "Objects")]
    pub watchers: usize,
    /// ConfigMaps to create while they watch
    #[arg(long, default_value_t = 2000, value_name = "COUNT", help_heading = "Objects")]
    pub watched: usize,

    /// A shell command that starts the cluster and stays; it is stopped (SIGTERM) at the end of the run
    #[arg(long, value_name = "COMMAND", help_heading = "Start")]
    pub start_command: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Put the runs of two stacks into one table in Markdown; of several runs the median counts
    Compare(Compare),
}

#[derive(Debug, Args)]
pub struct Compare {
    /// What --json wrote in runs against the one stack
    #[arg(required = true, value_name = "FILE")]
    pub these: Vec<PathBuf>,
    /// What --json wrote in runs against the other, by commas
    #[arg(long, required = true, value_delimiter = ',', value_name = "FILES")]
    pub beside: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Measure {
    /// From a command until the API server, the node and the default service account are there
    Start,
    /// PSS and idle CPU of the stack's processes
    Memory,
    /// One pod, then a Deployment up and down
    Pods,
    /// Creates, lists and watches of ConfigMaps
    Objects,
}

impl Arguments {
    pub fn wants(&self, measure: Measure) -> bool {
        self.only.is_empty() || self.only.contains(&measure)
    }

    pub fn window(&self) -> Duration {
        Duration::from_secs(self.window.max(1))
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_are_chosen_by_commas() {
        let some = Arguments::parse_from(["pintle-bench", "--only", "memory,objects"]);
        assert!(some.wants(Measure::Memory) && some.wants(Measure::Objects) && !some.wants(Measure::Pods));
        assert!(Arguments::parse_from(["pintle-bench"]).wants(Measure::Pods));
    }

    #[test]
    fn runs_of_two_stacks_are_compared() {
        let arguments = Arguments::parse_from(["pintle-bench", "compare", "--beside", "u1,u2", "p1", "p2", "p3"]);
        let Some(Command::Compare(compare)) = arguments.command else { panic!("another command") };
        assert_eq!((compare.these.len(), compare.beside.len()), (3, 2));
    }

    #[test]
    fn a_deployment_goes_up_and_down_twice_by_default() {
        assert_eq!(Arguments::parse_from(["pintle-bench"]).scale, [30, 0, 100, 0]);
        assert_eq!(Arguments::parse_from(["pintle-bench", "--scale", "5,0"]).scale, [5, 0]);
    }
}
