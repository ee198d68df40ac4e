//! Walks the sources. Each failure names every place, not only the first.

use std::fs;
use std::path::{Path, PathBuf};

const MOST_LINES: usize = 600;
const MOST_FUNCTION_LINES: usize = 60;

/// A folder of crates and its floor. An arrow only points down; peers on a floor do not import each other.
const FLOORS: &[(&str, u8)] = &[
    ("tests", 4),
    ("kubelet", 3),
    ("proxy", 3),
    ("runtime-shims/oci", 3),
    ("runtime-shims/containerd", 3),
    ("runtime-shims/conformance", 3),
    ("controlplane/apiserver", 3),
    ("controlplane/scheduler", 3),
    ("controlplane/controllers", 3),
    ("runtime-shims/bundle", 2),
    ("runtime-shims/cri", 1),
    ("runtime-shims/cni", 1),
    ("runtime-shims/images", 1),
    ("runtime-shims/launch", 1),
    ("controlplane/client", 1),
    ("controlplane/store", 1),
    ("controlplane/pki", 1),
    ("daemon", 0),
    ("nftables", 0),
    ("systemd", 0),
    ("controlplane/api", 0),
    ("runtime-shims/monitor", 0),
];

/// Who may open the store: everybody else meets the objects through a `kube::Client`.
const OPENS_THE_STORE: &[&str] = &["controlplane/apiserver"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the repository's root").to_owned()
}

/// Every Rust source that a person wrote: `(path from the root, text)`.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    walk(&root(), &mut found);
    assert!(found.len() > 50, "only {} sources found", found.len());
    found
}

fn walk(dir: &Path, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(dir).expect("a folder of the repository").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let skipped = ["target", "generated", "golden", ".git"].iter().any(|it| name == *it);
        if path.is_dir() && !skipped {
            walk(&path, found);
        } else if path.extension().is_some_and(|it| it == "rs") && !name.to_string_lossy().starts_with("generated") {
            let shown = path.strip_prefix(root()).expect("below the root").display().to_string();
            found.push((shown, fs::read_to_string(&path).expect("a readable source")));
        }
    }
}

fn assert_none(what: &str, places: &[String]) {
    assert!(places.is_empty(), "{what}:\n  {}", places.join("\n  "));
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    let bare = sources().into_iter().filter(|(_, text)| !text.starts_with("//!")).map(|(path, _)| path);
    assert_none("files that do not open with `//!`", &bare.collect::<Vec<_>>());
}

#[test]
fn no_file_is_longer_than_a_person_reads() {
    let long = sources().into_iter().map(|(path, text)| (path, text.lines().count()));
    let long = long.filter(|(_, lines)| *lines > MOST_LINES).map(|(path, lines)| format!("{path}: {lines} lines"));
    assert_none("files over 600 lines", &long.collect::<Vec<_>>());
}

#[test]
fn no_function_is_longer_than_a_screen() {
    let mut long = Vec::new();
    for (path, text) in sources() {
        for (name, lines) in functions(&text) {
            if lines > MOST_FUNCTION_LINES {
                long.push(format!("{path}: {name}: {lines} lines"));
            }
        }
    }
    assert_none("functions over 60 lines", &long);
}

/// Each function and its lines: from the line with `fn` to the brace at the same indentation (rustfmt keeps it so).
fn functions(text: &str) -> Vec<(String, usize)> {
    let code = without_literals(text);
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let Some(name) = function_name(trimmed) else { continue };
        let head = lines[at..].iter().find(|it| it.ends_with([';', '{', '}']));
        if !head.is_some_and(|it| it.ends_with('{')) {
            continue;
        }
        let end = format!("{}}}", &line[..line.len() - trimmed.len()]);
        if let Some(length) = lines[at..].iter().position(|it| *it == end) {
            found.push((name, length + 1));
        }
    }
    found
}

/// The source without comments and with its literals emptied, line for line: a brace or a `fn` in a string is no code.
fn without_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let inside_word = code.ends_with(|c: char| c.is_alphanumeric() || c == '_');
        match literal(rest, inside_word) {
            Some(length) => {
                code.extend(rest[..length].chars().filter(|c| *c == '\n'));
                rest = &rest[length..];
            }
            None => {
                code.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    code.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// The length of the comment, string or character that `rest` starts with. A lifetime is none of them.
fn literal(rest: &str, inside_word: bool) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with('"') {
        return Some(quoted(rest, '"'));
    }
    if let Some(after) = rest.strip_prefix('\'') {
        let character = after.starts_with('\\') || after.chars().nth(1) == Some('\'');
        return character.then(|| quoted(rest, '\''));
    }
    let raw = rest.strip_prefix("br").or(rest.strip_prefix('r')).filter(|_| !inside_word)?;
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    let body = raw[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(rest.len() - body.len() + body.find(&end)? + end.len())
}

/// The length of what `rest` quotes, with both quotes; a backslash guards the character after it.
fn quoted(rest: &str, quote: char) -> usize {
    let mut guarded = false;
    for (at, c) in rest.char_indices().skip(1) {
        if c == quote && !guarded {
            return at + 1;
        }
        guarded = c == '\\' && !guarded;
    }
    rest.len()
}

#[test]
fn what_a_string_holds_is_no_code() {
    let text = "fn a<'a>(x: &'a str) {\n    let it = r#\"\n}\nfn b() {\n\"#;\n    let c = ['{', '\\''];\n}\n";
    assert_eq!(functions(text), [("a".to_owned(), 7)]);
    assert_eq!(
        functions("    fn declared(\n        x: u8,\n    ) -> u8;\n    fn it() {\n    }\n"),
        [("it".to_owned(), 2)]
    );
}

fn function_name(line: &str) -> Option<String> {
    let words = ["pub ", "pub(crate) ", "pub(super) ", "const ", "async ", "unsafe "];
    let mut rest = line;
    while let Some(shorter) = words.iter().find_map(|word| rest.strip_prefix(word)) {
        rest = shorter;
    }
    let name = rest.strip_prefix("fn ")?;
    Some(name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
}

#[test]
fn deciding_does_no_io() {
    const IMPURE: [&str; 7] =
        ["tokio::", "std::fs", "std::net::Tcp", "std::net::Udp", "SystemTime::now", "Instant::now", "Timestamp::now"];
    let pure = |path: &str| {
        let api = path.starts_with("controlplane/api/src/");
        api || path.contains("/plan/") || path.ends_with("/plan.rs")
    };
    let mut found = Vec::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| pure(path) && !path.contains("test")) {
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (at, line) in code.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            if let Some(word) = IMPURE.iter().find(|word| line.contains(**word)) {
                found.push(format!("{path}:{}: {word}", at + 1));
            }
        }
    }
    assert_none("I/O, sockets or clocks where things are decided", &found);
}

#[test]
fn every_crate_stands_on_a_floor() {
    let homeless = members().into_iter().filter(|folder| floor(folder).is_none());
    assert_none("crates without a floor", &homeless.collect::<Vec<_>>());
}

#[test]
fn arrows_only_point_down() {
    let mut wrong = Vec::new();
    for folder in members() {
        for below in dependencies(&folder) {
            let (from, to) = (floor(&folder), floor(&below));
            // what tests and benchmarks stand on; nothing that ships may
            let harness = below == "tests/harness" && folder.starts_with("tests/");
            if to >= from && !harness {
                wrong.push(format!("{folder} (floor {from:?}) depends on {below} (floor {to:?})"));
            }
        }
    }
    assert_none("dependencies that do not point down", &wrong);
}

#[test]
fn only_the_front_door_opens_the_store() {
    let opens = |folder: &String| dependencies(folder).iter().any(|it| it == "controlplane/store");
    let wrong = members().into_iter().filter(|it| !OPENS_THE_STORE.contains(&it.as_str()) && opens(it));
    assert_none("crates that go round the API", &wrong.collect::<Vec<_>>());
}

/// The floor of a crate's folder, by the longest entry that the folder is or lies in.
fn floor(folder: &str) -> Option<u8> {
    let holds = |it: &str| Path::new(folder).starts_with(it);
    FLOORS.iter().filter(|(it, _)| holds(it)).max_by_key(|(it, _)| it.len()).map(|(_, floor)| *floor)
}

/// The folders of the workspace's members, as the root's manifest lists them.
fn members() -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the root's manifest");
    let (_, list) = manifest.split_once("members = [").expect("members");
    let list = list.split(']').next().unwrap_or_default();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The members that a crate's manifest names outside its development dependencies.
fn dependencies(folder: &str) -> Vec<String> {
    let manifest = manifest(folder);
    let shipped = manifest.split("[dev-dependencies]").next().unwrap_or_default();
    let names = |member: &String| {
        let name = package(member);
        shipped.lines().any(|line| line.strip_prefix(&name).is_some_and(|after| after.starts_with(['.', ' '])))
    };
    members().into_iter().filter(names).collect()
}

fn manifest(folder: &str) -> String {
    fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a member's manifest")
}

/// What `folder`'s crate is called: the value of its manifest's first `name`.
fn package(folder: &str) -> String {
    let manifest = manifest(folder);
    let name = manifest.lines().find_map(|line| line.strip_prefix("name = ")).expect("a package's name");
    name.trim_matches('"').to_owned()
}

#[test]
fn no_module_is_named_for_nothing() {
    const NAMES: [&str; 4] = ["common", "util", "helpers", "misc"];
    let named = |path: &String| {
        Path::new(path).components().any(|part| {
            let stem = Path::new(part.as_os_str()).file_stem().unwrap_or_default().to_string_lossy().into_owned();
            NAMES.contains(&stem.as_str()) || stem == "utils"
        })
    };
    assert_none("modules named for nothing", &sources().into_iter().map(|it| it.0).filter(named).collect::<Vec<_>>());
}
