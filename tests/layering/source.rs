//! Just enough of Rust's grammar to find the paths in a source: names and signs, `use` trees, inline modules.
//!
//! A parser crate would do it too, at half a minute of compiling for everybody. Invariant: where it is unsure it
//! reports more, not less.

use std::str::Chars;

/// A place in the code that names something elsewhere.
pub struct Reference {
    pub line: usize,
    pub target: Target,
}

impl Reference {
    fn to(path: Vec<String>, line: usize) -> Self {
        Self { line, target: if path.is_empty() { Target::Root } else { Target::Module(path) } }
    }
}

pub enum Target {
    /// The root itself, by a glob, a new name or `self`.
    Root,
    /// A path from the crate's root.
    Module(Vec<String>),
    /// Another crate.
    Outside(String),
}

/// After these words `::` begins a path; after a name it goes on with one.
const BEFORE_A_PATH: [&str; 12] =
    ["as", "break", "dyn", "else", "if", "impl", "in", "match", "mut", "return", "use", "while"];

/// Every path in the code that starts at the crate's root, at a parent or at another crate. `file` is the
/// module that the file is.
pub fn references(tokens: &[Token], file: &[String]) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut module = file.to_vec();
    let mut open = Vec::new();
    let mut depth = 0_usize;
    let text = |index: Option<usize>| index.and_then(|index| tokens.get(index)).map_or("", Token::text);
    let mut index = 0;
    while let Some(token) = tokens.get(index) {
        let (before, next) = (text(index.checked_sub(1)), text(Some(index + 1)));
        let earlier = text(index.checked_sub(2));
        // Only beginnings; `::rollcall` is one as well.
        let begins = before != "::" || !is_name(earlier) || BEFORE_A_PATH.contains(&earlier);
        index += 1;
        match token.text() {
            "{" => {
                if earlier == "mod" {
                    module.push(before.to_owned());
                    open.push(depth);
                }
                depth += 1;
            }
            "}" => {
                depth = depth.saturating_sub(1);
                if open.last() == Some(&depth) {
                    open.pop();
                    module.pop();
                }
            }
            root @ ("crate" | "super" | "self" | "rollcall") if begins => {
                let mut path = module.clone();
                match root {
                    "super" => drop(path.pop()),
                    "self" if before != "crate" => {}
                    _ => path.clear(),
                }
                if next == "::" {
                    index += 1;
                    follow(path, tokens, &mut index, &mut found);
                } else if next == "as" && path.is_empty() {
                    found.push(Reference { line: token.line, target: Target::Root });
                }
            }
            name if is_name(name) && begins && before != "." && next == "::" => {
                found.push(Reference { line: token.line, target: Target::Outside(name.to_owned()) });
            }
            _ => {}
        }
    }
    found
}

/// Follows a path, and each branch of its groups, to the ends; leaves `index` behind it.
fn follow(mut path: Vec<String>, tokens: &[Token], index: &mut usize, found: &mut Vec<Reference>) {
    let is = |index: usize, text: &str| tokens.get(index).is_some_and(|token| token.text() == text);
    while let Some(token) = tokens.get(*index) {
        match token.text() {
            "super" => drop(path.pop()),
            "self" => {}
            "{" => {
                *index += 1;
                while *index < tokens.len() && !is(*index, "}") {
                    follow(path.clone(), tokens, index, found);
                    // What is left of the branch, such as `as name`.
                    while *index < tokens.len() && !is(*index, ",") && !is(*index, "}") {
                        *index += 1;
                    }
                    *index += usize::from(is(*index, ","));
                }
                *index += 1;
                return;
            }
            name if is_name(name) => path.push(name.to_owned()),
            // A glob; or a turbofish, before which the path ended.
            _ => {
                found.push(Reference::to(path, token.line));
                return;
            }
        }
        *index += 1;
        if !is(*index, "::") {
            found.push(Reference::to(path, token.line));
            return;
        }
        *index += 1;
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// How many lines of a file are modules marked as tests.
pub fn lines_of_tests(tokens: &[Token]) -> usize {
    const MARK: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut lines = 0;
    for (start, window) in tokens.windows(MARK.len() + 3).enumerate() {
        let texts: Vec<&str> = window.iter().map(Token::text).collect();
        if !texts.starts_with(&MARK) || texts.get(MARK.len()) != Some(&"mod") || texts.last() != Some(&"{") {
            continue;
        }
        let mut depth = 0_usize;
        for token in tokens.iter().skip(start + MARK.len() + 2) {
            match token.text() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                lines += token.line - window.first().map_or(token.line, |first| first.line) + 1;
                break;
            }
        }
    }
    lines
}

#[derive(Debug)]
pub struct Token {
    pub line: usize,
    text: String,
}

impl Token {
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Names and signs of the code; comments, strings and characters are left out.
pub fn tokens(source: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(length) = string(rest) {
            length
        } else if first == '\'' {
            character(rest)
        } else if is_name(rest) || first.is_ascii_digit() {
            let name = rest.strip_prefix("r#").unwrap_or(rest);
            let prefix = rest.len() - name.len();
            let length = name.find(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
            let length = prefix + length.unwrap_or(name.len());
            tokens.push(Token { line, text: rest.get(prefix..length).unwrap_or_default().to_owned() });
            length
        } else {
            let length = if rest.starts_with("::") { 2 } else { first.len_utf8() };
            if !first.is_whitespace() {
                tokens.push(Token { line, text: rest.get(..length).unwrap_or_default().to_owned() });
            }
            length
        };
        let (taken, left) = rest.split_at(length);
        line += taken.matches('\n').count();
        rest = left;
    }
    tokens
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of the string literal that the text begins with.
fn string(text: &str) -> Option<usize> {
    let bare = text.trim_start_matches(['b', 'c']);
    if text.len() - bare.len() > 1 {
        return None;
    }
    if let Some(raw) = bare.strip_prefix('r') {
        let quoted = raw.trim_start_matches('#');
        let hashes = raw.len() - quoted.len();
        let content = quoted.strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        let length = content.find(&end).map_or(content.len(), |at| at + end.len());
        return Some(text.len() - content.len() + length);
    }
    let content = bare.strip_prefix('"')?;
    Some(text.len() - content.len() + quoted_length(content.chars(), '"'))
}

/// The length of a character literal, or of the tick alone where it begins a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) => 1 + quoted_length(text.get(1..).unwrap_or_default().chars(), '\''),
        (Some(letter), Some('\'')) => 2 + letter.len_utf8(),
        _ => 1,
    }
}

fn quoted_length(mut content: Chars<'_>, quote: char) -> usize {
    let whole = content.as_str().len();
    while let Some(letter) = content.next() {
        if letter == '\\' {
            content.next();
        } else if letter == quote {
            return whole - content.as_str().len();
        }
    }
    whole
}
