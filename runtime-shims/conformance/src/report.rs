//! What came of a run: a summary to read, JSON and JUnit for machines.
//!
//! Must not know: how tests are run.

use std::fmt::Write as _;
use std::time::Duration;

use pintle_cri::v1;
use serde_json::json;

/// What came of one test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    Passed,
    /// Why.
    Failed(String),
    /// Why the demand does not apply here.
    Skipped(String),
}

#[derive(Debug, Clone)]
pub struct Verdict {
    pub name: &'static str,
    pub demand: &'static str,
    pub source: &'static str,
    pub outcome: Outcome,
    /// The test alone, without its clean-up.
    pub took: Duration,
}

impl Verdict {
    fn word(&self) -> &'static str {
        match self.outcome {
            Outcome::Passed => "passed",
            Outcome::Failed(_) => "failed",
            Outcome::Skipped(_) => "skipped",
        }
    }

    fn reason(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Passed => None,
            Outcome::Failed(reason) | Outcome::Skipped(reason) => Some(reason),
        }
    }

    /// One line as the test ends; more where it failed.
    pub fn line(&self) -> String {
        let mut line = format!("{:>7} {} ({:.1} s)", self.word(), self.name, self.took.as_secs_f32());
        match &self.outcome {
            Outcome::Passed => {}
            Outcome::Skipped(reason) => _ = write!(line, ": {reason}"),
            Outcome::Failed(reason) => {
                _ = write!(line, "\n        {reason}\n        demanded: {} [{}]", self.demand, self.source);
            }
        }
        line
    }
}

/// What came of a run.
#[derive(Debug)]
pub struct Report {
    /// What the runtime calls itself, and its version.
    pub runtime: String,
    /// In the suite's order.
    pub verdicts: Vec<Verdict>,
    pub took: Duration,
}

impl Report {
    pub(crate) fn new(version: &v1::VersionResponse, verdicts: Vec<Verdict>, took: Duration) -> Self {
        let runtime = format!("{} {}", version.runtime_name, version.runtime_version);
        Self { runtime, verdicts, took }
    }

    fn count(&self, word: &str) -> usize {
        self.verdicts.iter().filter(|one| one.word() == word).count()
    }

    /// Whether no test failed.
    pub fn passed(&self) -> bool {
        self.count("failed") == 0
    }

    /// The last lines of a run: what failed, and the counts.
    pub fn summary(&self) -> String {
        let mut text = String::new();
        for failed in self.verdicts.iter().filter(|one| matches!(one.outcome, Outcome::Failed(_))) {
            _ = writeln!(text, "failed: {}", failed.name);
        }
        let counts = ["passed", "failed", "skipped"].map(|word| format!("{} {word}", self.count(word))).join(", ");
        _ = write!(text, "{}: {counts} in {:.1} s", self.runtime, self.took.as_secs_f32());
        text
    }

    /// `{runtime, passed, failed, skipped, seconds, tests: [{name, demand, source, outcome, reason, seconds}]}`
    pub fn json(&self) -> String {
        let test = |one: &Verdict| {
            json!({
                "name": one.name, "demand": one.demand, "source": one.source,
                "outcome": one.word(), "reason": one.reason(), "seconds": one.took.as_secs_f64(),
            })
        };
        let report = json!({
            "runtime": self.runtime,
            "passed": self.count("passed"), "failed": self.count("failed"), "skipped": self.count("skipped"),
            "seconds": self.took.as_secs_f64(),
            "tests": self.verdicts.iter().map(test).collect::<Vec<_>>(),
        });
        format!("{report:#}\n")
    }

    /// JUnit's XML: a suite, a case per test, its area as the class.
    pub fn junit(&self) -> String {
        let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        _ = writeln!(
            xml,
            "<testsuite name=\"CRI conformance of {}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\" time=\"{:.3}\">",
            escaped(&self.runtime),
            self.verdicts.len(),
            self.count("failed"),
            self.count("skipped"),
            self.took.as_secs_f64()
        );
        for one in &self.verdicts {
            let class = one.name.split('/').next().unwrap_or_default();
            let (name, time) = (one.name, one.took.as_secs_f64());
            _ = write!(xml, "  <testcase classname=\"{class}\" name=\"{name}\" time=\"{time:.3}\">");
            match &one.outcome {
                Outcome::Passed => {}
                Outcome::Failed(reason) => _ = write!(xml, "<failure message=\"{}\"/>", escaped(reason)),
                Outcome::Skipped(reason) => _ = write!(xml, "<skipped message=\"{}\"/>", escaped(reason)),
            }
            xml.push_str("</testcase>\n");
        }
        xml.push_str("</testsuite>\n");
        xml
    }
}

/// As an attribute's value; what XML cannot hold at all is replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            letter if letter.is_control() => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let verdict = |name, outcome| Verdict {
            name,
            demand: "it must",
            source: "CRI",
            outcome,
            took: Duration::from_millis(1500),
        };
        let verdicts = vec![
            verdict("exec/a", Outcome::Passed),
            verdict("exec/b", Outcome::Failed("\"x\" < 1\u{1b}\nno".into())),
            verdict("log/c", Outcome::Skipped("old".into())),
        ];
        Report { runtime: "some 1.0".into(), verdicts, took: Duration::from_secs(3) }
    }

    #[test]
    fn the_summary_names_what_failed_and_counts() {
        let summary = report().summary();
        assert_eq!(summary, "failed: exec/b\nsome 1.0: 1 passed, 1 failed, 1 skipped in 3.0 s");
        assert!(!report().passed());
    }

    #[test]
    fn reasons_are_escaped_in_junit() {
        let xml = report().junit();
        assert!(xml.contains("<failure message=\"&quot;x&quot; &lt; 1\u{fffd}&#10;no\"/>"), "{xml}");
        assert!(xml.contains("tests=\"3\" failures=\"1\" skipped=\"1\""), "{xml}");
    }

    #[test]
    fn json_holds_every_test() {
        let read: serde_json::Value = serde_json::from_str(&report().json()).unwrap();
        assert_eq!(read["tests"][1]["outcome"], "failed");
        assert_eq!((&read["passed"], &read["skipped"]), (&json!(1), &json!(1)));
    }
}
