//! Links of an HTML page changed as it passes by: tags are found as a browser's tokenizer finds them, the values of the
//! attributes that hold addresses are handed over, everything else stays byte for byte.
//!
//! Must not know: where links lead.

use std::ops::Range;

/// The longest tag that is looked into; a longer one passes as it is.
const LONGEST_TAG: usize = 64 * 1024;

/// Elements whose content holds no tags.
const RAW: [&str; 8] = ["script", "style", "textarea", "title", "iframe", "noembed", "noframes", "xmp"];

/// Which attributes of which elements hold an address.
/// Source: `k8s.io/apimachinery/pkg/util/proxy/transport.go`.
fn holds_address(element: &str, attribute: &str) -> bool {
    let attributes: &[&str] = match element {
        "a" | "area" | "base" | "link" => &["href"],
        "applet" => &["codebase"],
        "audio" | "embed" | "script" | "source" => &["src"],
        "blockquote" | "del" | "ins" | "q" => &["cite"],
        "body" => &["background"],
        "button" => &["formaction"],
        "command" => &["icon"],
        "form" => &["action"],
        "frame" | "iframe" => &["longdesc", "src"],
        "head" => &["profile"],
        "html" => &["manifest"],
        "img" => &["longdesc", "src", "usemap"],
        "input" => &["src", "usemap", "formaction"],
        "object" => &["classid", "codebase", "data", "usemap"],
        "video" => &["poster", "src"],
        _ => &[],
    };
    attributes.contains(&attribute)
}

/// What the bytes that come next are part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    Text,
    /// `<!-- … -->`
    Comment,
    /// The content of an element of `RAW`.
    Raw(&'static str),
}

/// Takes a page in pieces; holds back no more than one tag.
pub struct Rewriter<F> {
    /// The new address, where it is another one.
    change: F,
    within: Within,
    held: Vec<u8>,
}

impl<F: Fn(&str) -> Option<String>> Rewriter<F> {
    pub fn new(change: F) -> Self {
        Self { change, within: Within::Text, held: Vec::new() }
    }

    /// What can be passed on after `piece` has come.
    pub fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let held = std::mem::take(&mut self.held);
        let mut out = Vec::with_capacity(held.len());
        let mut rest = held.as_slice();
        while let Some(taken) = self.step(rest, &mut out) {
            rest = &rest[taken..];
        }
        if rest.len() > LONGEST_TAG {
            out.extend_from_slice(rest);
            rest = &[];
        }
        self.held = rest.to_vec();
        out
    }

    /// What is left at the end of the page.
    pub fn finish(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.held)
    }

    /// Passes on the beginning of `rest` and says how long it was; `None` where more must come first.
    fn step(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        if rest.is_empty() {
            return None;
        }
        match self.within {
            Within::Text => self.text(rest, out),
            Within::Comment => self.until(rest, out, b"-->", true),
            Within::Raw(element) => self.until(rest, out, format!("</{element}").as_bytes(), false),
        }
    }

    /// Up to `end`, which is part of it or not; without one, all that cannot be the beginning of it.
    fn until(&mut self, rest: &[u8], out: &mut Vec<u8>, end: &[u8], inclusive: bool) -> Option<usize> {
        let found = rest.windows(end.len()).position(|window| window.eq_ignore_ascii_case(end));
        let taken = match found {
            Some(at) => at + if inclusive { end.len() } else { 0 },
            None => rest.len().saturating_sub(end.len() - 1),
        };
        out.extend_from_slice(&rest[..taken]);
        if found.is_some() {
            self.within = Within::Text;
        }
        // a closing tag right at the beginning is text's to take
        if found == Some(0) && !inclusive { self.text(rest, out) } else { (taken > 0).then_some(taken) }
    }

    fn text(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let plain = rest.iter().position(|b| *b == b'<').unwrap_or(rest.len());
        if plain > 0 {
            out.extend_from_slice(&rest[..plain]);
            return Some(plain);
        }
        let next = *rest.get(1)?;
        let end = match next {
            b'!' if rest.len() < 4 && b"<!--".starts_with(rest) => return None,
            b'!' if rest.starts_with(b"<!--") => {
                self.within = Within::Comment;
                4
            }
            b'!' | b'?' | b'/' => rest.iter().position(|b| *b == b'>')? + 1,
            next if next.is_ascii_alphabetic() => return self.tag(rest, out),
            _ => 1,
        };
        out.extend_from_slice(&rest[..end]);
        Some(end)
    }

    fn tag(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let tag = Tag::parse(rest)?;
        let mut copied = 0;
        for (name, value) in &tag.attributes {
            let name = String::from_utf8_lossy(&rest[name.clone()]).to_ascii_lowercase();
            let Ok(address) = std::str::from_utf8(&rest[value.clone()]) else { continue };
            if !holds_address(&tag.element, &name) {
                continue;
            }
            if let Some(new) = (self.change)(address) {
                out.extend_from_slice(&rest[copied..value.start]);
                out.extend_from_slice(new.as_bytes());
                copied = value.end;
            }
        }
        out.extend_from_slice(&rest[copied..tag.end]);
        if let Some(raw) = RAW.iter().find(|raw| **raw == tag.element) {
            self.within = Within::Raw(raw);
        }
        Some(tag.end)
    }
}

/// A start tag: where its attributes' names and values are, and where it ends.
#[derive(Debug, PartialEq)]
struct Tag {
    /// In lower case.
    element: String,
    attributes: Vec<(Range<usize>, Range<usize>)>,
    end: usize,
}

impl Tag {
    /// `rest` begins with `<` and a letter. `None` where its end has not come yet.
    fn parse(rest: &[u8]) -> Option<Self> {
        let mut at = run(rest, 1, |b| !b.is_ascii_whitespace() && !matches!(b, b'/' | b'>'))?;
        let element = String::from_utf8_lossy(&rest[1..at]).to_ascii_lowercase();
        let mut attributes = Vec::new();
        loop {
            at = run(rest, at, |b| b.is_ascii_whitespace() || b == b'/')?;
            if rest[at] == b'>' {
                return Some(Self { element, attributes, end: at + 1 });
            }
            let name = at;
            at = run(rest, at + 1, |b| !b.is_ascii_whitespace() && !matches!(b, b'/' | b'>' | b'='))?;
            let name = name..at;
            at = run(rest, at, |b| b.is_ascii_whitespace())?;
            if rest[at] == b'=' {
                let (value, after) = value(rest, at + 1)?;
                attributes.push((name, value));
                at = after;
            }
        }
    }
}

/// The place of the first byte from `at` on that is not `of` the run.
fn run(bytes: &[u8], at: usize, of: impl Fn(u8) -> bool) -> Option<usize> {
    bytes.get(at..)?.iter().position(|b| !of(*b)).map(|n| at + n)
}

/// An attribute's value and where to go on, from after the `=`.
fn value(rest: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
    let at = run(rest, at, |b| b.is_ascii_whitespace())?;
    match rest[at] {
        quote @ (b'"' | b'\'') => {
            let end = run(rest, at + 1, |b| b != quote)?;
            Some((at + 1..end, end + 1))
        }
        _ => {
            let end = run(rest, at, |b| !b.is_ascii_whitespace() && b != b'>')?;
            Some((at..end, end))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(page: &str, piece: usize) -> String {
        let mut rewriter = Rewriter::new(|link: &str| link.starts_with('/').then(|| format!("/proxy{link}")));
        let mut out: Vec<u8> = page.as_bytes().chunks(piece).flat_map(|piece| rewriter.push(piece)).collect();
        out.extend(rewriter.finish());
        String::from_utf8(out).unwrap()
    }

    #[track_caller]
    fn becomes(page: &str, wanted: &str) {
        for piece in [1, 2, 3, 7, page.len().max(1)] {
            assert_eq!(rewritten(page, piece), wanted, "in pieces of {piece}");
        }
    }

    #[test]
    fn addresses_in_attributes_are_changed_however_they_are_written() {
        becomes(r#"<a href="/rewriteme">test</a>"#, r#"<a href="/proxy/rewriteme">test</a>"#);
        becomes("<A class=x HREF = '/a?b=<&amp;c'>", "<A class=x HREF = '/proxy/a?b=<&amp;c'>");
        becomes("<img src=/i.png usemap=#m/>1 < 2", "<img src=/proxy/i.png usemap=#m/>1 < 2");
        becomes(
            "<form action='/x' method=post><input formaction=\"/y\"",
            "<form action='/proxy/x' method=post><input formaction=\"/y\"",
        );
    }

    #[test]
    fn what_is_no_link_stays() {
        for page in [
            "<p title=\"/a\">/b</p>",
            "<!-- <a href='/c'> --><!doctype html><?x <a href='/d'?>",
            "<script>if (a<b) { '<a href=\"/e\">' }</script>",
            "<a href>x</a><a href=relative><a href=\"#x\"></a href='/x'>",
            "<",
            "",
        ] {
            becomes(page, page);
        }
    }

    #[test]
    fn what_follows_a_script_or_a_comment_is_looked_at_again() {
        becomes(
            "<script src='/s'>'</scrip'</SCRIPT ><a href='/x'>",
            "<script src='/proxy/s'>'</scrip'</SCRIPT ><a href='/proxy/x'>",
        );
        becomes("<!-- x --><a href='/x'>", "<!-- x --><a href='/proxy/x'>");
    }

    #[test]
    fn an_endless_tag_is_not_kept() {
        let mut rewriter = Rewriter::new(|_: &str| None);
        let mut out = rewriter.push(b"<a href=\"");
        for _ in 0..200 {
            out.extend(rewriter.push(&[b'x'; 1024]));
        }
        assert!(rewriter.held.len() <= LONGEST_TAG);
        out.extend(rewriter.finish());
        assert_eq!(out.len(), 9 + 200 * 1024);
    }
}
