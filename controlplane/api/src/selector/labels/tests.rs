//! What selectors parse to, match and complain about.

use std::collections::BTreeMap;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

fn parsed(text: &str) -> LabelSelector {
    LabelSelector::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

#[test]
fn written_forms_survive_parsing() {
    for text in ["", "a=b", "a==b", "a!=b", "a in (b,c)", "a notin (b,c)", "a", "!a", "a>5", "a<5", "a=,b in (,x)"] {
        assert_eq!(parsed(text).to_string(), text);
    }
    assert_eq!(parsed(" z , a in ( y,x ) ").to_string(), "a in (x,y),z");
    assert_eq!(parsed("in in (in)").to_string(), "in in (in)");
    assert_eq!(parsed("a notin ()").to_string(), "a notin ()");
}

#[test]
fn matching_follows_upstream() {
    let web = labels(&[("app", "web"), ("n", "7")]);
    for (text, matches) in [
        ("", true),
        ("app=web", true),
        ("app!=web", false),
        ("other!=web", true),
        ("app in (a,web)", true),
        ("app notin (web)", false),
        ("other notin (web)", true),
        ("app,!other", true),
        ("n>6", true),
        ("n<7", false),
        ("app>1", false),
        ("other", false),
    ] {
        assert_eq!(parsed(text).matches(&web), matches, "{text}");
    }
}

#[test]
fn errors_are_upstreams() {
    for (text, error) in [
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a=b,", "found '', expected: identifier after ','"),
        (",a", "found ',', expected: !, identifier, or 'end of string'"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
    ] {
        assert_eq!(LabelSelector::parse(text).expect_err(text), error);
    }
    let bad = LabelSelector::parse("a=-b").expect_err("a value may not begin with a dash");
    assert!(
        bad.starts_with("unable to parse requirement: values[0][a]: Invalid value: \"-b\": a valid label"),
        "{bad}"
    );
}

#[test]
fn absent_matches_nothing_and_empty_everything() {
    let none = LabelSelector::from_metav1(None).expect("absent");
    let empty = LabelSelector::from_metav1(Some(&metav1::LabelSelector::default())).expect("empty");
    assert!(!none.matches(&labels(&[])) && !none.is_everything());
    assert!(empty.matches(&labels(&[("a", "b")])) && empty.is_everything());
}
