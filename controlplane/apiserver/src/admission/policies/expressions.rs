//! The expressions of one policy: its variables, conditions, and what they come to. Pure.
//!
//! Must not know: where policies and objects come from.

use pintle_api::cel::{self, Program, Value as Cel};
use serde_json::Value;

/// The names and values that expressions are over.
pub type Known<'a> = [(&'static str, &'a Value); 5];

pub struct Expressions {
    variables: Vec<(String, Program)>,
    conditions: Vec<Program>,
}

fn program(text: &str) -> Result<Program, String> {
    Program::compile(text, cel::POLICY)
}

impl Expressions {
    /// Reads a policy's `spec`.
    ///
    /// # Errors
    /// What does not compile. It was checked when the policy was written.
    pub fn compile(spec: &Value) -> Result<Self, String> {
        let list = |field: &str| spec[field].as_array().into_iter().flatten();
        let text = |value: &Value| value["expression"].as_str().unwrap_or_default().to_owned();
        let variable = |it: &Value| {
            let name = it["name"].as_str().unwrap_or_default().to_owned();
            Ok((name, program(&text(it))?))
        };
        Ok(Self {
            variables: list("variables").map(variable).collect::<Result<_, String>>()?,
            conditions: list("matchConditions").map(|it| program(&text(it))).collect::<Result<_, String>>()?,
        })
    }

    /// The variables, each over those before it. One that fails is missing, and so is an error where it is used.
    fn with_variables<'a>(&'a self, known: &Known<'a>) -> Vec<(&'a str, Cel<'a>)> {
        let mut values: Vec<(&str, Cel<'a>)> = known.iter().map(|(name, json)| (*name, Cel::of(json))).collect();
        let mut made: Vec<(Cel<'a>, Cel<'a>)> = Vec::new();
        values.push(("variables", Cel::Map(made.clone().into())));
        for (name, program) in &self.variables {
            if let Ok(value) = program.run_with(&values) {
                made.push((Cel::text(name.as_str()), value));
                values.pop();
                values.push(("variables", Cel::Map(made.clone().into())));
            }
        }
        values
    }

    /// Whether all match conditions hold: one that does not decides, whatever becomes of the others.
    pub fn conditions_hold(&self, known: &Known<'_>) -> Result<bool, String> {
        let values = self.with_variables(known);
        let mut failed = None;
        for condition in &self.conditions {
            match condition.run_with(&values).map(|value| value.as_bool()) {
                Ok(Some(true)) => {}
                Ok(Some(false)) => return Ok(false),
                Ok(None) => failed = Some("match condition is not true or false".to_owned()),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(true), Err)
    }

    pub fn truth(&self, text: &str, known: &Known<'_>) -> Result<bool, String> {
        let program = program(text)?;
        let values = self.with_variables(known);
        let value = program.run_with(&values)?;
        value.as_bool().ok_or_else(|| "the expression is not true or false".to_owned())
    }

    /// A message; none where the expression makes none that could be shown.
    pub fn text(&self, text: &str, known: &Known<'_>) -> Option<String> {
        let program = program(text).ok()?;
        let values = self.with_variables(known);
        let value = program.run_with(&values).ok()?;
        value.as_str().map(str::trim).filter(|it| !it.is_empty() && !it.contains('\n')).map(str::to_owned)
    }

    pub fn json(&self, text: &str, known: &Known<'_>) -> Result<Value, String> {
        let program = program(text)?;
        let values = self.with_variables(known);
        program.run_with(&values)?.to_json()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_are_over_those_before_them() {
        let spec = json!({
            "variables": [
                { "name": "replicas", "expression": "object.spec.replicas" },
                { "name": "odd", "expression": "variables.replicas % 2 == 1" },
                { "name": "broken", "expression": "object.none" },
            ],
            "matchConditions": [{ "name": "a", "expression": "variables.replicas > 1" }],
        });
        let expressions = Expressions::compile(&spec).unwrap();
        let (object, none) = (json!({ "spec": { "replicas": 3 } }), Value::Null);
        let known: Known<'_> = [
            ("object", &object),
            ("oldObject", &none),
            ("request", &none),
            ("params", &none),
            ("namespaceObject", &none),
        ];
        assert!(expressions.conditions_hold(&known).unwrap());
        assert!(expressions.truth("variables.odd", &known).unwrap());
        assert_eq!(expressions.truth("variables.broken", &known).unwrap_err(), "no such key: broken");
        let config = expressions.json("Object{spec: Object.spec{replicas: variables.replicas + 1}}", &known);
        assert_eq!(config.unwrap(), json!({ "spec": { "replicas": 4 } }));
    }
}
