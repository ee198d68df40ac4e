//! What is demanded of a runtime: a name, a sentence, a source, and the test.
//!
//! Must not know: how tests are run and told.

use std::collections::HashMap;

use anyhow::Context as _;
use futures::future::LocalBoxFuture;
use pintle_cri::v1;
use regex::Regex;

use crate::bench::Bench;

/// One demanded behaviour and its test.
#[derive(Debug)]
pub struct Demand {
    /// `area/behaviour`.
    pub name: &'static str,
    /// What a runtime must do, in one sentence.
    pub demand: &'static str,
    /// Where that comes from: a call or field of CRI v1 (`runtime.v1`), or who relies on it upstream.
    pub source: &'static str,
    /// An error is a failure, [`Skip`] inside it excepted.
    pub test: Test,
}

pub type Test = for<'a> fn(&'a Bench) -> LocalBoxFuture<'a, anyhow::Result<()>>;

/// Why a test does not apply to this runtime or machine.
#[derive(Debug)]
pub struct Skip(pub String);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// The answer of a call that kubelets do without where a runtime is too old for it.
///
/// # Errors
/// [`Skip`] where the runtime does not serve the call; its status otherwise.
pub fn optional<T>(call: &str, answer: Result<tonic::Response<T>, tonic::Status>) -> anyhow::Result<T> {
    match answer {
        Err(status) if status.code() == tonic::Code::Unimplemented => {
            Err(Skip(format!("the runtime does not serve {call}")).into())
        }
        other => Ok(other?.into_inner()),
    }
}

/// Fails unless what was found is what is demanded.
///
/// # Errors
/// They differ.
pub fn equal<T: PartialEq<U> + std::fmt::Debug, U: std::fmt::Debug>(
    what: &str,
    found: T,
    demanded: U,
) -> anyhow::Result<()> {
    anyhow::ensure!(found == demanded, "{what} is {found:?}, not {demanded:?}");
    Ok(())
}

/// Fails unless a call was refused with this code.
///
/// # Errors
/// It went well, or failed with another code.
pub fn refused<T>(what: &str, answer: Result<T, tonic::Status>, code: tonic::Code) -> anyhow::Result<()> {
    match answer {
        Ok(_) => anyhow::bail!("{what} was not refused"),
        Err(status) => equal(&format!("the code of {what} ({})", status.message()), status.code(), code),
    }
}

/// Fails unless a call was refused, with whatever code: kubelets tell the error and try again.
///
/// # Errors
/// It went well, or the runtime could not be asked.
pub fn failed<T>(what: &str, answer: Result<T, tonic::Status>) -> anyhow::Result<()> {
    match answer {
        Ok(_) => anyhow::bail!("{what} was not refused"),
        Err(status) if status.code() == tonic::Code::Unavailable => Err(status).with_context(|| what.to_owned()),
        Err(_) => Ok(()),
    }
}

/// Fails unless everything that was given is there; a runtime may add labels of its own.
///
/// # Errors
/// Something is missing or another value.
pub fn holds(what: &str, found: &HashMap<String, String>, given: &HashMap<String, String>) -> anyhow::Result<()> {
    let lost: Vec<_> = given.iter().filter(|(key, value)| found.get(*key) != Some(*value)).collect();
    anyhow::ensure!(lost.is_empty(), "{what} are {found:?}, and lack {lost:?}");
    Ok(())
}

/// An image by its name or reference.
pub fn image(name: &str) -> v1::ImageSpec {
    v1::ImageSpec { image: name.into(), ..Default::default() }
}

/// Which tests are run.
#[derive(Debug, Default)]
pub struct Selection {
    /// Only names in which this is found.
    pub focus: Option<Regex>,
    /// Not those in which this is found.
    pub skip: Option<Regex>,
}

impl Selection {
    pub fn takes(&self, name: &str) -> bool {
        self.focus.as_ref().is_none_or(|focus| focus.is_match(name))
            && !self.skip.as_ref().is_some_and(|skip| skip.is_match(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_runs_when_it_is_in_focus_and_not_skipped() {
        let pattern = |text: &str| Some(Regex::new(text).unwrap());
        let both = Selection { focus: pattern("^exec/"), skip: pattern("timeout") };
        assert!(both.takes("exec/output"));
        assert!(!both.takes("exec/timeout"));
        assert!(!both.takes("log/exec"));
        assert!(Selection::default().takes("anything"));
    }

    #[test]
    fn names_are_unique_and_say_their_area() {
        let names: Vec<_> = crate::demands().iter().map(|one| one.name).collect();
        let unique: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len());
        let areas = "runtime stats list sandbox users container mount device resources security exec attach port-forward log image request";
        let areas: Vec<_> = areas.split(' ').map(|area| format!("{area}/")).collect();
        assert!(names.iter().all(|name| areas.iter().any(|area| name.starts_with(area))), "{names:?}");
    }
}
