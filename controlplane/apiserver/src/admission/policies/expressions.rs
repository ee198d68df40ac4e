//! The expressions of one policy: its variables, conditions, and what they come to. Pure.
//!
//! Must not know: where policies and objects come from.

use pintle_api::cel::{self, Known, Program, Value as Cel, Variables};
use serde_json::Value;

/// The names and values that expressions are over.
pub type Values<'a> = [(&'static str, &'a Value); 5];

/// Compiled once per version of a policy.
pub struct Expressions {
    variables: Variables,
    conditions: Vec<Program>,
    /// Those of `validations`, each with its message's.
    validations: Vec<(Program, Option<Program>)>,
    mutations: Vec<Program>,
}

impl Expressions {
    /// Reads a policy's `spec`.
    ///
    /// # Errors
    /// What does not compile. It was checked when the policy was written.
    pub fn compile(spec: &Value) -> Result<Self, String> {
        let list = |field: &str| spec[field].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut variables = Variables::default();
        for it in list("variables") {
            variables.add(&text(&it["name"]), &text(&it["expression"]), cel::POLICY)?;
        }
        let program = |value: &Value| variables.program(&text(value), cel::POLICY);
        let validation = |it: &Value| Ok((program(&it["expression"])?, program(&it["messageExpression"]).ok()));
        let mutation = |it: &Value| {
            let field = if it["patchType"] == "JSONPatch" { "jsonPatch" } else { "applyConfiguration" };
            program(&it[field]["expression"])
        };
        Ok(Self {
            conditions: list("matchConditions").map(|it| program(&it["expression"])).collect::<Result<_, String>>()?,
            validations: list("validations").map(validation).collect::<Result<_, String>>()?,
            mutations: list("mutations").map(mutation).collect::<Result<_, String>>()?,
            variables,
        })
    }

    /// For one evaluation: variables are reckoned once in it.
    pub fn over<'a>(&'a self, values: &Values<'a>) -> Evaluation<'a> {
        let names = values.iter().map(|(name, json)| (*name, Cel::of(json))).collect();
        Evaluation { expressions: self, known: Known::new(names, Some(&self.variables)) }
    }
}

pub struct Evaluation<'a> {
    expressions: &'a Expressions,
    known: Known<'a>,
}

impl Evaluation<'_> {
    /// Whether all match conditions hold: one that does not decides, whatever becomes of the others.
    pub fn conditions_hold(&self) -> Result<bool, String> {
        let mut failed = None;
        for condition in &self.expressions.conditions {
            match condition.run_over(&self.known).map(|value| value.as_bool()) {
                Ok(Some(true)) => {}
                Ok(Some(false)) => return Ok(false),
                Ok(None) => failed = Some("match condition is not true or false".to_owned()),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(true), Err)
    }

    /// Whether a validation holds, by its place.
    pub fn holds(&self, at: usize) -> Result<bool, String> {
        let (program, _) = self.expressions.validations.get(at).ok_or("the policy has no such validation")?;
        let value = program.run_over(&self.known)?;
        value.as_bool().ok_or_else(|| "the expression is not true or false".to_owned())
    }

    /// The message that a validation makes; none where it makes none that could be shown.
    pub fn message(&self, at: usize) -> Option<String> {
        let (_, message) = self.expressions.validations.get(at)?;
        let value = message.as_ref()?.run_over(&self.known).ok()?;
        value.as_str().map(str::trim).filter(|it| !it.is_empty() && !it.contains('\n')).map(str::to_owned)
    }

    /// What a mutation comes to, by its place.
    pub fn mutation(&self, at: usize) -> Result<Value, String> {
        let program = self.expressions.mutations.get(at).ok_or("the policy has no such mutation")?;
        program.run_over(&self.known)?.to_json()
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
            "validations": [
                { "expression": "variables.odd", "messageExpression": "'has ' + string(variables.replicas)" },
                { "expression": "variables.broken" },
            ],
            "mutations": [{ "applyConfiguration": {
                "expression": "Object{spec: Object.spec{replicas: variables.replicas + 1}}" } }],
        });
        let (object, none) = (json!({ "spec": { "replicas": 3 } }), Value::Null);
        let expressions = Expressions::compile(&spec).unwrap();
        let evaluation = expressions.over(&[
            ("object", &object),
            ("oldObject", &none),
            ("request", &none),
            ("params", &none),
            ("namespaceObject", &none),
        ]);
        assert!(evaluation.conditions_hold().unwrap());
        assert!(evaluation.holds(0).unwrap());
        assert_eq!(evaluation.message(0).unwrap(), "has 3");
        assert_eq!(evaluation.holds(1).unwrap_err(), "no such key: none");
        assert_eq!(evaluation.message(1), None);
        assert_eq!(evaluation.mutation(0).unwrap(), json!({ "spec": { "replicas": 4 } }));
    }
}
