//! From tokens to a `COPY` statement, in the form of today and in those of before 9.0 and 7.3.
//!
//! ```text
//!  COPY [BINARY] t [(a, …)] FROM STDIN [[WITH] (FORMAT csv, HEADER, …)]     COPY (query) TO STDOUT …
//!                            TO STDOUT [[WITH] CSV HEADER DELIMITER ',' …]
//! ```

use datafusion::sql::sqlparser::tokenizer::Token;
use quipu_types::code;

use super::{Copy, Forced, Format, Header, Options, What};
use crate::error::SqlError;
use crate::utility::Tokens;

/// Delimiters that text could be confused by.
const CONFUSING: &[u8] = b"\\.abcdefghijklmnopqrstuvwxyz0123456789";

/// The options as they are written.
#[derive(Debug, Default)]
struct Written {
    format: Option<Format>,
    delimiter: Option<String>,
    null: Option<String>,
    header: Option<Header>,
    quote: Option<String>,
    escape: Option<String>,
    encoding: Option<String>,
    freeze: Option<bool>,
    force_quote: Option<Forced>,
    force_not_null: Option<Vec<String>>,
    force_null: Option<Vec<String>>,
}

/// Reads what follows `COPY`.
pub(crate) fn parse(tokens: &mut Tokens<'_>) -> Result<Copy, SqlError> {
    let mut written = Written::default();
    let what = if tokens.take(&Token::LParen) {
        What::Query(tokens.enclosed()?)
    } else {
        if tokens.take_word("binary") {
            written.format = Some(Format::Binary);
        }
        let name = tokens.name()?;
        let columns = if tokens.take(&Token::LParen) { tokens.names()? } else { Vec::new() };
        What::Table { name, columns }
    };
    let is_input = match (tokens.take_word("from"), &what) {
        (true, What::Table { .. }) => true,
        (false, _) if tokens.take_word("to") => false,
        _ => return Err(tokens.unexpected()),
    };
    client_only(tokens, is_input)?;
    if tokens.take_word("using") {
        if !tokens.take_word("delimiters") {
            return Err(tokens.unexpected());
        }
        once(&mut written.delimiter, tokens.quoted()?)?;
    }
    tokens.take_word("with");
    if tokens.take(&Token::LParen) {
        listed(tokens, &mut written)?;
    } else {
        bare(tokens, &mut written)?;
    }
    if tokens.take_word("where") {
        return Err(SqlError::unsupported("COPY … WHERE"));
    }
    tokens.end()?;
    Ok(Copy { what, is_input, options: checked(written, is_input)? })
}

/// Takes `STDIN` or `STDOUT`; what the server would read or write itself is refused.
fn client_only(tokens: &mut Tokens<'_>, is_input: bool) -> Result<(), SqlError> {
    let (role, verb) = match is_input {
        true => ("pg_read_server_files", "COPY from"),
        false => ("pg_write_server_files", "COPY to"),
    };
    let (role, what) = if tokens.take_word("program") {
        ("pg_execute_server_program", "an external program")
    } else if tokens.is_quoted() {
        (role, "a file")
    } else if tokens.take_word("stdin") || tokens.take_word("stdout") {
        return Ok(());
    } else {
        return Err(tokens.unexpected());
    };
    let message = format!(
        "must be superuser or have privileges of the {role} role to {verb} {what}: this server does neither for anybody"
    );
    let hint =
        "Anyone can COPY to stdout or from stdin. psql's \\copy command also works for anyone.";
    Err(SqlError::new("42501", code::SQL_UNSUPPORTED, message).hint(hint))
}

/// `name [value], …)`: the form since 9.0.
fn listed(tokens: &mut Tokens<'_>, written: &mut Written) -> Result<(), SqlError> {
    loop {
        let name = tokens.identifier()?;
        match name.as_str() {
            "format" => {
                let format = match value(tokens)?.as_str() {
                    "text" => Format::Text,
                    "csv" => Format::Csv,
                    "binary" => Format::Binary,
                    other => {
                        let message = format!("COPY format \"{other}\" not recognized");
                        return Err(SqlError::new("22023", code::SQL_SYNTAX, message));
                    }
                };
                once(&mut written.format, format)?;
            }
            "delimiter" => once(&mut written.delimiter, tokens.quoted()?)?,
            "null" => once(&mut written.null, tokens.quoted()?)?,
            "quote" => once(&mut written.quote, tokens.quoted()?)?,
            "escape" => once(&mut written.escape, tokens.quoted()?)?,
            "encoding" => once(&mut written.encoding, value(tokens)?)?,
            "header" => {
                let header = header(&optional(tokens)?)?;
                once(&mut written.header, header)?;
            }
            "freeze" => {
                let freeze = boolean("freeze", &optional(tokens)?)?;
                once(&mut written.freeze, freeze)?;
            }
            "force_quote" if tokens.take(&Token::Mul) => {
                once(&mut written.force_quote, Forced::All)?;
            }
            "force_quote" => {
                let named = Forced::Named(enclosed_names(tokens)?);
                once(&mut written.force_quote, named)?;
            }
            "force_not_null" => once(&mut written.force_not_null, enclosed_names(tokens)?)?,
            "force_null" => once(&mut written.force_null, enclosed_names(tokens)?)?,
            _ => {
                let message = format!("option \"{name}\" not recognized");
                return Err(SqlError::new("42601", code::SQL_SYNTAX, message));
            }
        }
        if tokens.take(&Token::RParen) {
            return Ok(());
        }
        tokens.expect(&Token::Comma)?;
    }
}

/// `CSV HEADER DELIMITER AS ',' …`: the form before 9.0.
fn bare(tokens: &mut Tokens<'_>, written: &mut Written) -> Result<(), SqlError> {
    while !tokens.is_empty() {
        let text = |tokens: &mut Tokens<'_>| {
            tokens.take_word("as");
            tokens.quoted()
        };
        if tokens.take_word("csv") {
            once(&mut written.format, Format::Csv)?;
        } else if tokens.take_word("binary") {
            once(&mut written.format, Format::Binary)?;
        } else if tokens.take_word("freeze") {
            once(&mut written.freeze, true)?;
        } else if tokens.take_word("header") {
            once(&mut written.header, Header::Yes)?;
        } else if tokens.take_word("delimiter") {
            once(&mut written.delimiter, text(tokens)?)?;
        } else if tokens.take_word("null") {
            once(&mut written.null, text(tokens)?)?;
        } else if tokens.take_word("quote") {
            once(&mut written.quote, text(tokens)?)?;
        } else if tokens.take_word("escape") {
            once(&mut written.escape, text(tokens)?)?;
        } else if tokens.take_word("encoding") {
            once(&mut written.encoding, tokens.quoted()?)?;
        } else if tokens.take_word("force") {
            forced(tokens, written)?;
        } else {
            // `WHERE`, or nothing that is known: whoever asked looks.
            return Ok(());
        }
    }
    Ok(())
}

/// `QUOTE * | NOT NULL | NULL`, and columns.
fn forced(tokens: &mut Tokens<'_>, written: &mut Written) -> Result<(), SqlError> {
    if tokens.take_word("quote") {
        let forced = match tokens.take(&Token::Mul) {
            true => Forced::All,
            false => Forced::Named(bare_names(tokens)?),
        };
        return once(&mut written.force_quote, forced);
    }
    let place = match tokens.take_word("not") {
        true => &mut written.force_not_null,
        false => &mut written.force_null,
    };
    if !tokens.take_word("null") {
        return Err(tokens.unexpected());
    }
    once(place, bare_names(tokens)?)
}

fn enclosed_names(tokens: &mut Tokens<'_>) -> Result<Vec<String>, SqlError> {
    tokens.expect(&Token::LParen)?;
    tokens.names()
}

fn bare_names(tokens: &mut Tokens<'_>) -> Result<Vec<String>, SqlError> {
    let mut names = vec![tokens.identifier()?];
    while tokens.take(&Token::Comma) {
        names.push(tokens.identifier()?);
    }
    Ok(names)
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), SqlError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => {
            Err(SqlError::new("42601", code::SQL_SYNTAX, "conflicting or redundant options"))
        }
    }
}

/// A word, a text or a number, lower case.
fn value(tokens: &mut Tokens<'_>) -> Result<String, SqlError> {
    match tokens.any()? {
        Token::Word(word) => Ok(word.value.to_lowercase()),
        Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text) => {
            Ok(text.to_lowercase())
        }
        Token::Number(digits, _) => Ok(digits.clone()),
        _ => Err(tokens.unexpected()),
    }
}

/// The same, `true` when there is none.
fn optional(tokens: &mut Tokens<'_>) -> Result<String, SqlError> {
    if tokens.is_at(&Token::Comma) || tokens.is_at(&Token::RParen) {
        return Ok("true".into());
    }
    value(tokens)
}

fn boolean(name: &str, text: &str) -> Result<bool, SqlError> {
    match text {
        "true" | "on" | "1" => Ok(true),
        "false" | "off" | "0" => Ok(false),
        _ => {
            let message = format!("{name} requires a Boolean value");
            Err(SqlError::new("42601", code::SQL_SYNTAX, message))
        }
    }
}

fn header(text: &str) -> Result<Header, SqlError> {
    if text == "match" {
        return Ok(Header::Match);
    }
    boolean("header", text).map(|is_there| if is_there { Header::Yes } else { Header::No }).map_err(
        |mut error| {
            error.message = "header requires a Boolean value or \"match\"".into();
            error
        },
    )
}

/// The one byte that an option stands for.
fn byte(what: &str, text: &str) -> Result<u8, SqlError> {
    match text.as_bytes() {
        [byte] => Ok(*byte),
        _ => {
            let message = format!("COPY {what} must be a single one-byte character");
            Err(SqlError::new("0A000", code::SQL_UNSUPPORTED, message))
        }
    }
}

/// Options that are about CSV, in one direction.
fn check_forced(written: &Written, is_csv: bool, is_input: bool) -> Result<(), SqlError> {
    let given = [
        (written.force_quote.is_some(), "quote", "TO", !is_input),
        (written.force_not_null.is_some(), "not null", "FROM", is_input),
        (written.force_null.is_some(), "null", "FROM", is_input),
    ];
    for (_, what, way, fits) in given.into_iter().filter(|given| given.0) {
        let message = match (is_csv, fits) {
            (true, true) => continue,
            (false, _) => format!("COPY force {what} available only in CSV mode"),
            (true, false) => format!("COPY force {what} only available using COPY {way}"),
        };
        return Err(SqlError::new("0A000", code::SQL_UNSUPPORTED, message));
    }
    Ok(())
}

fn checked(written: Written, is_input: bool) -> Result<Options, SqlError> {
    let refused = |state, message: &str| Err(SqlError::new(state, code::SQL_SYNTAX, message));
    let format = written.format.unwrap_or(Format::Text);
    let is_csv = format == Format::Csv;
    if format == Format::Binary {
        if written.delimiter.is_some() {
            return refused("42601", "cannot specify DELIMITER in BINARY mode");
        }
        if written.null.is_some() {
            return refused("42601", "cannot specify NULL in BINARY mode");
        }
        if written.header.is_some_and(|header| header != Header::No) {
            return refused("0A000", "cannot specify HEADER in BINARY mode");
        }
    }
    if !is_csv && written.quote.is_some() {
        return refused("0A000", "COPY quote available only in CSV mode");
    }
    if !is_csv && written.escape.is_some() {
        return refused("0A000", "COPY escape available only in CSV mode");
    }
    if !is_input && written.header == Some(Header::Match) {
        return refused("0A000", "cannot use \"match\" with HEADER in COPY TO");
    }
    check_forced(&written, is_csv, is_input)?;
    let encoding = written.encoding.as_deref().unwrap_or("utf8").to_lowercase();
    if !["utf8", "utf-8", "unicode"].contains(&encoding.as_str()) {
        return Err(SqlError::unsupported(&format!("COPY in encoding \"{encoding}\"")));
    }
    let given = written.delimiter.as_deref();
    let delimiter = byte("delimiter", given.unwrap_or(if is_csv { "," } else { "\t" }))?;
    let null = written.null.unwrap_or_else(|| if is_csv { "" } else { "\\N" }.into());
    let quote = byte("quote", written.quote.as_deref().unwrap_or("\""))?;
    let escape = written.escape.as_deref().map_or(Ok(quote), |text| byte("escape", text))?;
    if b"\r\n".contains(&delimiter) {
        return refused("22023", "COPY delimiter cannot be newline or carriage return");
    }
    if null.contains(['\r', '\n']) {
        return refused("22023", "COPY null representation cannot use newline or carriage return");
    }
    if !is_csv && CONFUSING.contains(&delimiter) {
        let message = format!("COPY delimiter cannot be \"{}\"", char::from(delimiter));
        return refused("22023", &message);
    }
    if is_csv && delimiter == quote {
        return refused("22023", "COPY delimiter and quote must be different");
    }
    if null.as_bytes().contains(&delimiter) {
        return refused("0A000", "COPY delimiter must not appear in the NULL specification");
    }
    if is_csv && null.as_bytes().contains(&quote) {
        return refused("0A000", "CSV quote character must not appear in the NULL specification");
    }
    let header = written.header.unwrap_or(Header::No);
    let force_quote = written.force_quote.unwrap_or(Forced::Named(Vec::new()));
    let force_not_null = written.force_not_null.unwrap_or_default();
    let force_null = written.force_null.unwrap_or_default();
    Ok(Options {
        format,
        delimiter,
        null,
        header,
        quote,
        escape,
        force_quote,
        force_not_null,
        force_null,
    })
}
