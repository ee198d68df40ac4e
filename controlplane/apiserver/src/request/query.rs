//! Query strings, and the options of reading and writing verbs in upstream's defaults and error texts.
//!
//! Must not know: any kind, or how a verb is carried out.

use pintle_api::field::{self, Path};
use pintle_api::status::Status;
use serde_json::{Value, json};

/// The parameters of a query, decoded, in their order.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(raw: &str) -> Self {
        Self(form_urlencoded::parse(raw.as_bytes()).into_owned().collect())
    }

    /// The first value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// Upstream's reading of booleans: present and neither `false` nor `0`.
    pub fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|v| !matches!(v.to_ascii_lowercase().as_str(), "false" | "0"))
    }

    fn bool(&self, key: &str) -> Option<bool> {
        self.get(key).map(|_| self.flag(key))
    }

    fn int(&self, key: &str) -> Result<Option<i64>, Status> {
        let Some(text) = self.get(key).filter(|t| !t.is_empty()) else { return Ok(None) };
        text.parse()
            .map(Some)
            .map_err(|_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax")))
    }

    fn text(&self, key: &str) -> String {
        self.get(key).unwrap_or_default().to_owned()
    }
}

/// `metav1.ListOptions`, read from a query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListOptions {
    pub label_selector: String,
    pub field_selector: String,
    pub watch: bool,
    pub bookmarks: bool,
    pub resource_version: String,
    /// Empty, `Exact` or `NotOlderThan`.
    pub resource_version_match: String,
    pub timeout_seconds: Option<i64>,
    /// 0 is without a limit.
    pub limit: usize,
    pub continue_token: String,
    pub send_initial_events: Option<bool>,
}

impl ListOptions {
    pub fn parse(query: &Query, watch: bool) -> Result<Self, Status> {
        let mut options = Self {
            label_selector: query.text("labelSelector"),
            field_selector: query.text("fieldSelector"),
            watch: watch || query.flag("watch"),
            bookmarks: query.flag("allowWatchBookmarks"),
            resource_version: query.text("resourceVersion"),
            resource_version_match: query.text("resourceVersionMatch"),
            timeout_seconds: query.int("timeoutSeconds")?,
            limit: usize::try_from(query.int("limit")?.unwrap_or(0)).unwrap_or(0),
            continue_token: query.text("continue"),
            send_initial_events: query.bool("sendInitialEvents"),
        };
        options.legacy_initial_events();
        options.check()?;
        Ok(options)
    }

    /// A watch from "any" version sends what is there first, as `sendInitialEvents` spells out.
    fn legacy_initial_events(&mut self) {
        let legacy = matches!(self.resource_version.as_str(), "" | "0");
        if self.watch && legacy && self.send_initial_events.is_none() && self.resource_version_match.is_empty() {
            self.send_initial_events = Some(true);
            self.resource_version_match = "NotOlderThan".to_owned();
        }
    }

    fn check(&self) -> Result<(), Status> {
        let errors = if self.watch { self.watch_errors() } else { self.list_errors() };
        if errors.is_empty() { Ok(()) } else { Err(Status::invalid("ListOptions", "meta.k8s.io", "", &errors)) }
    }

    fn list_errors(&self) -> field::Errors {
        let path = Path::new("resourceVersionMatch");
        let mut errors = field::Errors::new();
        let found = self.resource_version_match.as_str();
        if !found.is_empty() {
            if self.resource_version.is_empty() {
                let why = "resourceVersionMatch is forbidden unless resourceVersion is provided";
                errors.push(field::Error::forbidden(&path, why));
            }
            if !self.continue_token.is_empty() {
                errors.push(forbidden_with_continue(&path));
            }
            if !matches!(found, "Exact" | "NotOlderThan") {
                errors.push(field::Error::not_supported(&path, found, &["Exact", "NotOlderThan", ""]));
            }
            if found == "Exact" && self.resource_version == "0" {
                let why = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
                errors.push(field::Error::forbidden(&path, why));
            }
        }
        if self.send_initial_events.is_some() {
            let path = Path::new("sendInitialEvents");
            errors.push(field::Error::forbidden(&path, "sendInitialEvents is forbidden for list"));
        }
        errors
    }

    fn watch_errors(&self) -> field::Errors {
        let path = Path::new("resourceVersionMatch");
        let mut errors = field::Errors::new();
        let found = self.resource_version_match.as_str();
        if self.send_initial_events.is_some() && found != "NotOlderThan" {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            errors.push(field::Error::forbidden(&path, why));
        }
        if !found.is_empty() {
            if self.send_initial_events.is_none() {
                let why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                errors.push(field::Error::forbidden(&path, why));
            }
            if found != "NotOlderThan" {
                errors.push(field::Error::not_supported(&path, found, &["NotOlderThan"]));
            }
            if !self.continue_token.is_empty() {
                errors.push(forbidden_with_continue(&path));
            }
        }
        errors
    }
}

fn forbidden_with_continue(path: &Path) -> field::Error {
    field::Error::forbidden(path, "resourceVersionMatch is forbidden when continue is provided")
}

/// `metav1.CreateOptions`, `UpdateOptions` and `PatchOptions`, which differ in name only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WriteOptions {
    pub dry_run: bool,
    /// `Ignore`, `Warn` or `Strict`.
    pub field_validation: FieldValidation,
    /// Empty: the user agent's first word.
    pub field_manager: String,
    /// Server-side apply only.
    pub force: Option<bool>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum FieldValidation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

impl WriteOptions {
    /// `kind` is that of the options: `CreateOptions`.
    pub fn parse(query: &Query, kind: &str) -> Result<Self, Status> {
        let mut errors = field::Errors::new();
        let dry: Vec<&str> = query.all("dryRun").filter(|v| !v.is_empty()).collect();
        check_dry_run(&dry, &mut errors);
        let field_validation = match query.get("fieldValidation").unwrap_or_default() {
            "" | "Warn" => FieldValidation::Warn,
            "Strict" => FieldValidation::Strict,
            "Ignore" => FieldValidation::Ignore,
            other => {
                let path = Path::new("fieldValidation");
                errors.push(field::Error::not_supported(&path, other, &["", "Ignore", "Strict", "Warn"]));
                FieldValidation::Warn
            }
        };
        let field_manager = query.text("fieldManager");
        check_manager(&field_manager, &mut errors);
        if !errors.is_empty() {
            return Err(Status::invalid(kind, "meta.k8s.io", "", &errors));
        }
        Ok(Self { dry_run: !dry.is_empty(), field_validation, field_manager, force: query.bool("force") })
    }
}

fn check_dry_run(dry: &[&str], errors: &mut field::Errors) {
    if dry.iter().any(|v| *v != "All") {
        let path = Path::new("dryRun");
        errors.push(field::Error::not_supported(&path, json!(dry), &["All"]));
    }
}

fn check_manager(manager: &str, errors: &mut field::Errors) {
    let path = Path::new("fieldManager");
    if manager.len() > 128 {
        errors.push(field::Error::too_long(&path, 128));
    }
    if manager.chars().any(char::is_control) {
        errors.push(field::Error::invalid(&path, manager, "should only contain printable characters"));
    }
}

/// `metav1.DeleteOptions`, of a body or of a query.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub uid: Option<String>,
    pub resource_version: Option<String>,
    pub orphan_dependents: Option<bool>,
    /// `Orphan`, `Background` or `Foreground`.
    pub propagation_policy: Option<String>,
    pub dry_run: bool,
}

impl DeleteOptions {
    pub fn from_query(query: &Query) -> Result<Self, Status> {
        let mut body = json!({});
        if let Some(seconds) = query.int("gracePeriodSeconds")? {
            body["gracePeriodSeconds"] = seconds.into();
        }
        if let Some(policy) = query.get("propagationPolicy") {
            body["propagationPolicy"] = policy.into();
        }
        if let Some(orphan) = query.bool("orphanDependents") {
            body["orphanDependents"] = orphan.into();
        }
        let dry: Vec<&str> = query.all("dryRun").filter(|v| !v.is_empty()).collect();
        body["dryRun"] = json!(dry);
        Self::from_value(&body)
    }

    pub fn from_value(body: &Value) -> Result<Self, Status> {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let dry: Vec<&str> = body["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let it = Self {
            grace_period_seconds: body["gracePeriodSeconds"].as_i64(),
            uid: text(&body["preconditions"]["uid"]),
            resource_version: text(&body["preconditions"]["resourceVersion"]),
            orphan_dependents: body["orphanDependents"].as_bool(),
            propagation_policy: text(&body["propagationPolicy"]),
            dry_run: !dry.is_empty(),
        };
        it.check(&dry)?;
        Ok(it)
    }

    fn check(&self, dry: &[&str]) -> Result<(), Status> {
        let mut errors = field::Errors::new();
        let policy = Path::new("propagationPolicy");
        if self.orphan_dependents.is_some() && self.propagation_policy.is_some() {
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(field::Error::invalid(&policy, self.propagation_policy.clone(), why));
        }
        match self.propagation_policy.as_deref() {
            None | Some("Orphan" | "Background" | "Foreground") => {}
            Some(other) => {
                let known = ["Background", "Foreground", "Orphan", "nil"];
                errors.push(field::Error::not_supported(&policy, other, &known));
            }
        }
        check_dry_run(dry, &mut errors);
        if errors.is_empty() { Ok(()) } else { Err(Status::invalid("DeleteOptions", "meta.k8s.io", "", &errors)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_true_unless_they_say_no() {
        let query = Query::parse("a=1&b=false&c=0&d=&e=FALSE");
        let seen: Vec<bool> = ["a", "b", "c", "d", "e", "f"].iter().map(|k| query.flag(k)).collect();
        assert_eq!(seen, [true, false, false, true, false, false]);
    }

    #[test]
    fn a_number_that_is_none_is_a_bad_request() {
        let error = ListOptions::parse(&Query::parse("limit=x"), false).unwrap_err();
        assert_eq!(error.message, "strconv.ParseInt: parsing \"x\": invalid syntax");
    }

    #[test]
    fn a_match_without_a_version_is_invalid() {
        let error = ListOptions::parse(&Query::parse("resourceVersionMatch=Exact"), false).unwrap_err();
        assert_eq!(
            error.message,
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is \
             forbidden unless resourceVersion is provided"
        );
    }

    #[test]
    fn both_ways_of_orphaning_exclude_each_other() {
        let both = json!({"orphanDependents": true, "propagationPolicy": "Orphan"});
        assert_eq!(DeleteOptions::from_value(&both).unwrap_err().code, 422);
        assert!(DeleteOptions::from_value(&json!({"propagationPolicy": "Foreground"})).is_ok());
    }
}
