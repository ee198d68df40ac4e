//! Kubernetes quantities as numbers: `250m`, `1Gi`, `2e3`.
//!
//! Must not know: which resource is measured.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const SUFFIXES: [(&str, f64); 15] = [
    ("Ki", 1024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
];

fn parse(text: &str) -> Option<f64> {
    // a plain or scientific number first, so that `1E` (exa) and `1e3` do not mix
    if let Ok(number) = text.parse::<f64>() {
        return number.is_finite().then_some(number);
    }
    let (digits, factor) = SUFFIXES.iter().find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, factor)))?;
    digits.parse::<f64>().ok().map(|number| number * factor)
}

/// Whole units, rounded up, as upstream's `Value()`. An unreadable quantity counts as zero.
pub fn value(quantity: &Quantity) -> i64 {
    parse(&quantity.0).map_or(0, |number| number.ceil() as i64)
}

/// Thousandths, rounded up, as upstream's `MilliValue()`.
pub fn milli(quantity: &Quantity) -> i64 {
    // a thousandth of a thousandth absorbs binary fractions of decimal input
    parse(&quantity.0).map_or(0, |number| (number * 1000.0 - 1e-6).ceil() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_read_and_values_round_up() {
        let units = |text: &str| value(&Quantity(text.into()));
        assert_eq!((units("1Gi"), units("128Mi"), units("100m"), units("2k")), (1 << 30, 128 << 20, 1, 2000));
        let thousandths = |text: &str| milli(&Quantity(text.into()));
        assert_eq!((thousandths("250m"), thousandths("0.1"), thousandths("2"), thousandths("x")), (250, 100, 2000, 0));
    }
}
