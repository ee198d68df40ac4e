//! Walks the sources. Each failure names every place, not only the first.

use std::fs;
use std::path::{Path, PathBuf};

const MOST_LINES: usize = 600;
const MOST_FUNCTION_LINES: usize = 60;

/// A crate's folder and its floor. An arrow only points down; peers on a floor do not import each other.
const FLOORS: &[(&str, u8)] = &[
    ("src", 3),
    ("kubelet", 2),
    ("proxy", 2),
    ("controlplane/apiserver", 2),
    ("controlplane/scheduler", 2),
    ("controlplane/controllers", 2),
    ("runtime-shims/cri", 1),
    ("runtime-shims/cni", 1),
    ("controlplane/client", 1),
    ("controlplane/store", 1),
    ("controlplane/pki", 1),
    ("daemon", 0),
    ("controlplane/api", 0),
];

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
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let Some(name) = function_name(trimmed) else { continue };
        let end = format!("{}}}", &line[..line.len() - trimmed.len()]);
        if line.ends_with(';') || line.ends_with('}') {
            continue;
        }
        if let Some(length) = lines[at..].iter().position(|it| *it == end) {
            found.push((name, length + 1));
        }
    }
    found
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
fn arrows_only_point_down() {
    let mut wrong = Vec::new();
    for (folder, floor) in FLOORS.iter().filter(|(folder, _)| *folder != "src") {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        for (below, of) in dependencies(&manifest) {
            if of >= *floor {
                wrong.push(format!("{folder} (floor {floor}) depends on {below} (floor {of})"));
            }
        }
    }
    assert_none("dependencies that do not point down", &wrong);
}

/// The workspace's crates that a manifest names outside its development dependencies, with their floors.
fn dependencies(manifest: &str) -> Vec<(&'static str, u8)> {
    let shipped = manifest.split("[dev-dependencies]").next().unwrap_or_default();
    let named = |folder: &str| {
        let name = format!("pintle-{}", folder.rsplit('/').next().unwrap_or(folder));
        shipped.lines().any(|line| line.starts_with(&format!("{name}.")) || line.starts_with(&format!("{name} ")))
    };
    FLOORS.iter().copied().filter(|(folder, _)| *folder != "src" && named(folder)).collect()
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
