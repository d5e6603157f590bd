//! Texts of other people in messages: cut and made printable, so that a message stays one.

/// The text, or its beginning where it is longer than a name, an address or a URL has any reason to be.
pub(super) fn shown(text: &str) -> String {
    cut(text, LONGEST)
}

/// The last lines of what a program or a server said, on one line: without what steers terminals or turns the direction
/// of writing, each line cut. Empty where nothing printable was said.
pub fn last_lines(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let lines = text.split(['\n', '\r']).map(printable).filter(|line| !line.is_empty());
    let mut lines: Vec<String> = lines.map(|line| cut(&line, LONGEST_LINE)).collect();
    lines.drain(..lines.len().saturating_sub(LINES));
    lines.join(" | ")
}

/// The text on one line, without what steers terminals or turns the direction of writing.
pub fn printable(line: &str) -> String {
    let visible: String = line.chars().map(|c| if steers(c) { ' ' } else { c }).collect();
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Control characters, and the invisible ones that could make a message look like another.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// In characters: more than the longest DNS name.
const LONGEST: usize = 300;

const LINES: usize = 5;
const LONGEST_LINE: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(shown("www.example.com"), "www.example.com");
        assert_eq!(shown(&"ü".repeat(10_000)).chars().count(), LONGEST + 1);
    }

    #[test]
    fn the_last_lines_are_one_printable_line() {
        assert_eq!(last_lines(b"1\n2\n3\n\n4\r\n5\n6\n"), "2 | 3 | 4 | 5 | 6");
        assert_eq!(last_lines(b"\x1b[31mred\x07\t\x00end\xff\n"), "[31mred end\u{fffd}");
        assert_eq!(last_lines("a\u{202e}b".as_bytes()), "a b");
        assert_eq!(last_lines(b"\n \n"), "");
        assert_eq!(last_lines("x".repeat(10_000).as_bytes()).chars().count(), LONGEST_LINE + 1);
    }
}
