//! Tokens into a syntax tree.
//!
//! Must not know: what names mean.

use super::lexer::{Error, Kind, Token};
use super::syntax::{Expr, Literal, Macro, Operator};

/// How deep an expression may nest: the parser recurses.
const DEEPEST: usize = 100;

/// How high its tree may grow, as cel-go has it: the evaluator and whatever else walks a tree recurse. What stands on the
/// left of an operator, a selection or a call is a level below it.
pub const HIGHEST: usize = 250;

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

/// What was parsed.
pub struct Tree {
    pub expr: Expr,
    pub height: usize,
    /// The fields of `variables` that it reads.
    pub reads: Vec<String>,
}

pub fn parse(tokens: &[Token], length: usize) -> Result<Tree, Error> {
    let mut parser = Parser { tokens, at: 0, length, depth: 0, height: 0, reads: Vec::new() };
    let expr = parser.conditional()?;
    match parser.peek() {
        None => Ok(Tree { expr, height: parser.height, reads: parser.reads }),
        Some(_) => Err(parser.unexpected("<EOF>")),
    }
}

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    length: usize,
    depth: usize,
    /// Of the highest of what was parsed since it was last set aside.
    height: usize,
    reads: Vec<String>,
}

type Parsed = Result<Expr, Error>;

/// The binary operators and how tightly they bind.
const OPERATORS: &[(&str, usize, Operator)] = &[
    ("||", 0, Operator::Or),
    ("&&", 1, Operator::And),
    ("==", 2, Operator::Equal),
    ("!=", 2, Operator::NotEqual),
    ("<", 2, Operator::Less),
    ("<=", 2, Operator::LessEqual),
    (">", 2, Operator::Greater),
    (">=", 2, Operator::GreaterEqual),
    ("in", 2, Operator::In),
    ("+", 3, Operator::Add),
    ("-", 3, Operator::Subtract),
    ("*", 4, Operator::Multiply),
    ("/", 4, Operator::Divide),
    ("%", 4, Operator::Modulo),
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

    /// One level more on top of what was parsed.
    fn link(&mut self) -> Result<(), Error> {
        self.height += 1;
        if self.height > HIGHEST { Err(self.too_high(HIGHEST)) } else { Ok(()) }
    }

    fn too_high(&self, limit: usize) -> Error {
        let at = self.tokens.get(self.at).map_or(self.length, |token| token.at);
        Error { at, why: format!("expression recursion limit exceeded: {limit}") }
    }

    fn conditional(&mut self) -> Parsed {
        if self.depth >= DEEPEST {
            return Err(self.too_high(DEEPEST));
        }
        self.depth += 1;
        let beside = std::mem::take(&mut self.height);
        let condition = self.binary(0)?;
        let expr = if self.take("?") { self.alternatives(condition)? } else { condition };
        self.height = self.height.max(beside);
        self.depth -= 1;
        Ok(expr)
    }

    fn alternatives(&mut self, condition: Expr) -> Parsed {
        let beside = std::mem::take(&mut self.height);
        let then = self.binary(0)?;
        self.height = self.height.max(beside);
        self.expect(":")?;
        let otherwise = self.conditional()?;
        self.link()?;
        Ok(Expr::Conditional(condition.into(), then.into(), otherwise.into()))
    }

    /// Operators that bind as tightly as `least` or more.
    fn binary(&mut self, least: usize) -> Parsed {
        let mut left = self.unary()?;
        while let Some((level, operator)) = self.operator().filter(|(level, _)| *level >= least) {
            if matches!(operator, Operator::And | Operator::Or) {
                left = self.logical(left, level, operator)?;
                continue;
            }
            self.at += 1;
            let beside = std::mem::take(&mut self.height);
            let right = self.binary(level + 1)?;
            self.height = self.height.max(beside);
            self.link()?;
            left = Expr::Binary(operator, left.into(), right.into());
        }
        Ok(left)
    }

    /// A chain of `&&` or of `||`, which may be long: its sides need no order, so the tree is flat, as cel-go's.
    fn logical(&mut self, first: Expr, level: usize, operator: Operator) -> Parsed {
        let mut sides = vec![first];
        while self.operator() == Some((level, operator)) {
            self.at += 1;
            let beside = std::mem::take(&mut self.height);
            sides.push(self.binary(level + 1)?);
            self.height = self.height.max(beside);
        }
        for _ in 0..sides.len().next_power_of_two().ilog2() {
            self.link()?;
        }
        while sides.len() > 1 {
            let mut pairs = Vec::with_capacity(sides.len() / 2 + 1);
            let mut rest = sides.into_iter();
            while let Some(left) = rest.next() {
                pairs.push(match rest.next() {
                    Some(right) => Expr::Binary(operator, left.into(), right.into()),
                    None => left,
                });
            }
            sides = pairs;
        }
        sides.pop().ok_or_else(|| self.unexpected("an expression"))
    }

    fn operator(&self) -> Option<(usize, Operator)> {
        let text = match self.peek()? {
            Kind::Symbol(symbol) => symbol,
            Kind::Ident(name) if name == "in" => "in",
            _ => return None,
        };
        OPERATORS.iter().find(|(symbol, ..)| *symbol == text).map(|(_, level, operator)| (*level, *operator))
    }

    /// Any number of the same sign: two of them are none.
    fn unary(&mut self) -> Parsed {
        let (mut not, mut minus) = (0, 0);
        while self.take("!") {
            not += 1;
        }
        while not == 0 && self.take("-") {
            minus += 1;
        }
        if minus % 2 == 1 && self.peek() == Some(&Kind::Least) {
            self.at += 1;
            return Ok(Expr::Literal(Literal::Int(i64::MIN)));
        }
        let of = self.member()?;
        if not % 2 == 0 && minus % 2 == 0 {
            return Ok(of);
        }
        self.link()?;
        Ok(if minus > 0 { Expr::Negate(of.into()) } else { Expr::Not(of.into()) })
    }

    fn member(&mut self) -> Parsed {
        let mut expr = self.primary()?;
        loop {
            if self.take(".") {
                self.link()?;
                let optional = self.take("?");
                let name = self.name()?;
                if matches!(&expr, Expr::Ident(of) if of == "variables") {
                    self.reads.push(name.clone());
                }
                expr = match self.is("(") && !optional {
                    true => self.method(expr, name)?,
                    false => Expr::Select(expr.into(), name, optional),
                };
            } else if self.take("[") {
                let optional = self.take("?");
                let index = self.conditional()?;
                self.link()?;
                self.expect("]")?;
                expr = Expr::Index(expr.into(), index.into(), optional);
            } else if self.is("{")
                && let Some(name) = dotted(&expr)
            {
                self.at += 1;
                expr = self.message(name)?;
                self.link()?;
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
        self.link()?;
        Ok(arguments)
    }

    /// A call on `of`, or one of the macros.
    fn method(&mut self, of: Expr, name: String) -> Parsed {
        let at = self.at;
        let arguments = self.arguments()?;
        let made = if name == "bind" && matches!(&of, Expr::Ident(cel) if cel == "cel") && arguments.len() == 3 {
            bind(arguments)
        } else {
            comprehension(of, name, arguments)
        };
        made.ok_or_else(|| {
            self.at = at;
            self.unexpected("IDENTIFIER")
        })
    }

    fn bracketed(&mut self) -> Parsed {
        if self.take("(") {
            let inner = self.conditional()?;
            self.expect(")")?;
            return Ok(inner);
        }
        let expr = if self.take("[") {
            self.list()?
        } else if self.take("{") {
            self.map()?
        } else {
            return Err(self.unexpected("an expression"));
        };
        self.link()?;
        Ok(expr)
    }

    fn list(&mut self) -> Parsed {
        let mut items = Vec::new();
        while !self.take("]") {
            let optional = self.take("?");
            items.push((self.conditional()?, optional));
            if !self.is("]") {
                self.expect(",")?;
            }
        }
        Ok(Expr::List(items))
    }

    fn map(&mut self) -> Parsed {
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
        Ok(Expr::Map(pairs))
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

/// `cel.bind(name, value, in)`; none where the first is no name.
fn bind(arguments: Vec<Expr>) -> Option<Expr> {
    let [variable, value, rest] = <[Expr; 3]>::try_from(arguments).ok()?;
    match variable {
        Expr::Ident(variable) => Some(Expr::Bind(variable, value.into(), rest.into())),
        _ => None,
    }
}

/// A macro over `of`, else a call; none where a macro's variables are no names.
fn comprehension(of: Expr, name: String, mut arguments: Vec<Expr>) -> Option<Expr> {
    let (kind, names) = match (name.as_str(), arguments.len()) {
        ("all", 2) => (Macro::All, 1),
        ("all", 3) => (Macro::All, 2),
        ("exists", 2) => (Macro::Exists, 1),
        ("exists", 3) => (Macro::Exists, 2),
        ("exists_one" | "existsOne", 2) => (Macro::ExistsOne, 1),
        ("existsOne", 3) => (Macro::ExistsOne, 2),
        ("map", 2 | 3) => (Macro::Map, 1),
        ("filter", 2) => (Macro::Filter, 1),
        _ => return Some(Expr::Call(Some(of.into()), name, arguments)),
    };
    let each = arguments.pop()?;
    let condition = if arguments.len() > names { arguments.pop() } else { None };
    let names = arguments.into_iter().map(|it| if let Expr::Ident(name) = it { Some(name) } else { None });
    Some(Expr::Comprehension(kind, of.into(), names.collect::<Option<_>>()?, condition.map(Into::into), each.into()))
}
