//! Figures as a table: a row per call, two columns per runtime.
//!
//! Must not know: how anything was measured.

use std::fmt::Write as _;

use super::figures::{Comparison, Figures, Lives};
use super::life::CALLS;

const LABEL: usize = 24;
const COLUMN: usize = 10;

impl Comparison {
    /// Milliseconds of every call, whole lives in a second, memory per pod.
    pub fn table(&self) -> String {
        let mut text = String::new();
        self.part(&mut text, "one at a time, ms", |figures| &figures.alone);
        if self.runtimes.iter().any(|one| one.together.len() > 0) {
            self.part(&mut text, &format!("{} at once, ms", self.at_once), |figures| &figures.together);
        }
        if self.runtimes.iter().any(|one| one.memory.is_some()) {
            self.memory(&mut text);
        }
        for one in self.runtimes.iter().filter(|one| !one.pod_network) {
            _ = writeln!(text, "{}: no network is ready; its pods were on the host's", one.name);
        }
        text
    }

    fn part(&self, text: &mut String, title: &str, lives: impl Fn(&Figures) -> &Lives) {
        let wide = COLUMN * 2;
        let names = self.runtimes.iter().map(|one| format!("{:>wide$}", fit(&one.name, wide - 1)));
        _ = writeln!(text, "{:<LABEL$}{}", "", names.collect::<String>());
        let heads: String = self.runtimes.iter().map(|_| format!("{:>COLUMN$}{:>COLUMN$}", "p50", "p99")).collect();
        _ = writeln!(text, "{title:<LABEL$}{heads}");
        for (call, name) in CALLS.iter().enumerate() {
            let of =
                |one| format!("{}{}", cell(lives(one).percentile(call, 50)), cell(lives(one).percentile(call, 99)));
            _ = writeln!(text, "{name:<LABEL$}{}", self.runtimes.iter().map(of).collect::<String>());
        }
        let rates = self.runtimes.iter().map(|one| format!("{:>wide$.1}", lives(one).per_second()));
        _ = writeln!(text, "{:<LABEL$}{}\n", "whole lives a second", rates.collect::<String>());
    }

    fn memory(&self, text: &mut String) {
        for one in &self.runtimes {
            let Some(growth) = &one.memory else { continue };
            let parts = growth.appeared.iter().map(|(name, (number, kib))| format!("{number} {name} {kib} KiB"));
            let server = growth.server_kib.map(|kib| format!("the runtime itself {kib:+} KiB"));
            let parts: Vec<String> = parts.chain(server).collect();
            let per_pod = growth.per_pod_kib() / 1024.0;
            _ = writeln!(text, "{}: {per_pod:.2} MiB per pod of {} ({})", one.name, growth.pods, parts.join(", "));
        }
    }
}

fn cell(figure: Option<f64>) -> String {
    figure.map_or_else(|| format!("{:>COLUMN$}", "-"), |figure| format!("{figure:>COLUMN$.1}"))
}

fn fit(text: &str, letters: usize) -> String {
    text.chars().take(letters).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn runtimes_stand_side_by_side() {
        let of = |name: &str, time: u64| Figures {
            name: name.into(),
            alone: Lives::new(vec![[Duration::from_millis(time); CALLS.len()]], Duration::from_secs(1)),
            pod_network: true,
            ..Figures::default()
        };
        let table = Comparison { at_once: 1, runtimes: vec![of("one 1.0", 5), of("two 2.0", 50)] }.table();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["one", "1.0", "two", "2.0"]);
        let row: Vec<&str> = lines[2].split_whitespace().collect();
        assert_eq!(row, ["RunPodSandbox", "5.0", "5.0", "50.0", "50.0"]);
    }
}
