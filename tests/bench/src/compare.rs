//! `compare`: the figures of several runs of two stacks as one table in Markdown.
//!
//! Must not know: how anything is measured, or where reports are kept.

use crate::report::{Figure, Report, number};

/// Stands where a stack has no such figure.
const NONE: &str = "–";

/// Every figure that either stack has, in the order of `these`' first run, then those that only `beside` has. Of several
/// runs a figure is the median; one that some runs lack says how many have it.
pub fn markdown(these: &[Report], beside: &[Report]) -> String {
    let mut table = "| | beside | this | ratio | unit |\n|---|---|---|---|---|\n".to_owned();
    for figure in figures(these, beside) {
        let (this, other) = (median(these, figure), median(beside, figure));
        let ratio = this.zip(other).map(|(this, other)| this / other);
        let ratio = ratio.map_or(NONE.to_owned(), number);
        let (other, this) = (cell(beside, figure, other), cell(these, figure, this));
        let line = format!("| {}: {} | {other} | {this} | {ratio} | {} |\n", figure.measure, figure.name, figure.unit);
        table.push_str(&line);
    }
    table
}

/// One figure of each name.
fn figures<'a>(these: &'a [Report], beside: &'a [Report]) -> Vec<&'a Figure> {
    let mut known: Vec<&Figure> = Vec::new();
    for figure in these.iter().chain(beside).flat_map(|report| &report.figures) {
        if !known.iter().any(|it| it.is_of(figure)) {
            known.push(figure);
        }
    }
    known
}

fn values(reports: &[Report], figure: &Figure) -> Vec<f64> {
    reports.iter().filter_map(|report| report.find(figure)).map(|it| it.value).collect()
}

fn median(reports: &[Report], figure: &Figure) -> Option<f64> {
    let mut values = values(reports, figure);
    values.sort_by(f64::total_cmp);
    let (lower, upper) = (values.len().checked_sub(1)? / 2, values.len() / 2);
    Some((values.get(lower)? + values.get(upper)?) / 2.0)
}

fn cell(reports: &[Report], figure: &Figure, median: Option<f64>) -> String {
    let Some(median) = median else { return NONE.to_owned() };
    match (values(reports, figure).len(), reports.len()) {
        (some, all) if some < all => format!("{} ({some} of {all} runs)", number(median)),
        _ => number(median),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(name: &str, value: f64) -> Report {
        let mut report = Report::default();
        report.figure("pods", name, value, "s");
        report
    }

    #[test]
    fn a_line_has_the_medians_of_both_and_their_ratio() {
        let these = [report("0 to 30", 3.0), report("0 to 30", 1.0), report("0 to 30", 2.0)];
        let expected =
            "| | beside | this | ratio | unit |\n|---|---|---|---|---|\n| pods: 0 to 30 | 8.00 | 2.00 | 0.250 | s |\n";
        assert_eq!(markdown(&these, &[report("0 to 30", 8.0)]), expected);
    }

    #[test]
    fn what_only_one_stack_has_stays_in_the_table() {
        let table = markdown(&[report("a", 1.0)], &[report("b", 2.0)]);
        let lines: Vec<&str> = table.lines().skip(2).collect();
        assert_eq!(lines, ["| pods: a | – | 1.00 | – | s |", "| pods: b | 2.00 | – | – | s |"]);
    }

    #[test]
    fn of_an_even_number_of_runs_the_middle_counts() {
        let runs = [report("a", 4.0), report("a", 1.0)];
        assert_eq!(median(&runs, &runs[0].figures[0]), Some(2.5));
        assert_eq!(median(&[], &runs[0].figures[0]), None);
    }

    #[test]
    fn a_figure_that_a_run_lacks_says_so() {
        let table = markdown(&[report("a", 1.0)], &[report("a", 2.0), report("b", 2.0)]);
        assert!(table.contains("| pods: a | 2.00 (1 of 2 runs) | 1.00 | 0.500 | s |"), "{table}");
    }
}
