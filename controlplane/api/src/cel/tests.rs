//! Expressions and what they come to.

use serde_json::json;

use super::*;

pub fn result(text: &str) -> String {
    let object = json!({
        "metadata": {"name": "web", "labels": {"app": "a", "tier": "b"}},
        "spec": {"replicas": 3, "ports": [80, 443], "cpu": "500m"},
    });
    let program = match Program::compile(text, &["object"]) {
        Ok(program) => program,
        Err(error) => return error,
    };
    match program.run(&[("object", &object)]) {
        Ok(value) => value.to_json().map_or_else(|error| error, |json| json.to_string()),
        Err(error) => error,
    }
}

#[test]
fn expressions_read_objects() {
    for (text, expected) in [
        ("object.metadata.name != 'skip-me'", "true"),
        ("object.spec.replicas <= 5 && object.spec.replicas % 2 == 1", "true"),
        ("has(object.spec.paused) ? 1 : -2", "-2"),
        ("object.spec.ports.all(p, p > 50)", "true"),
        ("object.spec.ports.exists(p, p == 443) && !('x' in object.metadata.labels)", "true"),
        ("object.metadata.labels.map(k, object.metadata.labels[k]).join('-')", "\"a-b\""),
        ("object.spec.ports.filter(p, p < 100).size()", "1"),
        ("object.?status.?phase.orValue('none')", "\"none\""),
        ("quantity(object.spec.cpu).isLessThan(quantity('1'))", "true"),
        ("'%s has %d'.format([object.metadata.name, object.spec.replicas])", "\"web has 3\""),
        ("[1, 2] + [3] == [1, 2, 3] && {'a': 1}.a == 1", "true"),
        ("duration('1h30m') > duration('5400s') || timestamp('2026-01-02T00:00:00Z').getFullYear() == 2026", "true"),
        ("r'a\\b'.size() + \"\\u00e9\".size()", "4"),
        ("Object{spec: Object.spec{replicas: 1}}.spec.replicas", "1"),
        ("cel.bind(n, object.spec.replicas, n + n)", "6"),
        ("'web-1'.matches('^web-[0-9]+$') && 'abc'.substring(1) == 'bc'", "true"),
    ] {
        assert_eq!(result(text), expected, "{text}");
    }
}

#[test]
fn what_fails_says_why() {
    for (text, expected) in [
        ("object.spec.none", "no such key: none"),
        ("object.spec.ports[7]", "index out of bounds: 7"),
        ("1 / 0", "division by zero"),
        ("1 + 'a'", "no such overload: Add(int, string)"),
        ("object.spec.none || true", "true"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("[0,1,2,3,4,5,6,7,8,9].all(a, [0,1,2,3,4,5,6,7,8,9].all(b, 'x'.matches('[') || true))", "true"),
    ] {
        assert_eq!(result(text), expected, "{text}");
    }
}

#[test]
fn what_does_not_compile_is_told_where() {
    let error = result("... [] bad expression");
    assert!(error.starts_with("compilation failed: ERROR: <input>:1:1: Syntax error: "), "{error}");
    assert!(result("object.a +").contains("mismatched input '<EOF>'"));
    assert_eq!(
        result("subject.a == 1"),
        "compilation failed: ERROR: <input>:1:1: undeclared reference to 'subject' (in container '')"
    );
    assert!(result("nothing(1)").contains("undeclared reference to 'nothing'"));
    assert!(result(&"(".repeat(5000)).contains("recursion limit"));
}

#[test]
fn no_expression_goes_on_for_ever() {
    let numbers = format!("[{}]", "1,".repeat(200));
    let text = format!("{numbers}.all(a, {numbers}.all(b, {numbers}.all(c, a + b + c > 0)))");
    assert_eq!(result(&text), "operation cancelled: actual cost limit exceeded");
}
