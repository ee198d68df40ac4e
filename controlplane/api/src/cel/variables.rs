//! Variables that are expressions themselves, each over those before it: reckoned where somebody asks, once per
//! evaluation. Source: `k8s.io/apiserver/pkg/admission/plugin/cel/composition.go`.
//!
//! Must not know: policies.

use std::cell::RefCell;

use super::parser::HIGHEST;
use super::{Program, Value};

/// The name that they are fields of.
const NAME: &str = "variables";

/// One policy's variables, compiled.
#[derive(Debug, Clone, Default)]
pub struct Variables {
    all: Vec<Variable>,
}

#[derive(Debug, Clone)]
struct Variable {
    name: String,
    program: Program,
    /// Of its tree, with those of the variables that it reads below it.
    height: usize,
}

impl Variables {
    /// Adds one, over `known` names and the variables before it.
    ///
    /// # Errors
    /// What is wrong with it; it is not added then.
    pub fn add(&mut self, name: &str, text: &str, known: &[&str]) -> Result<(), String> {
        let program = Program::compile(text, known)?;
        let height = self.height(&program)?;
        self.all.push(Variable { name: name.to_owned(), program, height });
        Ok(())
    }

    /// An expression over `known` names and the variables.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn program(&self, text: &str, known: &[&str]) -> Result<Program, String> {
        let program = Program::compile(text, known)?;
        self.height(&program)?;
        Ok(program)
    }

    /// Variables are reckoned while what reads them is: all of it stands on one stack.
    fn height(&self, program: &Program) -> Result<usize, String> {
        let mut below = 0;
        for name in &program.reads {
            let at = self.position(name, self.all.len());
            let variable = at.and_then(|at| self.all.get(at));
            let missing = || format!("compilation failed: ERROR: <input>:1:1: undefined field '{name}'");
            below = below.max(variable.ok_or_else(missing)?.height);
        }
        let height = program.height + below;
        if height > HIGHEST {
            let why = format!("expression recursion limit exceeded: {HIGHEST}");
            return Err(format!("compilation failed: ERROR: <input>:1:1: {why}, with the variables that it reads"));
        }
        Ok(height)
    }

    /// The place of the last one of that name before `end`.
    fn position(&self, name: &str, end: usize) -> Option<usize> {
        self.all.get(..end)?.iter().rposition(|it| it.name == name)
    }
}

type Made<'a> = Result<Value<'a>, String>;

/// What expressions are over in one evaluation of a policy: values, and variables as far as they were asked for.
pub struct Known<'a> {
    pub(super) names: Vec<(&'a str, Value<'a>)>,
    variables: Option<&'a Variables>,
    made: RefCell<Vec<Option<Made<'a>>>>,
}

impl<'a> Known<'a> {
    pub fn new(names: Vec<(&'a str, Value<'a>)>, variables: Option<&'a Variables>) -> Self {
        let made = vec![None; variables.map_or(0, |it| it.all.len())];
        Self { names, variables, made: RefCell::new(made) }
    }

    pub(super) fn count(&self) -> usize {
        self.variables.map_or(0, |it| it.all.len())
    }

    /// Whether `name` is what variables are fields of.
    pub(super) fn is_variables(&self, name: &str) -> bool {
        self.variables.is_some() && name == NAME
    }

    /// A variable before `end`, by its name, and its place.
    pub(super) fn variable(&self, name: &str, end: usize) -> Option<(usize, &'a Program)> {
        let variables = self.variables?;
        let at = variables.position(name, end)?;
        variables.all.get(at).map(|it| (at, &it.program))
    }

    pub(super) fn made(&self, at: usize) -> Option<Made<'a>> {
        self.made.borrow().get(at).cloned().flatten()
    }

    pub(super) fn keep(&self, at: usize, made: &Made<'a>) {
        if let Some(place) = self.made.borrow_mut().get_mut(at) {
            *place = Some(made.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cel::POLICY;

    #[test]
    fn a_variable_is_reckoned_once_and_only_where_it_is_read() {
        let mut variables = Variables::default();
        let numbers = format!("[{}]", "1,".repeat(500));
        // two of them are more than one evaluation may take
        variables.add("dear", &format!("{numbers}.map(a, {numbers}.map(b, b)).size()"), POLICY).unwrap();
        variables.add("broken", "object.none", POLICY).unwrap();
        let asked = [
            ("variables.dear + variables.dear", "1000"),
            ("variables.dear", "500"),
            ("variables.broken", "no such key: none"),
            ("true || variables.broken", "true"),
            ("has(variables.dear)", "true"),
        ];
        let programs = asked.map(|(text, _)| variables.program(text, POLICY).unwrap());
        let object = json!({});
        let known = Known::new(vec![("object", Value::of(&object))], Some(&variables));
        for (program, (text, expected)) in programs.iter().zip(asked) {
            let found = program.run_over(&known).and_then(|it| it.to_json());
            assert_eq!(found.map_or_else(|error| error, |it| it.to_string()), expected, "{text}");
        }
    }

    #[test]
    fn variables_read_those_before_them_and_stand_on_one_stack() {
        let mut variables = Variables::default();
        let error = variables.add("a", "variables.b", POLICY).unwrap_err();
        assert!(error.ends_with("undefined field 'b'"), "{error}");
        variables.add("v0", "[1]", POLICY).unwrap();
        let added = (1..200).take_while(|at| {
            let text = format!("[variables.v{}]", at - 1);
            variables.add(&format!("v{at}"), &text, POLICY).is_ok()
        });
        assert!((50..200).contains(&added.count()));
    }
}
