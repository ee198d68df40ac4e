//! What was found and what was done for it, as a table and as JSON.
//!
//! Must not know: how anything is measured.

use serde::{Deserialize, Serialize};

use crate::samples::Samples;

/// One number with its unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// `memory`, `pods`, `objects` or `start`.
    pub measure: String,
    pub name: String,
    pub value: f64,
    pub unit: String,
}

impl Figure {
    /// Whether both say the same thing of their runs.
    pub fn is_of(&self, other: &Self) -> bool {
        self.measure == other.measure && self.name == other.name
    }
}

/// Everything one run has to say.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// The server's version, the machine and the arguments: without them no figure can be compared.
    pub about: std::collections::BTreeMap<String, String>,
    /// The steps in their order, in words.
    pub did: Vec<String>,
    pub figures: Vec<Figure>,
}

impl Report {
    pub fn about(&mut self, what: &str, text: impl Into<String>) {
        self.about.insert(what.to_owned(), text.into());
    }

    /// Says a step, now and in the report.
    pub fn did(&mut self, step: impl Into<String>) {
        let step = step.into();
        eprintln!("- {step}");
        self.did.push(step);
    }

    pub fn figure(&mut self, measure: &str, name: impl Into<String>, value: f64, unit: &str) {
        self.figures.push(Figure { measure: measure.into(), name: name.into(), value, unit: unit.into() });
    }

    /// The median and the 99th percentile, where there are samples.
    pub fn percentiles(&mut self, measure: &str, name: &str, samples: &Samples) {
        for (label, percent) in [("p50", 50.0), ("p99", 99.0)] {
            if let Some(value) = samples.percentile(percent) {
                self.figure(measure, format!("{name}, {label}"), value, "ms");
            }
        }
    }

    /// Columns padded to their widest cell; numbers to the right. With another report, its figures of the same names
    /// and what these are of them.
    pub fn table(&self, beside: Option<&Self>) -> String {
        let mut rows = vec![["MEASURE", "WHAT", "VALUE", "UNIT"].map(str::to_owned).to_vec()];
        rows.extend(self.figures.iter().map(row));
        if let Some(other) = beside {
            rows[0].extend(["BESIDE", "RATIO"].map(str::to_owned));
            for (cells, figure) in rows.iter_mut().skip(1).zip(&self.figures) {
                cells.extend(other.find(figure).map_or(["-".into(), "-".into()], |known| {
                    [number(known.value), number(figure.value / known.value)]
                }));
            }
        }
        let columns = rows[0].len();
        let wide: Vec<usize> =
            (0..columns).map(|at| rows.iter().map(|cells| cells[at].chars().count()).max().unwrap_or(0)).collect();
        let cell = |(at, text): (usize, &String)| match at {
            0 | 1 | 3 => format!("{text:<0$}", wide[at]),
            _ => format!("{text:>0$}", wide[at]),
        };
        let line = |cells: &Vec<String>| cells.iter().enumerate().map(cell).collect::<Vec<_>>().join("  ");
        rows.iter().map(|cells| line(cells).trim_end().to_owned() + "\n").collect()
    }

    /// Its figure of that name.
    pub fn find(&self, figure: &Figure) -> Option<&Figure> {
        self.figures.iter().find(|known| known.is_of(figure))
    }
}

fn row(figure: &Figure) -> Vec<String> {
    vec![figure.measure.clone(), figure.name.clone(), number(figure.value), figure.unit.clone()]
}

/// Three digits that count, and every digit before the point.
pub fn number(value: f64) -> String {
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
        assert_eq!(report.table(None), expected);
    }

    #[test]
    fn another_run_stands_beside() {
        let (mut report, mut other) = (Report::default(), Report::default());
        report.figure("objects", "creates", 9000.0, "/s");
        report.figure("memory", "all", 50.0, "MiB");
        other.figure("objects", "creates", 1000.0, "/s");
        let text = serde_json::to_string(&other).unwrap();
        let other: Report = serde_json::from_str(&text).unwrap();
        let expected = "MEASURE  WHAT     VALUE  UNIT  BESIDE  RATIO\n\
                        objects  creates   9000  /s      1000   9.00\n\
                        memory   all       50.0  MiB        -      -\n";
        assert_eq!(report.table(Some(&other)), expected);
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
