//! What the kubelet counts of a quantity: whole units and thousandths.
//!
//! Must not know: which resource is measured, nor how a quantity is spelled.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

fn read(written: &Quantity) -> pintle_api::quantity::Quantity {
    written.try_into().unwrap_or(pintle_api::quantity::Quantity::ZERO)
}

/// Whole units, rounded up, as upstream's `Value()`. An unreadable quantity counts as zero.
pub fn value(quantity: &Quantity) -> i64 {
    read(quantity).value()
}

/// Thousandths, rounded up, as upstream's `MilliValue()`. An unreadable quantity counts as zero.
pub fn milli(quantity: &Quantity) -> i64 {
    read(quantity).milli_value()
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
