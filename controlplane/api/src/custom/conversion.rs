//! Conversion of custom resources between versions by a webhook: what it is asked, and what its answer must be.
//! Source: `apiextensions-apiserver/pkg/apiserver/conversion`.
//!
//! Must not know: how the webhook is called.

use serde_json::{Map, Value, json};

use crate::field::{Error, Errors, Path};
use crate::object;

/// `spec.conversion.webhook` of a definition.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversion {
    /// `clientConfig`.
    pub client: Value,
    /// The version of ConversionReview to speak: the first it names that is known.
    review: Option<String>,
}

/// The versions of ConversionReview that are spoken.
const KNOWN: [&str; 2] = ["v1", "v1beta1"];

impl Conversion {
    /// None where versions differ in their name alone.
    pub fn of(conversion: &Value) -> Option<Self> {
        if conversion["strategy"] != "Webhook" {
            return None;
        }
        let webhook = &conversion["webhook"];
        let versions = webhook["conversionReviewVersions"].as_array().into_iter().flatten();
        let mut known = versions.filter_map(Value::as_str).filter(|version| KNOWN.contains(version));
        Some(Self { client: webhook["clientConfig"].clone(), review: known.next().map(str::to_owned) })
    }

    /// The request to convert `objects` to `desired`, an apiVersion.
    ///
    /// # Errors
    /// That the webhook speaks no version that is known.
    pub fn request(&self, uid: &str, desired: &str, objects: &[Value]) -> Result<Value, String> {
        let version = self.review.as_deref().ok_or("no supported conversion review versions")?;
        Ok(json!({
            "kind": "ConversionReview", "apiVersion": format!("apiextensions.k8s.io/{version}"),
            "request": { "uid": uid, "desiredAPIVersion": desired, "objects": objects },
        }))
    }

    /// The converted objects of an answer, in the order of `objects`, the originals.
    ///
    /// # Errors
    /// What is wrong with the answer, in upstream's words.
    pub fn converted(&self, answer: Value, uid: &str, desired: &str, objects: &[Value]) -> Result<Vec<Value>, String> {
        let kind = objects.first().map(shown).unwrap_or_default();
        let found = self.objects(answer, uid).map_err(|why| format!("conversion webhook for {kind} failed: {why}"))?;
        if found.len() != objects.len() {
            let (count, expected) = (found.len(), objects.len());
            return Err(format!("conversion webhook for {kind} returned {count} objects, expected {expected}"));
        }
        let all = found.into_iter().zip(objects).enumerate();
        all.map(|(at, (converted, original))| {
            checked(converted, original, desired).map_err(|why| {
                let what = why.what;
                format!("conversion webhook for {kind} returned invalid {what} at index {at}: {}", why.text)
            })
        })
        .collect()
    }

    fn objects(&self, mut answer: Value, uid: &str) -> Result<Vec<Value>, String> {
        let strict = self.review.as_deref() == Some("v1");
        if strict && (answer["apiVersion"] != "apiextensions.k8s.io/v1" || answer["kind"] != "ConversionReview") {
            let got = shown(&answer);
            return Err(format!(
                "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got {got}"
            ));
        }
        let response = &mut answer["response"];
        if response.is_null() {
            return Err("no response provided".to_owned());
        }
        let got = response["uid"].as_str().unwrap_or_default();
        if strict && got != uid {
            return Err(format!("expected response.uid={uid:?}, got {got:?}"));
        }
        let status = response["result"]["status"].as_str().unwrap_or_default();
        if status != "Success" {
            let message = response["result"]["message"].as_str().filter(|it| !it.is_empty()).map(str::to_owned);
            return Err(message.unwrap_or_else(|| format!("response.result.status was '{status}', not 'Success'")));
        }
        match response["convertedObjects"].take() {
            Value::Array(objects) => Ok(objects),
            _ => Ok(Vec::new()),
        }
    }
}

/// `example.com/v1, Kind=Foo`.
fn shown(object: &Value) -> String {
    let said = |field: &str| object[field].as_str().unwrap_or_default();
    format!("{}, Kind={}", said("apiVersion"), said("kind"))
}

struct Wrong {
    what: &'static str,
    text: String,
}

/// A converted object with the metadata of `original`, of which a webhook changes labels and annotations alone.
fn checked(mut converted: Value, original: &Value, desired: &str) -> Result<Value, Wrong> {
    let invalid = |text: String| Wrong { what: "converted object", text };
    let said = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
    let version = said(&converted, "apiVersion");
    if version != desired {
        return Err(invalid(format!("invalid groupVersion (expected {desired}, received {version})")));
    }
    let (expected, got) = (said(original, "kind"), said(&converted, "kind"));
    if expected != got {
        return Err(invalid(format!("invalid kind (expected {expected}, received {got})")));
    }
    for (field, shown) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (expected, got) = (object::meta(original, field), object::meta(&converted, field));
        if expected != got {
            return Err(invalid(format!("must have the same {shown}: {expected} != {got}")));
        }
    }
    let metadata = restored(&original["metadata"], &converted["metadata"])
        .map_err(|text| Wrong { what: "metadata in object", text })?;
    converted["metadata"] = metadata;
    Ok(converted)
}

fn restored(original: &Value, converted: &Value) -> Result<Value, String> {
    let converted = converted.as_object().ok_or("missing metadata in converted object")?;
    let mut metadata = original.as_object().cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        match converted.get(field) {
            None | Some(Value::Null) => {
                metadata.remove(field);
            }
            Some(Value::Object(texts)) => {
                check_texts(field, texts)?;
                metadata.insert(field.to_owned(), Value::Object(texts.clone()));
            }
            Some(_) => return Err(format!("invalid metadata.{field} in converted object")),
        }
    }
    Ok(Value::Object(metadata))
}

fn check_texts(field: &str, texts: &Map<String, Value>) -> Result<(), String> {
    match texts.iter().find(|(_, value)| !value.is_string()) {
        Some((key, _)) => Err(format!("metadata.{field}[{key}] must be a string in converted object")),
        None => Ok(()),
    }
}

/// What is wrong with `spec.conversion`.
pub fn check(conversion: &Value, path: &Path, errors: &mut Errors) {
    let strategy = conversion["strategy"].as_str().unwrap_or("None");
    let webhook = &conversion["webhook"];
    if !matches!(strategy, "None" | "Webhook") {
        errors.push(Error::not_supported(&path.child("strategy"), strategy, &["None", "Webhook"]));
    }
    let (client, versions) = (path.child("webhookClientConfig"), path.child("conversionReviewVersions"));
    if strategy != "Webhook" {
        if !webhook.is_null() {
            errors.push(Error::forbidden(&client, "should not be set when strategy is not set to Webhook"));
        }
        return;
    }
    if webhook["clientConfig"].is_null() {
        errors.push(Error::required(&client, "required when strategy is set to Webhook"));
    } else if webhook["clientConfig"]["url"].is_null() == webhook["clientConfig"]["service"].is_null() {
        errors.push(Error::required(&client, "exactly one of url or service is required"));
    }
    let named: Vec<&str> =
        webhook["conversionReviewVersions"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if named.is_empty() {
        errors.push(Error::required(&versions, ""));
    } else if !named.iter().any(|version| KNOWN.contains(version)) {
        let said = webhook["conversionReviewVersions"].clone();
        errors.push(Error::invalid(&versions, said, "must include at least one of v1, v1beta1"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversion() -> Conversion {
        let webhook = json!({ "clientConfig": { "url": "https://a" }, "conversionReviewVersions": ["v9", "v1"] });
        Conversion::of(&json!({ "strategy": "Webhook", "webhook": webhook })).unwrap()
    }

    fn foo(version: &str) -> Value {
        json!({ "apiVersion": format!("example.com/{version}"), "kind": "Foo",
            "metadata": { "name": "a", "uid": "u", "generation": 3, "labels": { "a": "b" } } })
    }

    fn answer(objects: Value) -> Value {
        json!({ "apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
            "response": { "uid": "1", "result": { "status": "Success" }, "convertedObjects": objects } })
    }

    #[test]
    fn a_webhook_is_asked_for_a_version_and_changes_no_identity() {
        let originals = [foo("v1")];
        let request = conversion().request("1", "example.com/v2", &originals).unwrap();
        assert_eq!(request["request"]["desiredAPIVersion"], "example.com/v2");
        let mut converted = foo("v2");
        converted["metadata"] = json!({ "name": "a", "uid": "u", "labels": { "c": "d" }, "generation": 9 });
        let found = conversion().converted(answer(json!([converted])), "1", "example.com/v2", &originals).unwrap();
        assert_eq!(found[0]["metadata"], json!({ "name": "a", "uid": "u", "generation": 3, "labels": { "c": "d" } }));
    }

    #[test]
    fn what_is_wrong_with_an_answer_is_told_in_upstreams_words() {
        let wrong = |answer: Value| conversion().converted(answer, "1", "example.com/v2", &[foo("v1")]).unwrap_err();
        let about = "conversion webhook for example.com/v1, Kind=Foo";
        assert_eq!(wrong(answer(json!([]))), format!("{about} returned 0 objects, expected 1"));
        let why = "invalid groupVersion (expected example.com/v2, received example.com/v1)";
        assert_eq!(
            wrong(answer(json!([foo("v1")]))),
            format!("{about} returned invalid converted object at index 0: {why}")
        );
        let mut other = foo("v2");
        other["metadata"]["name"] = "b".into();
        assert!(wrong(answer(json!([other]))).ends_with("must have the same name: a != b"));
        let mut failed = answer(json!([]));
        failed["response"]["result"] = json!({ "status": "Failed", "message": "no idea" });
        assert_eq!(wrong(failed), format!("{about} failed: no idea"));
    }
}
