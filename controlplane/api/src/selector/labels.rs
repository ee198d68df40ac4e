//! Label selectors, as `k8s.io/apimachinery/pkg/labels` has them: written (`app=web,tier in (a,b),!old`) or as
//! `metav1.LabelSelector`.
//!
//! Must not know: any kind.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as metav1;
use serde_json::Value;

use super::lexer::{Token, tokens};
use crate::field::{Error, Path};
use crate::validation::names;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Equals,
    DoubleEquals,
    NotEquals,
    In,
    NotIn,
    Exists,
    DoesNotExist,
    GreaterThan,
    LessThan,
}

/// One condition on one label. `values` is sorted and without repeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    pub values: Vec<String>,
}

/// All of its requirements together, ordered by key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelSelector {
    pub requirements: Vec<Requirement>,
    /// Whether it matches nothing at all (what an absent `metav1.LabelSelector` means).
    nothing: bool,
}

impl Requirement {
    /// Checks key, number of values and values; errors are upstream's, joined as upstream joins them.
    pub fn new(key: &str, operator: Operator, mut values: Vec<String>) -> Result<Self, String> {
        values.sort();
        values.dedup();
        let mut errors = Vec::new();
        let path = Path::default();
        if let Some(problem) = joined(names::qualified_name(key)) {
            errors.push(Error::invalid(&path.child("key"), key, problem));
        }
        let at = path.child("values");
        errors.extend(count_problem(operator, &values).map(|p| Error::invalid(&at, values.clone(), p)));
        if matches!(operator, Operator::GreaterThan | Operator::LessThan) {
            for (i, value) in values.iter().enumerate().filter(|(_, v)| v.parse::<i64>().is_err()) {
                let detail = "for 'Gt', 'Lt' operators, the value must be an integer";
                errors.push(Error::invalid(&at.index(i), value.as_str(), detail));
            }
        }
        for (i, value) in values.iter().enumerate() {
            if let Some(problem) = joined(names::label_value(value)) {
                errors.push(Error::invalid(&at.index(i).key(key), value.as_str(), problem));
            }
        }
        match errors.as_slice() {
            [] => Ok(Self { key: key.to_owned(), operator, values }),
            [one] => Err(one.to_string()),
            many => Err(format!("[{}]", many.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))),
        }
    }

    /// Whether a label's value (`None`: the label is absent) meets it.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let has = |v: &str| self.values.iter().any(|x| x == v);
        match (self.operator, value) {
            (Operator::Exists, value) => value.is_some(),
            (Operator::DoesNotExist, value) => value.is_none(),
            (Operator::NotIn | Operator::NotEquals, value) => value.is_none_or(|v| !has(v)),
            (Operator::In | Operator::Equals | Operator::DoubleEquals, Some(v)) => has(v),
            (Operator::GreaterThan, Some(v)) => self.compared(v).is_some_and(|(a, b)| a > b),
            (Operator::LessThan, Some(v)) => self.compared(v).is_some_and(|(a, b)| a < b),
            (_, None) => false,
        }
    }

    fn compared(&self, value: &str) -> Option<(i64, i64)> {
        Some((value.parse().ok()?, self.values.first()?.parse().ok()?))
    }
}

fn joined(problems: Vec<String>) -> Option<String> {
    (!problems.is_empty()).then(|| problems.join("; "))
}

fn count_problem(operator: Operator, values: &[String]) -> Option<&'static str> {
    use Operator as O;
    match (operator, values.len()) {
        (O::In | O::NotIn, 0) => Some("for 'in', 'notin' operators, values set can't be empty"),
        (O::Equals | O::DoubleEquals | O::NotEquals, n) if n != 1 => {
            Some("exact-match compatibility requires one single value")
        }
        (O::Exists | O::DoesNotExist, n) if n != 0 => Some("values set must be empty for exists and does not exist"),
        (O::GreaterThan | O::LessThan, n) if n != 1 => Some("for 'Gt', 'Lt' operators, exactly one value is required"),
        _ => None,
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let values = self.values.join(",");
        let key = &self.key;
        match self.operator {
            Operator::Exists => f.write_str(key),
            Operator::DoesNotExist => write!(f, "!{key}"),
            Operator::Equals => write!(f, "{key}={values}"),
            Operator::DoubleEquals => write!(f, "{key}=={values}"),
            Operator::NotEquals => write!(f, "{key}!={values}"),
            Operator::In => write!(f, "{key} in ({values})"),
            Operator::NotIn => write!(f, "{key} notin ({values})"),
            Operator::GreaterThan => write!(f, "{key}>{values}"),
            Operator::LessThan => write!(f, "{key}<{values}"),
        }
    }
}

impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, requirement) in self.requirements.iter().enumerate() {
            write!(f, "{}{requirement}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl LabelSelector {
    pub const EVERYTHING: Self = Self { requirements: Vec::new(), nothing: false };
    pub const NOTHING: Self = Self { requirements: Vec::new(), nothing: true };

    /// Of requirements in any order.
    pub fn of(mut requirements: Vec<Requirement>) -> Self {
        requirements.sort_by(|a, b| a.key.cmp(&b.key));
        Self { requirements, nothing: false }
    }

    /// A written selector. Errors are upstream's.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { tokens: tokens(text), at: 0 };
        parser.selector().map(Self::of)
    }

    /// As `metav1.LabelSelectorAsSelector`: absent matches nothing, empty matches everything.
    pub fn from_metav1(selector: Option<&metav1::LabelSelector>) -> Result<Self, String> {
        let Some(selector) = selector else { return Ok(Self::NOTHING) };
        let mut requirements = Vec::new();
        for (key, value) in selector.match_labels.iter().flatten() {
            requirements.push(Requirement::new(key, Operator::Equals, vec![value.clone()])?);
        }
        for expression in selector.match_expressions.iter().flatten() {
            let operator = match expression.operator.as_str() {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(format!("{other:?} is not a valid label selector operator")),
            };
            let values = expression.values.clone().unwrap_or_default();
            requirements.push(Requirement::new(&expression.key, operator, values)?);
        }
        Ok(Self::of(requirements))
    }

    /// Exactly these labels, unchecked: a Service's or ReplicationController's selector. Empty matches everything.
    pub fn from_map<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let equals = |(key, value): (&String, &String)| Requirement {
            key: key.clone(),
            operator: Operator::Equals,
            values: vec![value.clone()],
        };
        Self::of(labels.into_iter().map(equals).collect())
    }

    /// Whether it lets everything through.
    pub fn is_everything(&self) -> bool {
        !self.nothing && self.requirements.is_empty()
    }

    /// Whether labels, read through `get`, meet it.
    pub fn matches_with<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.nothing && self.requirements.iter().all(|r| r.matches(get(&r.key)))
    }

    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }

    /// Whether the `metadata.labels` of an untyped object meet it.
    pub fn matches_object(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.matches_with(|key| labels.get(key).and_then(Value::as_str))
    }
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Token<'a> {
        self.tokens.get(self.at).cloned().unwrap_or(Token::End)
    }

    /// The next token where a value may stand: there, `in` and `notin` are words like others.
    fn peek_value(&self) -> Token<'a> {
        match self.peek() {
            Token::In => Token::Word("in"),
            Token::NotIn => Token::Word("notin"),
            other => other,
        }
    }

    fn next_value(&mut self) -> Token<'a> {
        let token = self.peek_value();
        self.at += 1;
        token
    }

    fn selector(&mut self) -> Result<Vec<Requirement>, String> {
        let mut requirements = Vec::new();
        loop {
            match self.peek_value() {
                Token::Word(_) | Token::Not => {}
                Token::End => return Ok(requirements),
                other => {
                    return Err(format!("found '{}', expected: !, identifier, or 'end of string'", other.literal()));
                }
            }
            let requirement = self.requirement().map_err(|e| format!("unable to parse requirement: {e}"))?;
            requirements.push(requirement);
            match self.next_value() {
                Token::End => return Ok(requirements),
                Token::Comma => match self.peek_value() {
                    Token::Word(_) | Token::Not => {}
                    other => return Err(format!("found '{}', expected: identifier after ','", other.literal())),
                },
                other => return Err(format!("found '{}', expected: ',' or 'end of string'", other.literal())),
            }
        }
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let mut token = self.next_value();
        let negated = token == Token::Not;
        if negated {
            token = self.next_value();
        }
        let Token::Word(key) = token else {
            return Err(format!("found '{}', expected: identifier", token.literal()));
        };
        if let Some(problem) = joined(names::qualified_name(key)) {
            return Err(Error::invalid(&Path::default(), key, problem).to_string());
        }
        if negated {
            return Requirement::new(key, Operator::DoesNotExist, Vec::new());
        }
        if matches!(self.peek_value(), Token::End | Token::Comma) {
            return Requirement::new(key, Operator::Exists, Vec::new());
        }
        let operator = self.operator()?;
        let values = match operator {
            Operator::In | Operator::NotIn => self.set()?,
            _ => vec![self.exact()?],
        };
        Requirement::new(key, operator, values)
    }

    fn operator(&mut self) -> Result<Operator, String> {
        let token = self.peek();
        self.at += 1;
        Ok(match token {
            Token::In => Operator::In,
            Token::NotIn => Operator::NotIn,
            Token::Equals => Operator::Equals,
            Token::DoubleEquals => Operator::DoubleEquals,
            Token::NotEquals => Operator::NotEquals,
            Token::Greater => Operator::GreaterThan,
            Token::Less => Operator::LessThan,
            other => {
                let expected = "in, notin, =, ==, !=, gt, lt";
                return Err(format!("found '{}', expected: {expected}", other.literal()));
            }
        })
    }

    fn exact(&mut self) -> Result<String, String> {
        match self.peek_value() {
            Token::End | Token::Comma => Ok(String::new()),
            Token::Word(word) => {
                self.at += 1;
                Ok(word.to_owned())
            }
            other => Err(format!("found '{}', expected: identifier", other.literal())),
        }
    }

    /// `(a,b)`; an empty place between commas is an empty value.
    fn set(&mut self) -> Result<Vec<String>, String> {
        let open = self.next_value();
        if open != Token::Open {
            return Err(format!("found '{}' expected: '('", open.literal()));
        }
        let first = self.peek_value();
        if !matches!(first, Token::Word(_) | Token::Comma | Token::Close) {
            return Err(format!("found '{}', expected: ',', ')' or identifier", first.literal()));
        }
        let mut values = Vec::new();
        loop {
            match self.next_value() {
                Token::Word(word) => values.push(word.to_owned()),
                Token::Comma | Token::Close => {
                    self.at -= 1;
                    values.push(String::new());
                }
                other => return Err(format!("found '{}', expected: ',', or identifier", other.literal())),
            }
            match self.next_value() {
                Token::Comma => {}
                Token::Close => return Ok(values),
                other => return Err(format!("found '{}', expected: ',' or ')'", other.literal())),
            }
        }
    }
}

#[cfg(test)]
mod tests;
