//! Upstream's rules for quantities, by example and by property.

use super::*;

fn q(text: &str) -> Quantity {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn one_spelling_for_one_amount() {
    for (written, canonical) in [
        ("0", "0"),
        ("0.0Mi", "0"),
        ("1000m", "1"),
        ("0.5", "500m"),
        ("1500", "1500"),
        ("1000000", "1M"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1000Ki", "1000Ki"),
        ("100Mi", "100Mi"),
        ("0.5Ki", "512"),
        ("1023", "1023"),
        ("0.5Mi", "512Ki"),
        ("0.1Mi", "104857600m"),
        ("12e6", "12e6"),
        ("12000E3", "12e6"),
        ("100e-3", "100e-3"),
        ("1E", "1E"),
        ("10Ei", "9223372036854775807"),
        ("0.0000000001", "1n"),
        ("-1.5", "-1500m"),
        ("+5", "5"),
        (".5", "500m"),
        ("5.", "5"),
        ("1.1111111111", "1111111112n"),
    ] {
        assert_eq!(q(written).to_string(), canonical, "{written}");
    }
}

#[test]
fn what_is_no_quantity() {
    for (text, error) in [
        ("", ParseError::Format),
        ("1 ", ParseError::Format),
        ("1Gib", ParseError::Format),
        ("ten", ParseError::Format),
        ("1KI", ParseError::Format),
        ("1Km", ParseError::Suffix),
        ("1K", ParseError::Suffix),
        ("1mi", ParseError::Suffix),
        ("Mi", ParseError::Numeric),
        ("1e", ParseError::Suffix),
    ] {
        assert_eq!(text.parse::<Quantity>().expect_err(text), error, "{text}");
    }
}

#[test]
fn values_round_up() {
    assert_eq!((q("100m").value(), q("100m").milli_value()), (1, 100));
    assert_eq!((q("1.5").value(), q("-1.5").value()), (2, -2));
    assert_eq!(q("1Ki").milli_value(), 1_024_000);
    assert_eq!(q("100u").milli_value(), 1);
}

#[test]
fn sums_keep_the_first_format() {
    assert_eq!(q("1Gi").plus(&q("1G")).to_string(), "2073741824");
    assert_eq!(q("1Gi").plus(&q("1Gi")).to_string(), "2Gi");
    assert_eq!(Quantity::ZERO.plus(&q("1Gi")).to_string(), "1Gi");
    assert_eq!(q("1").minus(&q("100m")).to_string(), "900m");
    assert!(q("1000m") == q("1") && q("1Ki") > q("1k"));
}

proptest::proptest! {
    #[test]
    fn canonical_spelling_is_a_fixed_point(whole in 0u64..1 << 40, fraction in 0u32..1000, suffix in "(|m|k|M|G|Ki|Mi|Gi|e3|E-3)") {
        let first = q(&format!("{whole}.{fraction:03}{suffix}"));
        let spelled = first.to_string();
        proptest::prop_assert_eq!(q(&spelled), first);
        proptest::prop_assert_eq!(q(&spelled).to_string(), spelled);
    }

    #[test]
    fn adding_then_subtracting_is_nothing(a in 0i64..1 << 50, b in 0i64..1 << 50) {
        let (a, b) = (Quantity::from_milli(a, Format::DecimalSI), Quantity::from_milli(b, Format::BinarySI));
        proptest::prop_assert_eq!(a.plus(&b).minus(&b), a);
    }

    #[test]
    fn no_text_panics(text in "[-+.0-9eEinumkKMGTP]{0,24}") {
        let _ = text.parse::<Quantity>();
    }
}

#[test]
fn a_spelling_is_kept_where_upstream_finds_nothing_to_shorten() {
    for (given, canonical_form) in [
        ("0", "0"),
        ("100m", "100m"),
        ("1000m", "1"),
        ("1.5", "1500m"),
        ("1000", "1k"),
        ("2500000", "2500k"),
        ("1e3", "1e3"),
        ("10000e3", "10e6"),
        ("-1000m", "-1"),
        (".1", "100m"),
        ("128974848", "128974848"),
        ("1500", "1500"),
        ("1.100", "1.100"),
        ("01", "01"),
        ("0Mi", "0"),
        ("1000E", "1e21"),
        (" 1 ", "1"),
    ] {
        assert_eq!(canonical(given).as_deref(), Ok(canonical_form), "{given}");
    }
}

#[test]
fn exponents_beyond_all_bounds_are_refused() {
    for bad in ["1e100", "1.00000000001e-2147483648", "1e-2147483648", "1.2.3", "--1", "1 Gi"] {
        assert!(canonical(bad).is_err(), "{bad}");
    }
}
