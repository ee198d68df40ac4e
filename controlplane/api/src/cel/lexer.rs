//! Text into tokens.
//!
//! Must not know: the grammar.

use std::sync::Arc;

/// What is wrong, and at which byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub at: usize,
    pub why: String,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Ident(String),
    Int(i64),
    /// `-9223372036854775808` has no positive counterpart: digits that only fit with a sign.
    Least,
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Arc<[u8]>),
    Symbol(&'static str),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    pub kind: Kind,
    pub at: usize,
}

const SYMBOLS: &[&str] = &[
    "||", "&&", "==", "!=", "<=", ">=", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", "(", ")", "[", "]", "{", "}",
    ",", ".",
];

pub fn tokens(text: &str) -> Result<Vec<Token>, Error> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let first = rest.chars().next().unwrap_or_default();
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        let (kind, length) = token(rest, first).map_err(|why| Error { at, why })?;
        found.push(Token { kind, at });
        at += length;
    }
    Ok(found)
}

fn token(rest: &str, first: char) -> Result<(Kind, usize), String> {
    if let Some(begun) = Quoted::of(rest) {
        return begun.read(rest);
    }
    let number = first.is_ascii_digit() || first == '.' && rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit);
    if number {
        return self::number(rest);
    }
    if first.is_ascii_alphabetic() || first == '_' {
        let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
        return Ok((Kind::Ident(rest.get(..end).unwrap_or_default().to_owned()), end));
    }
    if first == '`' {
        let end = rest.get(1..).and_then(|it| it.find('`')).ok_or("token recognition error at: '`'")?;
        return Ok((Kind::Ident(rest.get(1..=end).unwrap_or_default().to_owned()), end + 2));
    }
    let symbol = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol));
    let symbol = symbol.ok_or_else(|| format!("token recognition error at: '{first}'"))?;
    Ok((Kind::Symbol(symbol), symbol.len()))
}

fn number(rest: &str) -> Result<(Kind, usize), String> {
    let wrong = |text: &str| format!("invalid number {text:?}");
    if let Some(digits) = rest.strip_prefix("0x").or_else(|| rest.strip_prefix("0X")) {
        let end = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
        let (number, after) = digits.split_at(end);
        if after.starts_with(['u', 'U']) {
            return Ok((Kind::Uint(u64::from_str_radix(number, 16).map_err(|_| wrong(rest))?), end + 3));
        }
        return Ok((Kind::Int(i64::from_str_radix(number, 16).map_err(|_| wrong(rest))?), end + 2));
    }
    let bytes = rest.as_bytes();
    let digits = |mut at: usize| {
        while bytes.get(at).is_some_and(u8::is_ascii_digit) {
            at += 1;
        }
        at
    };
    let whole = digits(0);
    let mut end = whole;
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
        end = digits(end + 1);
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = end + 1 + usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        if digits(sign) > sign {
            end = digits(sign);
        }
    }
    let text = rest.get(..end).unwrap_or_default();
    if end > whole {
        return Ok((Kind::Double(text.parse().map_err(|_| wrong(text))?), end));
    }
    if matches!(bytes.get(end), Some(b'u' | b'U')) {
        return Ok((Kind::Uint(text.parse().map_err(|_| wrong(text))?), end + 1));
    }
    if text == "9223372036854775808" {
        return Ok((Kind::Least, end));
    }
    Ok((Kind::Int(text.parse().map_err(|_| wrong(text))?), end))
}

/// How a string or bytes literal begins.
struct Quoted {
    raw: bool,
    bytes: bool,
    quote: &'static str,
    /// Where the text begins.
    start: usize,
}

impl Quoted {
    fn of(rest: &str) -> Option<Self> {
        let prefix = rest.bytes().take(3).position(|byte| matches!(byte, b'"' | b'\''))?;
        let letters = rest.get(..prefix)?.to_ascii_lowercase();
        let (raw, bytes) = match letters.as_str() {
            "" => (false, false),
            "r" => (true, false),
            "b" => (false, true),
            "rb" | "br" => (true, true),
            _ => return None,
        };
        let after = rest.get(prefix..)?;
        let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| after.starts_with(quote))?;
        Some(Self { raw, bytes, quote, start: prefix + quote.len() })
    }

    fn read(&self, rest: &str) -> Result<(Kind, usize), String> {
        let unterminated = || format!("token recognition error at: '{}'", rest.lines().next().unwrap_or_default());
        let mut out: Vec<u8> = Vec::new();
        let mut at = self.start;
        loop {
            let here = rest.get(at..).ok_or_else(unterminated)?;
            if here.starts_with(self.quote) {
                break;
            }
            let c = here.chars().next().ok_or_else(unterminated)?;
            if c == '\n' && self.quote.len() == 1 {
                return Err(unterminated());
            }
            if c == '\\' && !self.raw {
                let length = escape(here, self.bytes, &mut out)?;
                at += length;
                continue;
            }
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            at += c.len_utf8();
        }
        let end = at + self.quote.len();
        if self.bytes {
            return Ok((Kind::Bytes(out.into()), end));
        }
        let text = String::from_utf8(out).map_err(|_| "invalid unicode in a string".to_owned())?;
        Ok((Kind::String(text), end))
    }
}

/// One escape at the beginning of `here`; answers its length.
fn escape(here: &str, bytes: bool, out: &mut Vec<u8>) -> Result<usize, String> {
    let wrong = || "invalid escape sequence".to_owned();
    let code = here.as_bytes().get(1).copied().ok_or_else(wrong)?;
    let plain = match code {
        b'a' => Some(7),
        b'b' => Some(8),
        b'f' => Some(12),
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        b'v' => Some(11),
        b'\\' | b'"' | b'\'' | b'`' | b'?' => Some(code),
        _ => None,
    };
    if let Some(plain) = plain {
        out.push(plain);
        return Ok(2);
    }
    let (skip, digits, radix) = match code {
        b'x' | b'X' => (2, 2, 16),
        b'u' if !bytes => (2, 4, 16),
        b'U' if !bytes => (2, 8, 16),
        b'0'..=b'3' => (1, 3, 8),
        _ => return Err(wrong()),
    };
    let text = here.get(skip..skip + digits).ok_or_else(wrong)?;
    let number = u32::from_str_radix(text, radix).map_err(|_| wrong())?;
    if bytes {
        out.push(u8::try_from(number).map_err(|_| wrong())?);
    } else {
        let c = char::from_u32(number).ok_or_else(wrong)?;
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(skip + digits)
}
