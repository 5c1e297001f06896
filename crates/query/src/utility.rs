//! Statements that the parser does not read as PostgreSQL does: `COPY`, `VACUUM`, `ANALYZE`, `CHECKPOINT`, `CREATE
//! PROCEDURE`.
//!
//! A text with one of them is cut at its semicolons; each part is read here, or by the parser as before.
//!
//! ```text
//!  "begin; copy t from stdin; commit"  ─ tokens ─>  begin │ copy t from stdin │ commit
//! ```
//! `VACUUM`, `ANALYZE` and `CHECKPOINT` have nothing to do here: they are checked and answered.

use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer, Word};
use quipu_types::code;

use crate::copy;
use crate::error::SqlError;
use crate::procedure;
use crate::statement::{Kind, Parsed};

/// What a text must have to be cut.
const MARKS: [&str; 5] = ["copy", "vacuum", "analy", "checkpoint", "procedure"];
/// Most statements of a text that is cut.
const PART_COUNT_MAX: usize = 1_000;

/// Upkeep that has nothing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Upkeep {
    pub(crate) tag: &'static str,
    /// The tables that it names, which must be there: the parts of each name.
    pub(crate) relations: Vec<Vec<String>>,
}

/// A token and where it stands, in bytes.
#[derive(Clone, Debug)]
struct Place {
    token: Token,
    start: usize,
    end: usize,
}

/// The tokens of one statement, to be taken one after the other.
#[derive(Debug)]
pub(crate) struct Tokens<'a> {
    text: &'a str,
    places: &'a [Place],
    at: usize,
}

/// Reads a text that has a statement of this file; none for any other.
pub(crate) fn parse(
    text: &str,
    plain: impl Fn(&str) -> Result<Vec<Parsed>, SqlError>,
) -> Option<Result<Vec<Parsed>, SqlError>> {
    let lower = text.to_ascii_lowercase();
    if !MARKS.iter().any(|mark| lower.contains(mark)) {
        return None;
    }
    let places = places(text)?;
    let parts = parts(&places);
    let begins = |part: &&[Place]| {
        procedure::is_create(part.iter().map(|place| &place.token))
            || procedure::is_alter(part.iter().map(|place| &place.token))
            || part.first().is_some_and(|place| {
                let marks = ["copy", "vacuum", "analyze", "analyse", "checkpoint"];
                marks.iter().any(|mark| is_word(&place.token, mark))
            })
    };
    if !parts.iter().any(begins) {
        return None;
    }
    Some(parse_parts(text, &parts, plain))
}

/// The statements of a text: what stands between its semicolons, but for those of a body between BEGIN ATOMIC and END.
fn parts(places: &[Place]) -> Vec<&[Place]> {
    let (mut depth, mut is_begun) = (0_usize, false);
    let mut ends = |place: &Place| {
        let is = |wanted| is_word(&place.token, wanted);
        if (depth == 0 && is("atomic") && is_begun) || (depth > 0 && is("case")) {
            depth = depth.saturating_add(1);
        } else if is("end") {
            depth = depth.saturating_sub(1);
        }
        is_begun = is("begin");
        depth == 0 && place.token == Token::SemiColon
    };
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, place) in places.iter().enumerate() {
        if ends(place) {
            parts.extend(places.get(start..at));
            start = at.saturating_add(1);
        }
    }
    parts.extend(places.get(start..));
    parts.retain(|part| !part.is_empty());
    parts
}

/// A text's statements, each with the character that it begins at, from 0.
pub(crate) fn statements(text: &str) -> Option<Vec<(&str, u32)>> {
    let places = places(text)?;
    let statement = |part: &&[Place]| {
        let (start, end) = (part.first()?.start, part.last()?.end);
        let before = text.get(..start)?.chars().count();
        Some((text.get(start..end)?, u32::try_from(before).ok()?))
    };
    parts(&places).iter().map(statement).collect()
}

fn parse_parts(
    text: &str,
    parts: &[&[Place]],
    plain: impl Fn(&str) -> Result<Vec<Parsed>, SqlError>,
) -> Result<Vec<Parsed>, SqlError> {
    if parts.len() > PART_COUNT_MAX {
        let message = format!("more than {PART_COUNT_MAX} statements in one text");
        return Err(SqlError::new("54001", code::SQL_LIMIT, message));
    }
    let mut parsed = Vec::new();
    for part in parts {
        let mut tokens = Tokens { text, places: part, at: 0 };
        match utility(&mut tokens)? {
            Some(kind) => parsed.push(Parsed { kind, plan: None, written: None }),
            None => {
                let start = part.first().map_or(0, |place| place.start);
                let end = part.last().map_or(start, |place| place.end);
                let own = text.get(start..end).unwrap_or_default();
                parsed.extend(plain(own).map_err(|error| moved(error, text, start))?);
            }
        }
    }
    Ok(parsed)
}

/// An error of a part, with its position in the whole text.
fn moved(mut error: SqlError, text: &str, start: usize) -> SqlError {
    let before = text.get(..start).map_or(0, |before| before.chars().count());
    let before = u32::try_from(before).unwrap_or(u32::MAX);
    error.position = error.position.map(|position| position.saturating_add(before));
    error
}

fn utility(tokens: &mut Tokens<'_>) -> Result<Option<Kind>, SqlError> {
    Ok(Some(if tokens.take_word("copy") {
        Kind::Copy(Box::new(copy::statement::parse(tokens)?))
    } else if tokens.take_word("vacuum") {
        Kind::Upkeep(upkeep("VACUUM", tokens)?)
    } else if tokens.take_word("analyze") || tokens.take_word("analyse") {
        Kind::Upkeep(upkeep("ANALYZE", tokens)?)
    } else if tokens.take_word("checkpoint") {
        tokens.end()?;
        Kind::Upkeep(Upkeep { tag: "CHECKPOINT", relations: Vec::new() })
    } else if procedure::is_alter(tokens.places.iter().map(|place| &place.token)) {
        let error = SqlError::unsupported("ALTER PROCEDURE");
        return Err(error.hint("CREATE OR REPLACE PROCEDURE changes one"));
    } else if procedure::is_create(tokens.places.iter().map(|place| &place.token)) {
        Kind::CreateProcedure(Box::new(procedure::parse(tokens)?))
    } else {
        return Ok(None);
    }))
}

/// `[(option, …)] [FULL] [FREEZE] [VERBOSE] [ANALYZE] [table [(column, …)], …]`
fn upkeep(tag: &'static str, tokens: &mut Tokens<'_>) -> Result<Upkeep, SqlError> {
    if tokens.take(&Token::LParen) {
        while !tokens.take(&Token::RParen) {
            tokens.any()?;
        }
    } else {
        for word in ["full", "freeze", "verbose", "analyze", "analyse"] {
            tokens.take_word(word);
        }
    }
    let mut relations = Vec::new();
    while !tokens.is_empty() {
        if !relations.is_empty() {
            tokens.expect(&Token::Comma)?;
        }
        relations.push(tokens.name()?);
        if tokens.take(&Token::LParen) {
            tokens.names()?;
        }
    }
    Ok(Upkeep { tag, relations })
}

/// The tokens that mean something; none for a text that has no tokens, which the parser will say better.
fn places(text: &str) -> Option<Vec<Place>> {
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, text).tokenize_with_location().ok()?;
    let mut cursor = Cursor { text, at: 0, line: 1, column: 1 };
    tokens
        .into_iter()
        .map(|token| {
            let start = cursor.reach(token.span.start)?;
            let end = cursor.reach(token.span.end)?;
            Some(Place { token: token.token, start, end })
        })
        .filter(|place| {
            !matches!(place, Some(Place { token: Token::Whitespace(_) | Token::EOF, .. }))
        })
        .collect()
}

/// Turns lines and columns into bytes, forwards only.
struct Cursor<'a> {
    text: &'a str,
    at: usize,
    line: u64,
    column: u64,
}

impl Cursor<'_> {
    fn reach(&mut self, wanted: Location) -> Option<usize> {
        while (self.line, self.column) < (wanted.line, wanted.column) {
            let character = self.text.get(self.at..)?.chars().next()?;
            self.at = self.at.checked_add(character.len_utf8())?;
            if character == '\n' {
                self.line = self.line.checked_add(1)?;
                self.column = 1;
            } else {
                self.column = self.column.checked_add(1)?;
            }
        }
        Some(self.at)
    }
}

pub(crate) fn is_word(token: &Token, wanted: &str) -> bool {
    matches!(token, Token::Word(Word { value, quote_style: None, .. }) if value.eq_ignore_ascii_case(wanted))
}

impl<'a> Tokens<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.at >= self.places.len()
    }

    /// The next token.
    pub(crate) fn peek(&self) -> Option<&'a Token> {
        self.places.get(self.at).map(|place| &place.token)
    }

    /// Whether the next token is this one.
    pub(crate) fn is_at(&self, wanted: &Token) -> bool {
        self.peek() == Some(wanted)
    }

    /// The text from here on, up to the last token, and the character that it begins at, from 0.
    pub(crate) fn rest(&self) -> (&'a str, u32) {
        let end = self.places.last().map_or(0, |last| last.end);
        let start = self.places.get(self.at).map_or(end, |place| place.start);
        let before = self.text.get(..start).map_or(0, |before| before.chars().count());
        (self.text.get(start..end).unwrap_or_default(), u32::try_from(before).unwrap_or(u32::MAX))
    }

    /// Takes all tokens but the last.
    pub(crate) fn skip_to_last(&mut self) {
        self.at = self.places.len().saturating_sub(1).max(self.at);
    }

    /// The tokens up to the parenthesis that closes, cut at their commas, each part with its text; the one that opens is
    /// taken.
    pub(crate) fn listed(&mut self) -> Result<Vec<Tokens<'a>>, SqlError> {
        let mut parts = Vec::new();
        let (mut start, mut depth) = (self.at, 1_usize);
        loop {
            let at = self.at;
            match self.any()? {
                Token::LParen => depth = depth.saturating_add(1),
                Token::RParen => depth = depth.saturating_sub(1),
                Token::Comma if depth == 1 => {}
                _ => continue,
            }
            let is_comma = self.places.get(at).is_some_and(|place| place.token == Token::Comma);
            if depth == 0 || is_comma {
                let places = self.places.get(start..at).unwrap_or_default();
                // The end of the part is where the next token stands.
                parts.push(Tokens { text: self.text, places, at: 0 });
                start = self.at;
            }
            if depth == 0 {
                return Ok(parts);
            }
        }
    }

    fn step(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    /// Takes any token.
    pub(crate) fn any(&mut self) -> Result<&'a Token, SqlError> {
        let token = self.peek().ok_or_else(|| self.unexpected())?;
        self.step();
        Ok(token)
    }

    /// Takes a token if it is this one.
    pub(crate) fn take(&mut self, wanted: &Token) -> bool {
        let is_it = self.peek() == Some(wanted);
        self.at = self.at.saturating_add(usize::from(is_it));
        is_it
    }

    pub(crate) fn expect(&mut self, wanted: &Token) -> Result<(), SqlError> {
        if self.take(wanted) { Ok(()) } else { Err(self.unexpected()) }
    }

    /// Takes a word if it is this one, in any case.
    pub(crate) fn take_word(&mut self, wanted: &str) -> bool {
        let is_it = self.peek().is_some_and(|token| is_word(token, wanted));
        self.at = self.at.saturating_add(usize::from(is_it));
        is_it
    }

    /// An identifier, lower case unless it is quoted.
    pub(crate) fn identifier(&mut self) -> Result<String, SqlError> {
        match self.peek() {
            Some(Token::Word(word)) => {
                self.step();
                Ok(match word.quote_style {
                    None => word.value.to_lowercase(),
                    Some(_) => word.value.clone(),
                })
            }
            _ => Err(self.unexpected()),
        }
    }

    /// A name with its qualifying parts.
    pub(crate) fn name(&mut self) -> Result<Vec<String>, SqlError> {
        let mut parts = vec![self.identifier()?];
        while self.take(&Token::Period) {
            parts.push(self.identifier()?);
        }
        if parts.len() > 3 {
            return Err(SqlError::unsupported("a table name of more than three parts"));
        }
        Ok(parts)
    }

    /// Names up to the parenthesis that closes; the one that opens is taken.
    pub(crate) fn names(&mut self) -> Result<Vec<String>, SqlError> {
        let mut names = vec![self.identifier()?];
        while !self.take(&Token::RParen) {
            self.expect(&Token::Comma)?;
            names.push(self.identifier()?);
        }
        Ok(names)
    }

    /// The text up to the parenthesis that closes; the one that opens is taken.
    pub(crate) fn enclosed(&mut self) -> Result<String, SqlError> {
        let start = self.places.get(self.at).map(|place| place.start);
        let mut depth: usize = 1;
        loop {
            let end = self.places.get(self.at).map(|place| place.start);
            match self.any()? {
                Token::LParen => depth = depth.saturating_add(1),
                Token::RParen => depth = depth.saturating_sub(1),
                _ => {}
            }
            if let (0, Some(start), Some(end)) = (depth, start, end) {
                return Ok(self.text.get(start..end).unwrap_or_default().to_owned());
            }
        }
    }

    /// A quoted text, escapes read.
    pub(crate) fn quoted(&mut self) -> Result<String, SqlError> {
        match self.peek() {
            Some(Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text)) => {
                self.step();
                Ok(text.clone())
            }
            _ => Err(self.unexpected()),
        }
    }

    /// Whether the next token is a quoted text.
    pub(crate) fn is_quoted(&self) -> bool {
        matches!(self.peek(), Some(Token::SingleQuotedString(_) | Token::EscapedStringLiteral(_)))
    }

    pub(crate) fn end(&self) -> Result<(), SqlError> {
        if self.is_empty() { Ok(()) } else { Err(self.unexpected()) }
    }

    /// The next token is none that may stand here.
    pub(crate) fn unexpected(&self) -> SqlError {
        let place = self.places.get(self.at);
        let message = match place {
            Some(place) => format!("syntax error at or near \"{}\"", place.token),
            None => "syntax error at end of input".to_owned(),
        };
        let mut error = SqlError::new("42601", code::SQL_SYNTAX, message);
        let end = self.places.last().map_or(0, |last| last.end);
        let at = place.map_or(end, |place| place.start);
        let before = self.text.get(..at).map_or(0, |before| before.chars().count());
        error.position = u32::try_from(before.saturating_add(1)).ok();
        error
    }
}
