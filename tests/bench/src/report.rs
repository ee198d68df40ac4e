//! What was found and what was done for it, as a table and as JSON.
//!
//! Must not know: how anything is measured.

use serde::Serialize;

use crate::samples::Samples;

/// One number with its unit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// `memory`, `pods`, `objects` or `start`.
    pub measure: &'static str,
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
}

/// Everything one run has to say.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// The server's version, the machine and the arguments: without them no figure can be compared.
    pub about: std::collections::BTreeMap<&'static str, String>,
    /// The steps in their order, in words.
    pub did: Vec<String>,
    pub figures: Vec<Figure>,
}

impl Report {
    pub fn about(&mut self, what: &'static str, text: impl Into<String>) {
        self.about.insert(what, text.into());
    }

    /// Says a step, now and in the report.
    pub fn did(&mut self, step: impl Into<String>) {
        let step = step.into();
        eprintln!("- {step}");
        self.did.push(step);
    }

    pub fn figure(&mut self, measure: &'static str, name: impl Into<String>, value: f64, unit: &'static str) {
        self.figures.push(Figure { measure, name: name.into(), value, unit });
    }

    /// The median and the 99th percentile, where there are samples.
    pub fn percentiles(&mut self, measure: &'static str, name: &str, samples: &Samples) {
        for (label, percent) in [("p50", 50.0), ("p99", 99.0)] {
            if let Some(value) = samples.percentile(percent) {
                self.figure(measure, format!("{name}, {label}"), value, "ms");
            }
        }
    }

    /// Columns padded to their widest cell; numbers to the right.
    pub fn table(&self) -> String {
        let rows: Vec<[String; 4]> = self.figures.iter().map(row).collect();
        let head = ["MEASURE", "WHAT", "VALUE", "UNIT"].map(str::to_owned);
        let all: Vec<&[String; 4]> = std::iter::once(&head).chain(&rows).collect();
        let wide = |at: usize| all.iter().map(|cells| cells[at].chars().count()).max().unwrap_or(0);
        let (measure, what, value) = (wide(0), wide(1), wide(2));
        let line = |cells: &&[String; 4]| {
            let [a, b, c, d] = cells;
            format!("{a:<measure$}  {b:<what$}  {c:>value$}  {d}\n")
        };
        all.iter().map(line).collect()
    }
}

fn row(figure: &Figure) -> [String; 4] {
    [figure.measure.to_owned(), figure.name.clone(), number(figure.value), figure.unit.to_owned()]
}

/// Three digits that count, and every digit before the point.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_table_lines_up() {
        let mut report = Report::default();
        report.figure("memory", "all", 123.4, "MiB");
        report.figure("pods", "0 to 30", 1.0, "s");
        let expected = "MEASURE  WHAT     VALUE  UNIT\n\
                        memory   all        123  MiB\n\
                        pods     0 to 30   1.00  s\n";
        assert_eq!(report.table(), expected);
    }

    #[test]
    fn numbers_keep_three_digits_that_count() {
        assert_eq!([12345.6, 99.94, 1.005, 0.1234].map(number), ["12346", "99.9", "1.00", "0.123"]);
    }

    #[test]
    fn percentiles_without_samples_are_left_out() {
        let mut report = Report::default();
        report.percentiles("pods", "create to Ready", &Samples::default());
        assert_eq!(report.figures, []);
        let mut samples = Samples::default();
        samples.add(Duration::from_millis(3));
        report.percentiles("pods", "create to Ready", &samples);
        assert_eq!(report.figures[0].name, "create to Ready, p50");
        assert_eq!(report.figures[1].value, 3.0);
    }
}
