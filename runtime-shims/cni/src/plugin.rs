//! The plugin as CNI calls it: a command in the environment, a configuration on stdin, a document on stdout.
//!
//! Under the configuration type `loopback` it is that plugin too, for machines without any CNI plugins.
//! Must not know: which runtime calls.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use crate::attach;
use crate::conf::PLUGIN_NAME;
use crate::error::{CniError, Code, Result};
use crate::request::{Conf, Target, VERSIONS};
use crate::result::AddResult;

/// How the program ends: its exit code, and what it prints (nothing, a result, or an error).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
}

/// A configuration may be this long.
const MOST_STDIN: u64 = 1 << 20;

/// When the program was started under a plugin's name (`pintle-cni`, `loopback`): what [`main`] does. To be asked first.
pub fn invoked() -> Option<ExitCode> {
    let program = std::env::args_os().next()?;
    let name = Path::new(&program).file_name()?;
    (name == PLUGIN_NAME || name == "loopback").then(main)
}

/// The plugin as a program: carries out the call in the process' environment and stdin, prints its document, and tells
/// how to end. To be called before tokio starts.
pub fn main() -> ExitCode {
    let mut stdin = Vec::new();
    // A configuration that cannot be read is reported as a broken one.
    let _ = std::io::stdin().take(MOST_STDIN).read_to_end(&mut stdin);
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    let outcome = call(&std::env::vars_os().filter_map(text).collect(), &stdin);
    if !outcome.stdout.is_empty() {
        println!("{}", outcome.stdout);
    }
    ExitCode::from(u8::try_from(outcome.code).unwrap_or(1))
}

/// Carries out one call. `env` holds `CNI_COMMAND` (ADD, DEL, CHECK, GC, STATUS or VERSION), `CNI_CONTAINERID`,
/// `CNI_NETNS` and `CNI_IFNAME`; `stdin` the network configuration. Blocks, and must not be called inside tokio.
pub fn call(env: &HashMap<String, String>, stdin: &[u8]) -> Outcome {
    let asked: serde_json::Value = serde_json::from_slice(stdin).unwrap_or_default();
    let version = asked.get("cniVersion").and_then(|version| version.as_str()).unwrap_or(VERSIONS[0]);
    match carry_out(env, stdin) {
        Ok(stdout) => Outcome { code: 0, stdout },
        Err(error) => Outcome { code: 1, stdout: error.document(version) },
    }
}

fn carry_out(env: &HashMap<String, String>, stdin: &[u8]) -> Result<String> {
    let command = env.get("CNI_COMMAND").map(String::as_str).unwrap_or_default();
    if command == "VERSION" {
        return Ok(json!({ "cniVersion": "1.1.0", "supportedVersions": VERSIONS }).to_string());
    }
    let conf = Conf::parse(stdin)?;
    let loopback = conf.plugin == "loopback";
    let told = |done: Result<AddResult>| done.map(|result| result.document().to_string());
    let silent = |done: Result<()>| done.map(|()| String::new());
    match command {
        "ADD" if loopback => told(attach::add_loopback(&conf, &Target::read(env)?)),
        "DEL" | "CHECK" | "GC" | "STATUS" if loopback => Ok(String::new()),
        "ADD" => told(attach::add(&conf, &Target::read(env)?)),
        "DEL" => silent(attach::del(&conf, &Target::read(env)?.attachment)),
        "CHECK" => silent(attach::check(&conf, &Target::read(env)?)),
        "GC" => silent(attach::collect(&conf)),
        "STATUS" => silent(attach::status(&conf)),
        other => Err(CniError::new(Code::InvalidEnvironment, format!("CNI_COMMAND {other:?} is unknown"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(command: &str, stdin: &str) -> Outcome {
        call(&HashMap::from([("CNI_COMMAND".to_owned(), command.to_owned())]), stdin.as_bytes())
    }

    #[test]
    fn it_tells_its_versions_without_a_configuration() {
        let outcome = run("VERSION", "");
        assert_eq!(outcome.code, 0);
        assert!(outcome.stdout.contains(r#""supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]"#), "{outcome:?}");
    }

    #[test]
    fn errors_are_documents_with_the_version_that_was_asked_for() {
        let outcome = run("DANCE", r#"{"cniVersion":"1.0.0","name":"pods"}"#);
        assert_eq!(outcome.code, 1);
        assert!(outcome.stdout.contains(r#""cniVersion":"1.0.0","code":4"#), "{outcome:?}");
        assert!(run("ADD", "}").stdout.contains(r#""code":6"#));
    }
}
