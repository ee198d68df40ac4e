//! Tokens into a syntax tree.
//!
//! Must not know: what names mean.

use super::lexer::{Error, Kind, Token};
use super::syntax::{Expr, Literal, Macro, Operator};

/// How deep an expression may nest: the parser and the evaluator recurse.
const DEEPEST: usize = 100;

const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

pub fn parse(tokens: &[Token], length: usize) -> Result<Expr, Error> {
    let mut parser = Parser { tokens, at: 0, length, depth: 0 };
    let expr = parser.conditional()?;
    match parser.peek() {
        None => Ok(expr),
        Some(_) => Err(parser.unexpected("<EOF>")),
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    length: usize,
    depth: usize,
}

type Parsed = Result<Expr, Error>;

/// The binary operators from the loosest to the tightest.
const LEVELS: &[&[(&str, Operator)]] = &[
    &[("||", Operator::Or)],
    &[("&&", Operator::And)],
    &[
        ("==", Operator::Equal),
        ("!=", Operator::NotEqual),
        ("<", Operator::Less),
        ("<=", Operator::LessEqual),
        (">", Operator::Greater),
        (">=", Operator::GreaterEqual),
        ("in", Operator::In),
    ],
    &[("+", Operator::Add), ("-", Operator::Subtract)],
    &[("*", Operator::Multiply), ("/", Operator::Divide), ("%", Operator::Modulo)],
];

impl Parser<'_> {
    fn peek(&self) -> Option<&Kind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.peek(), Some(Kind::Symbol(it)) if *it == symbol)
    }

    fn take(&mut self, symbol: &str) -> bool {
        let there = self.is(symbol);
        self.at += usize::from(there);
        there
    }

    fn expect(&mut self, symbol: &str) -> Result<(), Error> {
        if self.take(symbol) { Ok(()) } else { Err(self.unexpected(&format!("'{symbol}'"))) }
    }

    fn unexpected(&self, wanted: &str) -> Error {
        let at = self.tokens.get(self.at).map_or(self.length, |token| token.at);
        let found = match self.peek() {
            None => "<EOF>".to_owned(),
            Some(Kind::Symbol(symbol)) => (*symbol).to_owned(),
            Some(Kind::Ident(name)) => name.clone(),
            Some(_) => "literal".to_owned(),
        };
        Error { at, why: format!("mismatched input '{found}' expecting {wanted}") }
    }

    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        if self.depth >= DEEPEST {
            let at = self.tokens.get(self.at).map_or(self.length, |token| token.at);
            return Err(Error { at, why: format!("expression recursion limit exceeded: {DEEPEST}") });
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn conditional(&mut self) -> Parsed {
        self.nested(|parser| {
            let condition = parser.binary(0)?;
            if !parser.take("?") {
                return Ok(condition);
            }
            let then = parser.binary(0)?;
            parser.expect(":")?;
            let otherwise = parser.conditional()?;
            Ok(Expr::Conditional(condition.into(), then.into(), otherwise.into()))
        })
    }

    fn binary(&mut self, level: usize) -> Parsed {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.binary(level + 1)?;
        let mut chain = 0;
        while let Some(operator) = self.operator(operators) {
            self.at += 1;
            chain += 1;
            if chain > 10 * DEEPEST {
                return Err(self.unexpected("fewer operators"));
            }
            let right = self.binary(level + 1)?;
            left = Expr::Binary(operator, left.into(), right.into());
        }
        Ok(left)
    }

    fn operator(&self, operators: &[(&str, Operator)]) -> Option<Operator> {
        let text = match self.peek()? {
            Kind::Symbol(symbol) => symbol,
            Kind::Ident(name) if name == "in" => "in",
            _ => return None,
        };
        operators.iter().find(|(symbol, _)| *symbol == text).map(|(_, operator)| *operator)
    }

    fn unary(&mut self) -> Parsed {
        if self.take("!") {
            return Ok(Expr::Not(self.nested(Self::unary)?.into()));
        }
        if self.take("-") {
            if let Some(Kind::Least) = self.peek() {
                self.at += 1;
                return Ok(Expr::Literal(Literal::Int(i64::MIN)));
            }
            return Ok(Expr::Negate(self.nested(Self::unary)?.into()));
        }
        self.member()
    }

    fn member(&mut self) -> Parsed {
        let mut expr = self.primary()?;
        loop {
            if self.take(".") {
                let optional = self.take("?");
                let name = self.name()?;
                expr = match self.is("(") && !optional {
                    true => self.method(expr, name)?,
                    false => Expr::Select(expr.into(), name, optional),
                };
            } else if self.take("[") {
                let optional = self.take("?");
                let index = self.conditional()?;
                self.expect("]")?;
                expr = Expr::Index(expr.into(), index.into(), optional);
            } else if self.is("{")
                && let Some(name) = dotted(&expr)
            {
                self.at += 1;
                expr = self.message(name)?;
            } else {
                return Ok(expr);
            }
        }
    }

    fn name(&mut self) -> Result<String, Error> {
        match self.peek() {
            Some(Kind::Ident(name)) => {
                let name = name.clone();
                self.at += 1;
                Ok(name)
            }
            _ => Err(self.unexpected("IDENTIFIER")),
        }
    }

    fn primary(&mut self) -> Parsed {
        let literal = match self.peek() {
            Some(Kind::Int(number)) => Literal::Int(*number),
            Some(Kind::Uint(number)) => Literal::Uint(*number),
            Some(Kind::Double(number)) => Literal::Double(*number),
            Some(Kind::String(text)) => Literal::String(text.clone()),
            Some(Kind::Bytes(bytes)) => Literal::Bytes(bytes.clone()),
            Some(Kind::Ident(name)) if name == "true" => Literal::Bool(true),
            Some(Kind::Ident(name)) if name == "false" => Literal::Bool(false),
            Some(Kind::Ident(name)) if name == "null" => Literal::Null,
            Some(Kind::Ident(name)) if RESERVED.contains(&name.as_str()) || name == "in" => {
                return Err(self.unexpected("an expression"));
            }
            Some(Kind::Ident(_)) => return self.named(),
            Some(Kind::Symbol(_)) => return self.bracketed(),
            Some(Kind::Least) | None => return Err(self.unexpected("an expression")),
        };
        self.at += 1;
        Ok(Expr::Literal(literal))
    }

    fn named(&mut self) -> Parsed {
        let name = self.name()?;
        if !self.is("(") {
            return Ok(Expr::Ident(name));
        }
        let at = self.at;
        let mut arguments = self.arguments()?;
        match (name.as_str(), arguments.len()) {
            ("has", 1) => match arguments.remove(0) {
                Expr::Select(of, field, false) => Ok(Expr::Has(of, field)),
                _ => {
                    self.at = at;
                    Err(self.unexpected("a field selection"))
                }
            },
            _ => Ok(Expr::Call(None, name, arguments)),
        }
    }

    fn arguments(&mut self) -> Result<Vec<Expr>, Error> {
        self.expect("(")?;
        let mut arguments = Vec::new();
        while !self.take(")") {
            arguments.push(self.conditional()?);
            if !self.is(")") {
                self.expect(",")?;
            }
        }
        Ok(arguments)
    }

    /// A call on `of`, or one of the macros.
    fn method(&mut self, of: Expr, name: String) -> Parsed {
        let at = self.at;
        let mut arguments = self.arguments()?;
        if name == "bind" && matches!(&of, Expr::Ident(cel) if cel == "cel") && arguments.len() == 3 {
            let [variable, value, rest] =
                <[Expr; 3]>::try_from(arguments).map_err(|_| self.unexpected("3 arguments"))?;
            return match variable {
                Expr::Ident(variable) => Ok(Expr::Bind(variable, value.into(), rest.into())),
                _ => Err(self.unexpected("IDENTIFIER")),
            };
        }
        let count = arguments.len();
        let (kind, names) = match (name.as_str(), count) {
            ("all", 2) => (Macro::All, 1),
            ("all", 3) => (Macro::All, 2),
            ("exists", 2) => (Macro::Exists, 1),
            ("exists", 3) => (Macro::Exists, 2),
            ("exists_one" | "existsOne", 2) => (Macro::ExistsOne, 1),
            ("existsOne", 3) => (Macro::ExistsOne, 2),
            ("map", 2 | 3) => (Macro::Map, 1),
            ("filter", 2) => (Macro::Filter, 1),
            _ => return Ok(Expr::Call(Some(of.into()), name, arguments)),
        };
        let rest = arguments.split_off(names);
        let mut variables = Vec::new();
        for variable in arguments {
            let Expr::Ident(variable) = variable else {
                self.at = at;
                return Err(self.unexpected("IDENTIFIER"));
            };
            variables.push(variable);
        }
        let mut rest = rest.into_iter();
        let (first, second) = (rest.next(), rest.next());
        let (condition, each) = match (first, second) {
            (Some(condition), Some(each)) => (Some(condition.into()), each),
            (Some(each), None) => (None, each),
            _ => return Err(self.unexpected("an expression")),
        };
        Ok(Expr::Comprehension(kind, of.into(), variables, condition, each.into()))
    }

    fn bracketed(&mut self) -> Parsed {
        if self.take("(") {
            let inner = self.conditional()?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.take("[") {
            let mut items = Vec::new();
            while !self.take("]") {
                let optional = self.take("?");
                items.push((self.conditional()?, optional));
                if !self.is("]") {
                    self.expect(",")?;
                }
            }
            return Ok(Expr::List(items));
        }
        if self.take("{") {
            let mut pairs = Vec::new();
            while !self.take("}") {
                let optional = self.take("?");
                let key = self.conditional()?;
                self.expect(":")?;
                pairs.push((key, self.conditional()?, optional));
                if !self.is("}") {
                    self.expect(",")?;
                }
            }
            return Ok(Expr::Map(pairs));
        }
        Err(self.unexpected("an expression"))
    }

    fn message(&mut self, name: String) -> Parsed {
        let mut fields = Vec::new();
        while !self.take("}") {
            let optional = self.take("?");
            let field = self.name()?;
            self.expect(":")?;
            fields.push((field, self.conditional()?, optional));
            if !self.is("}") {
                self.expect(",")?;
            }
        }
        Ok(Expr::Message(name, fields))
    }
}

/// `a.b.c` as the name of a message.
fn dotted(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(of, name, false) => Some(format!("{}.{name}", dotted(of)?)),
        _ => None,
    }
}
