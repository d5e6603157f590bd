//! Secrets as people and programs write them into files and variables: made clean where it is clear what is meant, refused
//! where it is not. No error holds any of the text.

use crate::domain::value::text::is_printable;

/// Why a text cannot be the secret that it should be. It reads on from the name of the file or variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// There is nothing but blanks.
    #[error("is empty; write the secret into it")]
    Empty,
    /// More than a line.
    #[error("has several lines; write the secret alone, on one line")]
    SeveralLines,
    /// Quotes that may or may not belong to it.
    #[error("has quotes around or in the secret; write it without them")]
    Quotes,
    /// Blanks that may or may not belong to it.
    #[error("has blanks before, in or after the secret; write the secret alone")]
    Blanks,
    /// Control characters, or ones that nobody sees.
    #[error("has control or invisible characters in the secret; write it anew, as plain text")]
    Control,
    /// Letters that no token has.
    #[error("has characters other than ASCII; write the secret alone, as plain text")]
    NotAscii,
    /// ASCII characters that no token has (RFC 6750 section 2.1), such as those of JSON or of `NAME=value`.
    #[error("has characters that no token has; write the token alone, without a name, `=` or braces around it")]
    NotAToken,
    /// Another encoding.
    #[error("is no text in UTF-8; save it as plain text in UTF-8")]
    NotUtf8,
    /// Longer than any secret.
    #[error("is longer than any secret; see that it is the right file")]
    TooLong,
}

/// A token for `Authorization: Bearer`, without what is often copied along: a byte order mark, blanks and line breaks around
/// it, a pair of quotes, and the words `Authorization:` and `Bearer`.
///
/// # Errors
/// Where something is left that no token has.
pub fn token(text: &str) -> Result<&str, InvalidSecret> {
    let mut token = trimmed(text);
    loop {
        let inner = unquoted(token);
        let inner = without_word(inner, "authorization:", false);
        let inner = without_word(inner, "bearer", true);
        if inner == token {
            break;
        }
        token = inner;
    }
    check_line(token)?;
    let padded = token.trim_end_matches('=');
    match () {
        () if token.contains(QUOTES) => Err(InvalidSecret::Quotes),
        () if token.contains(char::is_whitespace) => Err(InvalidSecret::Blanks),
        () if !token.is_ascii() => Err(InvalidSecret::NotAscii),
        () if padded.contains(NEVER_IN_TOKENS) || padded.is_empty() => Err(InvalidSecret::NotAToken),
        () if token.len() > LONGEST_TOKEN => Err(InvalidSecret::TooLong),
        () => Ok(token),
    }
}

/// A password, without a byte order mark and the line breaks at its end. Every other character may belong to it, so that a
/// text in quotes or with blanks around it is refused.
///
/// # Errors
/// Where nothing is left, or it is not clear what is.
pub fn password(text: &str) -> Result<&str, InvalidSecret> {
    let password = without_mark(text).trim_end_matches(['\r', '\n']);
    check_line(password)?;
    match () {
        () if password != password.trim() => Err(InvalidSecret::Blanks),
        () if unquoted(password) != password => Err(InvalidSecret::Quotes),
        () => Ok(password),
    }
}

/// The URL of a database, without a byte order mark, blanks, line breaks and quotes around it.
///
/// # Errors
/// Where nothing is left, or what is left has blanks, line breaks or control characters: readers of URLs pass over some of
/// them without a word.
pub fn url(text: &str) -> Result<&str, InvalidSecret> {
    let url = unquoted(trimmed(text));
    check_line(url)?;
    if url.contains(char::is_whitespace) { Err(InvalidSecret::Blanks) } else { Ok(url) }
}

/// The text without a pair of quotes around it, and without blanks in and around them.
pub fn unquoted(text: &str) -> &str {
    let text = trimmed(text);
    let pair = QUOTES.iter().find_map(|quote| text.strip_prefix(*quote)?.strip_suffix(*quote));
    pair.map_or(text, trimmed)
}

/// The text without the byte order mark that some editors write.
pub fn without_mark(text: &str) -> &str {
    text.trim_start_matches(MARK)
}

fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| c.is_whitespace() || c == MARK)
}

fn without_word<'a>(text: &'a str, word: &str, ends_with_blank: bool) -> &'a str {
    let Some(start) = text.get(..word.len()) else { return text };
    let rest = &text[word.len()..];
    let is_word = start.eq_ignore_ascii_case(word)
        && (!ends_with_blank || rest.is_empty() || rest.starts_with(char::is_whitespace));
    if is_word { rest.trim_start() } else { text }
}

fn check_line(text: &str) -> Result<(), InvalidSecret> {
    match () {
        () if text.trim().is_empty() => Err(InvalidSecret::Empty),
        () if text.contains(['\r', '\n']) => Err(InvalidSecret::SeveralLines),
        () if !text.chars().all(|c| c == '\t' || is_printable(c)) => Err(InvalidSecret::Control),
        () => Ok(()),
    }
}

const MARK: char = '\u{feff}';
const QUOTES: [char; 3] = ['"', '\'', '`'];
/// RFC 6750 allows fewer characters; services in use take some more, but none of these.
const NEVER_IN_TOKENS: [char; 11] = ['=', ',', ';', '<', '>', '{', '}', '[', ']', '(', ')'];
/// Servers take headers of 8 KiB and more; a JSON Web Token with many groups comes near that.
const LONGEST_TOKEN: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_token_is_cleaned_where_it_is_clear_and_refused_where_not() {
        for text in [
            "abc.d-e_f~g+h/==",
            "\u{feff}abc.d-e_f~g+h/==\r\n",
            "  abc.d-e_f~g+h/==\t\n\n",
            "\"abc.d-e_f~g+h/==\"\n",
            "' abc.d-e_f~g+h/== '",
            "Bearer abc.d-e_f~g+h/==",
            "bearer\tabc.d-e_f~g+h/==\r\n",
            "\"Bearer abc.d-e_f~g+h/==\"",
            "Bearer \"abc.d-e_f~g+h/==\"",
            "Authorization: Bearer abc.d-e_f~g+h/==",
        ] {
            assert_eq!(token(text), Ok("abc.d-e_f~g+h/=="), "{text:?}");
        }
        assert_eq!(token("bearerabc"), Ok("bearerabc"));
        for (text, fault) in [
            ("", InvalidSecret::Empty),
            (" \r\n\u{feff}", InvalidSecret::Empty),
            ("Bearer ", InvalidSecret::Empty),
            ("\"\"", InvalidSecret::Empty),
            ("abc\ndef", InvalidSecret::SeveralLines),
            ("abc\rdef", InvalidSecret::SeveralLines),
            ("abc def", InvalidSecret::Blanks),
            ("abc\tdef", InvalidSecret::Blanks),
            ("Basic abc", InvalidSecret::Blanks),
            ("\"abc", InvalidSecret::Quotes),
            ("abc'", InvalidSecret::Quotes),
            ("IONOS_TOKEN=abc", InvalidSecret::NotAToken),
            ("{token:abc}", InvalidSecret::NotAToken),
            ("<token>", InvalidSecret::NotAToken),
            ("===", InvalidSecret::NotAToken),
            ("abc\u{0}", InvalidSecret::Control),
            ("abc\u{1b}[0m", InvalidSecret::Control),
            ("abc\u{200b}", InvalidSecret::Control),
            ("abc\u{e9}", InvalidSecret::NotAscii),
            ("a\u{a0}b", InvalidSecret::Blanks),
        ] {
            assert_eq!(token(text), Err(fault), "{text:?}");
        }
        assert_eq!(token(&"a".repeat(LONGEST_TOKEN + 1)), Err(InvalidSecret::TooLong));
    }

    #[test]
    fn a_password_keeps_each_of_its_characters() {
        for (text, expected) in [
            ("p4ss w\u{f6}rd\n", Ok("p4ss w\u{f6}rd")),
            ("\u{feff}it's=\"so\"\r\n\r\n", Ok("it's=\"so\"")),
            ("Bearer x", Ok("Bearer x")),
            ("\"quoted\"\n", Err(InvalidSecret::Quotes)),
            (" padded\n", Err(InvalidSecret::Blanks)),
            ("padded \n", Err(InvalidSecret::Blanks)),
            ("a\nb\n", Err(InvalidSecret::SeveralLines)),
            ("\n", Err(InvalidSecret::Empty)),
            ("a\u{7}", Err(InvalidSecret::Control)),
        ] {
            assert_eq!(password(text), expected, "{text:?}");
        }
    }

    #[test]
    fn a_url_has_nothing_that_its_readers_pass_over() {
        for (text, expected) in [
            ("\u{feff}postgres://u:p@h/d\r\n", Ok("postgres://u:p@h/d")),
            ("'postgres://u:p@h/d'", Ok("postgres://u:p@h/d")),
            ("postgres://u:p@h/d\npostgres://other", Err(InvalidSecret::SeveralLines)),
            ("postgres://u:p@h/d # old", Err(InvalidSecret::Blanks)),
            ("", Err(InvalidSecret::Empty)),
        ] {
            assert_eq!(url(text), expected, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_is_fit_for_a_header(text in "\\PC{0,40}|[\\x00-\\x7f]{0,40}") {
            if let Ok(token) = token(&text) {
                prop_assert!(!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert_eq!(super::token(token), Ok(token));
            }
        }
    }
}
