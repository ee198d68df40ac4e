//! The words of a label selector.
//!
//! Must not know: what they mean together.

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'a> {
    End,
    Close,
    Comma,
    Not,
    DoubleEquals,
    Equals,
    Greater,
    Less,
    NotEquals,
    Open,
    In,
    NotIn,
    Word(&'a str),
    /// Symbols that are no operator.
    Bad(String),
}

impl Token<'_> {
    /// How error messages show it.
    pub fn literal(&self) -> String {
        let text = match self {
            Self::End => "",
            Self::Close => ")",
            Self::Comma => ",",
            Self::Not => "!",
            Self::DoubleEquals => "==",
            Self::Equals => "=",
            Self::Greater => ">",
            Self::Less => "<",
            Self::NotEquals => "!=",
            Self::Open => "(",
            Self::In => "in",
            Self::NotIn => "notin",
            Self::Word(word) => word,
            Self::Bad(text) => return format!("error expected: keyword found '{text}'"),
        };
        text.to_owned()
    }
}

fn symbol(c: char) -> bool {
    matches!(c, '=' | '!' | '(' | ')' | ',' | '>' | '<')
}

fn blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// The words of `text`, ending with [`Token::End`].
pub(super) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches(blank);
    while let Some(first) = rest.chars().next() {
        let (token, length) = if symbol(first) { operator(rest) } else { word(rest) };
        tokens.push(token);
        rest = rest[length..].trim_start_matches(blank);
    }
    tokens.push(Token::End);
    tokens
}

fn operator(text: &str) -> (Token<'static>, usize) {
    let two = match text.as_bytes() {
        [b'=', b'=', ..] => Some(Token::DoubleEquals),
        [b'!', b'=', ..] => Some(Token::NotEquals),
        _ => None,
    };
    if let Some(token) = two {
        return (token, 2);
    }
    let one = match text.as_bytes().first() {
        Some(b'=') => Token::Equals,
        Some(b'!') => Token::Not,
        Some(b'(') => Token::Open,
        Some(b')') => Token::Close,
        Some(b',') => Token::Comma,
        Some(b'>') => Token::Greater,
        Some(b'<') => Token::Less,
        _ => Token::Bad(text.to_owned()),
    };
    (one, 1)
}

fn word(text: &str) -> (Token<'_>, usize) {
    let end = text.find(|c| symbol(c) || blank(c)).unwrap_or(text.len());
    let token = match &text[..end] {
        "in" => Token::In,
        "notin" => Token::NotIn,
        word => Token::Word(word),
    };
    (token, end)
}
