//! What expressions may not do: grow too high for the stack, too long, or take for ever.

use super::tests::result;

/// On three quarters of the stack that a server's threads have, in a build whose frames are large.
fn on_a_small_stack(texts: Vec<String>) -> Vec<String> {
    let thread = std::thread::Builder::new().stack_size(3 << 19);
    thread.spawn(move || texts.iter().map(|text| result(text)).collect()).unwrap().join().unwrap()
}

/// `before` so many times, `inner`, and `after` as often.
fn nested(before: &str, inner: &str, after: &str, times: usize) -> String {
    format!("{}{inner}{}", before.repeat(times), after.repeat(times))
}

#[test]
fn trees_are_as_high_as_the_stack_has_room_for() {
    let shapes = [
        ("", "1", "+1"),
        ("", "object", ".a"),
        ("", "object", "[0]"),
        ("", "'a'", ".lowerAscii()"),
        ("(", "1", ")"),
        ("[", "1", "]"),
        ("{'a': ", "1", "}"),
        ("dyn(", "1", ")"),
        ("Object{a: ", "1", "}"),
        ("[1].all(x, ", "true", ")"),
        ("[1].map(x, true, ", "1", ")"),
        ("cel.bind(a, ", "1", ", a)"),
        ("cel.bind(a, 1, ", "a", ")"),
        ("true ? (", "1", ") : 2"),
        ("false ? 1 : ", "1", ""),
        ("!(", "true", ")"),
        ("-(", "1", ")"),
        ("'%s'.format([", "1", "])"),
        ("(true && ", "true", ")"),
        ("has(object.a) || (", "true", ")"),
        ("[1][", "0", "]"),
        ("optional.of(", "1", ")"),
    ];
    let some = |times| shapes.iter().map(|(before, inner, after)| nested(before, inner, after, times)).collect();
    let too_high = |it: &&String| it.contains("recursion limit exceeded");
    let accepted = on_a_small_stack(some(45));
    assert_eq!(accepted.iter().filter(too_high).count(), 0, "{accepted:?}");
    on_a_small_stack(some(95));
    on_a_small_stack(some(240));
    let refused = on_a_small_stack(some(260));
    assert_eq!(refused.iter().filter(too_high).count(), shapes.len(), "{refused:?}");
    on_a_small_stack(some(4_000));
}

#[test]
fn what_stands_side_by_side_is_not_high() {
    let many = |text: &str, between: &str, count| vec![text; count].join(between);
    assert_eq!(result(&many("object.spec.replicas == 3", " && ", 3_000)), "true");
    assert_eq!(result(&many("object.spec.replicas == 4", " || ", 3_000)), "false");
    assert_eq!(result(&format!("[{}].size()", many("1", ",", 40_000))), "40000");
    assert_eq!(result(&format!("{}true", "!".repeat(50_001))), "false");
    assert_eq!(result(&format!("{}1", "-".repeat(50_000))), "1");
}

#[test]
fn expressions_are_as_long_as_cel_go_lets_them_be() {
    assert_eq!(result(&format!("{}1", " ".repeat(99_999))), "1");
    assert_eq!(
        result(&format!("{}é", " ".repeat(100_000))),
        "compilation failed: ERROR: <input>:-1:0: expression code point size exceeds limit: size: 100001, limit 100000"
    );
}

#[test]
fn nothing_grows_without_a_bound() {
    let too_costly = "operation cancelled: actual cost limit exceeded";
    let doubled = |begin: &str, times| {
        let binds = (0..times).map(|at| format!("cel.bind(v{}, v{at} + v{at}, ", at + 1)).collect::<String>();
        format!("cel.bind(v0, {begin}, {binds}v{times}.size(){}", ")".repeat(times + 1))
    };
    assert_eq!(result(&doubled("[1]", 10)), "1024");
    assert_eq!(result(&doubled("[1]", 60)), too_costly);
    assert_eq!(result(&doubled("'a'", 60)), too_costly);
    // values that share their parts: small, until somebody writes them down or compares them
    let shared = |what: &str| {
        let binds = (0..40).map(|at| format!("cel.bind(v{}, [v{at}, v{at}], ", at + 1)).collect::<String>();
        format!("cel.bind(v0, [1], {binds}{what}{}", ")".repeat(41))
    };
    for what in ["string(v40)", "v40 == v40", "sets.contains([v40], [v40])"] {
        assert_eq!(result(&shared(what)), too_costly, "{what}");
    }
    let ten = "'aaaaaaaaaa'.replace('', 'bbbbbbbbbb')";
    assert_eq!(result(&format!("{ten}.size()")), "120");
    assert_eq!(result(&format!("{ten}{}.size()", ".replace('', 'bbbbbbbbbb')".repeat(9))), too_costly);
    assert!(result("'%.100000f'.format([1.0])").contains("precision"));
}

#[test]
fn patterns_are_small_and_compiled_once() {
    assert_eq!(result("[1, 2, 3].all(x, 'a1_'.matches(r'^\\w{1,253}$'))"), "true");
    assert_eq!(result("'é'.matches(r'\\w')"), "false", "as Go has it");
    assert!(result("'a'.matches('(a{1000}){1000}')").contains("error parsing regexp"));
    let numbers = format!("[{}]", "1,".repeat(600));
    assert_eq!(result(&format!("{numbers}.all(x, 'a'.matches('a{{1,100}}'))")), "true");
    let endless = format!("{numbers}.all(x, {numbers}.all(y, 'a'.matches('a' + string(x) + string(y)) || true))");
    assert_eq!(result(&endless), "operation cancelled: actual cost limit exceeded");
}
