//! Text of other people: CAs, DNS, programs, tokens, users. It reaches messages only bounded and printable, so that no
//! text forges a line, steers a terminal, hides a part of itself or makes a message too long to read.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};
use serde::{Deserialize, Serialize};

/// Foreign text on one printable line of at most [`MAX_MESSAGE_LENGTH`] characters; `…` stands where it was cut. Empty where
/// nothing printable was said.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct RemoteMessage(String);

impl RemoteMessage {
    /// One statement: at most [`MAX_STATEMENT_LENGTH`] characters.
    pub fn new(text: &str) -> Self {
        Self(truncate_printable(text, MAX_STATEMENT_LENGTH))
    }

    /// A paragraph, such as the `detail` of a problem document: at most [`MAX_PARAGRAPH_LENGTH`] characters.
    pub fn from_paragraph(text: &str) -> Self {
        Self(truncate_printable(text, MAX_PARAGRAPH_LENGTH))
    }

    /// Several statements, or our own words around them: at most [`MAX_MESSAGE_LENGTH`] characters.
    pub fn from_statements(text: &str) -> Self {
        Self(truncate_printable(text, MAX_MESSAGE_LENGTH))
    }

    /// As [`Self::new`], from the start of a body that may be anything.
    pub fn from_bytes(body: &[u8]) -> Self {
        let start = &body[..body.len().min(MAX_BYTES_READ)];
        Self::new(&String::from_utf8_lossy(start))
    }

    /// The last lines of what a program or a server printed, each cut, in one line.
    pub fn last_lines(printed: &[u8]) -> Self {
        let start = printed.len().saturating_sub(MAX_BYTES_READ);
        let text = String::from_utf8_lossy(&printed[start..]);
        let lines = text.rsplit(['\n', '\r']).map(|line| truncate_printable(line, MAX_LINE_LENGTH));
        let mut lines: Vec<String> = lines.filter(|line| !line.is_empty()).take(MAX_LINES).collect();
        lines.reverse();
        Self(lines.join(" | "))
    }

    /// The messages in the error body of an IONOS API; empty where it is something else, such as a gateway's page.
    pub fn from_ionos_error(body: &[u8]) -> Self {
        let Ok(IonosErrorBody { messages }) = serde_json::from_slice(body) else { return Self::default() };
        let messages = messages
            .into_iter()
            .take(MAX_LINES)
            .map(|message| [message.error_code, message.message].into_iter().flatten().collect::<Vec<_>>().join(": "));
        Self::new(&messages.collect::<Vec<_>>().join("; "))
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Prints ` (text)`, to follow our own words; nothing where nothing was said.
    pub fn in_parentheses(&self) -> impl fmt::Display {
        fmt::from_fn(move |f| if self.is_empty() { Ok(()) } else { write!(f, " ({self})") })
    }
}

impl fmt::Display for RemoteMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Deref for RemoteMessage {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Eq for RemoteMessage {}

impl<T: AsRef<str>> PartialEq<T> for RemoteMessage {
    fn eq(&self, other: &T) -> bool {
        self.0 == other.as_ref()
    }
}

impl AsRef<str> for RemoteMessage {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<&str> for RemoteMessage {
    fn from(text: &str) -> Self {
        Self::from_statements(text)
    }
}

impl From<String> for RemoteMessage {
    fn from(text: String) -> Self {
        Self::from_statements(&text)
    }
}

/// The text on one line; each run of blanks and of characters that are not printable is one blank.
pub fn printable(text: &str) -> String {
    let visible: String = text.chars().map(|c| if is_printable(c) { c } else { ' ' }).collect();
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The text in quotes, for errors about what somebody wrote: its start, with what is not printable as escapes.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for (index, c) in text.chars().enumerate() {
        match c {
            _ if index == MAX_STATEMENT_LENGTH => {
                quoted.push('…');
                break;
            }
            '"' | '\\' => quoted.extend(['\\', c]),
            _ if is_printable(c) => quoted.push(c),
            _ => quoted.extend(c.escape_default()),
        }
    }
    quoted.push('"');
    quoted
}

/// The text with escapes such as `\u{1b}` for what is not printable, line ends excepted: the last line of defence of what
/// is printed on terminals.
pub fn escaped(text: &str) -> Cow<'_, str> {
    escape(text, |c| c == '\n', |c, escaped| escaped.extend(c.escape_default()))
}

/// As [`escaped`], line ends included.
pub fn escaped_line(text: &str) -> Cow<'_, str> {
    escape(text, |_| false, |c, escaped| escaped.extend(c.escape_default()))
}

/// As [`escaped`], for JSON, whose strings keep their meaning.
pub fn escaped_json(text: &str) -> Cow<'_, str> {
    let escape_unit = |unit: &mut u16| format!("\\u{unit:04x}");
    escape(text, |c| c == '\n', |c, escaped| escaped.extend(c.encode_utf16(&mut [0; 2]).iter_mut().map(escape_unit)))
}

/// Whether a character can be seen, and changes nothing but the place where it stands. Controls, formats (bidirectional
/// and zero-width ones, tags), variation selectors and other invisible ones do not, nor do private and unassigned ones.
pub fn is_printable(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    if c == EMOJI_VARIATION_SELECTOR {
        return true;
    }
    let hidden = matches!(
        CATEGORIES.get(c),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
            | GeneralCategory::PrivateUse
            | GeneralCategory::Surrogate
            | GeneralCategory::Unassigned
    );
    !hidden && !INVISIBLE.contains(c) && c != BRAILLE_BLANK
}

fn escape(text: &str, keep: impl Fn(char) -> bool, write: impl Fn(char, &mut String)) -> Cow<'_, str> {
    let plain = |c: char| is_printable(c) || keep(c);
    if text.chars().all(plain) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if plain(c) { escaped.push(c) } else { write(c, &mut escaped) }
    }
    Cow::Owned(escaped)
}

/// The start of the printable text, of at most so many characters; of a text that is far longer the rest is not read.
fn truncate_printable(text: &str, longest: usize) -> String {
    let read = text.floor_char_boundary(MAX_BYTES_READ);
    let text = printable(&text[..read]) + if read < text.len() { "…" } else { "" };
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", text[..end].trim_end_matches('…')),
        None => text,
    }
}

const CATEGORIES: icu_properties::CodePointMapDataBorrowed<'static, GeneralCategory> = CodePointMapData::new();
const INVISIBLE: icu_properties::CodePointSetDataBorrowed<'static> =
    CodePointSetData::new::<DefaultIgnorableCodePoint>();

/// Has the symbol before it drawn in colours: part of many names that people give.
const EMOJI_VARIATION_SELECTOR: char = '\u{fe0f}';

/// A symbol by its category, a blank to the eye.
const BRAILLE_BLANK: char = '\u{2800}';

/// In characters: more than the longest DNS name, and a long sentence of a CA.
pub const MAX_STATEMENT_LENGTH: usize = 300;

/// In characters: Let's Encrypt puts a URL with a signed token into a `detail`, which a person must be able to follow.
pub const MAX_PARAGRAPH_LENGTH: usize = 1_200;

/// In characters: a page of a terminal.
pub const MAX_MESSAGE_LENGTH: usize = 4_000;

/// In bytes: enough for every text that is no attack.
const MAX_BYTES_READ: usize = 64 * 1024;

const MAX_LINES: usize = 5;
const MAX_LINE_LENGTH: usize = 200;

#[derive(Deserialize)]
struct IonosErrorBody {
    messages: Vec<IonosMessage>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IonosMessage {
    error_code: Option<String>,
    message: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_hides_or_turns_is_not_printable() {
        for c in [
            '\0',
            '\u{7}',
            '\t',
            '\n',
            '\r',
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{9b}',
            '\u{ad}',
            '\u{34f}',
            '\u{61c}',
            '\u{115f}',
            '\u{180e}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{2028}',
            '\u{2029}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{2069}',
            '\u{2800}',
            '\u{3164}',
            '\u{e000}',
            '\u{fdd0}',
            '\u{fe0e}',
            '\u{feff}',
            '\u{fff9}',
            '\u{ffff}',
            '\u{e0041}',
            '\u{e0100}',
            '\u{10fffd}',
        ] {
            assert!(!is_printable(c), "{c:?}");
            assert_eq!(RemoteMessage::new(&format!("a{c}{c}b")).as_str(), "a b", "{c:?}");
            assert_eq!(escaped_line(&format!("a{c}b")), format!("a{}b", c.escape_default()));
        }
        for c in ['a', ' ', 'ü', 'ß', 'я', '日', 'א', 'ع', '€', '🦀', '\u{301}', '\u{fe0f}', '\u{fffd}'] {
            assert!(is_printable(c), "{c:?}");
        }
    }

    #[test]
    fn a_message_is_one_line_that_says_where_it_was_cut() {
        assert_eq!(RemoteMessage::new("  two\r\n\tlines ").as_str(), "two lines");
        assert_eq!(RemoteMessage::new(" \u{200b}\n").as_str(), "");
        for (message, longest) in [
            (RemoteMessage::new(&"ü".repeat(500_000)), MAX_STATEMENT_LENGTH),
            (RemoteMessage::from_statements(&"ü ".repeat(500_000)), MAX_MESSAGE_LENGTH),
            (RemoteMessage::from_bytes(&b"\xc3".repeat(500_000)), MAX_STATEMENT_LENGTH),
            (serde_json::from_value(serde_json::json!("\u{1b}x".repeat(500_000))).unwrap(), MAX_MESSAGE_LENGTH),
        ] {
            assert_eq!(message.as_str().chars().count(), longest + 1);
            assert!(message.as_str().ends_with('…'));
        }
        assert_eq!(RemoteMessage::new(&(" ".repeat(MAX_BYTES_READ) + "late")).as_str(), "…");
    }

    #[test]
    fn the_last_lines_are_one_printable_line() {
        let last_lines = |printed: &[u8]| RemoteMessage::last_lines(printed).to_string();
        assert_eq!(last_lines(b"1\n2\n3\n\n4\r\n5\n6\n"), "2 | 3 | 4 | 5 | 6");
        assert_eq!(last_lines(b"\x1b[31mred\x07\t\x00end\xff\n"), "[31mred end\u{fffd}");
        assert_eq!(last_lines("a\u{202e}b".as_bytes()), "a b");
        assert_eq!(last_lines(b"\n \n"), "");
        assert_eq!(last_lines("x".repeat(10_000).as_bytes()).chars().count(), MAX_LINE_LENGTH + 1);
    }

    #[test]
    fn an_ionos_error_becomes_words_and_a_gateways_page_none() {
        let of = |body: &[u8]| RemoteMessage::from_ionos_error(body).in_parentheses().to_string();
        let body = br#"{"httpStatus": 400, "messages": [{"errorCode": "paas-1", "message": "bad\nname"}, {}]}"#;
        assert_eq!(of(body), " (paas-1: bad name;)");
        assert_eq!(of(b"<html>"), "");
        let long = serde_json::json!({"messages": [{"message": "x".repeat(5_000)}]}).to_string();
        assert!(of(long.as_bytes()).len() < 320);
    }

    #[test]
    fn quotes_show_what_was_written() {
        assert_eq!(quoted("a\"b\\c\r\u{202e}ü"), r#""a\"b\\c\r\u{202e}ü""#);
        assert_eq!(quoted(&"ü".repeat(10_000)).chars().count(), MAX_STATEMENT_LENGTH + 3);
    }

    #[test]
    fn escapes_keep_what_is_printable_and_the_meaning_of_json() {
        assert!(matches!(escaped("a\nü"), Cow::Borrowed("a\nü")));
        assert_eq!(escaped("a\u{1b}[2J\r\n"), "a\\u{1b}[2J\\r\n");
        let value = serde_json::json!({ "x\u{202e}": "\u{9b}31m\u{e0041}\u{7f}\n" });
        let json = serde_json::to_string_pretty(&value).unwrap();
        let escaped = escaped_json(&json);
        assert!(escaped.chars().all(|c| is_printable(c) || c == '\n'));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
    }
}
