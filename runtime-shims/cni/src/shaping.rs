//! PURE: a limit of bandwidth as the options of a token bucket (`tbf`), in the kernel's terms
//! (`include/uapi/linux/pkt_sched.h`).
//!
//! Must not know: links.

use crate::caller::Bandwidth;

/// `TCA_TBF_PARMS`, `TCA_TBF_RATE64`, `TCA_TBF_BURST`.
const PARAMETERS: u16 = 1;
const RATE64: u16 = 4;
const BURST: u16 = 6;
/// `TC_LINKLAYER_ETHERNET`: the kernel then computes times itself, without a table.
const ETHERNET: u8 = 1;
/// How long packets may wait: upstream's bandwidth plugin waits as long.
const LATENCY_MS: u64 = 25;

/// One direction, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    pub per_second: u64,
    pub burst: u32,
}

impl Limit {
    /// What the pod receives.
    pub fn ingress(of: &Bandwidth) -> Option<Self> {
        Self::new(of.ingress_rate, of.ingress_burst)
    }

    /// What the pod sends.
    pub fn egress(of: &Bandwidth) -> Option<Self> {
        Self::new(of.egress_rate, of.egress_burst)
    }

    /// From bits; no rate is no limit.
    fn new(rate: u64, burst: u64) -> Option<Self> {
        let burst = if burst == 0 { Bandwidth::BURST } else { burst };
        let burst = u32::try_from(burst / 8).unwrap_or(u32::MAX).max(1);
        (rate > 0).then_some(Self { per_second: (rate / 8).max(1), burst })
    }

    /// The attributes of `tbf`, by number.
    pub fn options(self) -> Vec<(u16, Vec<u8>)> {
        let Self { per_second, burst } = self;
        let waiting = per_second.saturating_mul(LATENCY_MS) / 1000;
        let limit = u32::try_from(waiting.saturating_add(u64::from(burst))).unwrap_or(u32::MAX);
        // rate, peak rate (none), bytes that may wait, and two that the burst replaces
        let mut parameters = rate(u32::try_from(per_second).unwrap_or(u32::MAX));
        parameters.extend(rate(0));
        parameters.extend([limit, 0, 0].iter().flat_map(|number| number.to_ne_bytes()));
        let mut options = vec![(PARAMETERS, parameters), (BURST, burst.to_ne_bytes().to_vec())];
        if per_second > u64::from(u32::MAX) {
            options.push((RATE64, per_second.to_ne_bytes().to_vec()));
        }
        options
    }
}

/// `struct tc_ratespec`.
fn rate(per_second: u32) -> Vec<u8> {
    let mut bytes = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
    bytes.extend(per_second.to_ne_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_bits_made_bytes_and_no_rate_is_no_limit() {
        let asked = Bandwidth { ingress_rate: 8_000_000, ingress_burst: 80_000, ..Bandwidth::default() };
        assert_eq!(Limit::ingress(&asked), Some(Limit { per_second: 1_000_000, burst: 10_000 }));
        assert_eq!(Limit::egress(&asked), None);
        let unbounded = Bandwidth { egress_rate: 80, ..Bandwidth::default() };
        assert_eq!(Limit::egress(&unbounded), Some(Limit { per_second: 10, burst: i32::MAX as u32 / 8 }));
    }

    #[test]
    fn the_kernels_structure_has_its_size_and_large_rates_an_attribute_more() {
        let options = |per_second| Limit { per_second, burst: 1 }.options();
        assert_eq!(options(1)[0].1.len(), 36);
        assert_eq!(options(1).len(), 2);
        assert_eq!(options(1 << 33).len(), 3);
    }
}
