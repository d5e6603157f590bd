//! Texts of other people in messages: cut, so that a message stays one.

/// The text, or its beginning where it is longer than a name, an address or a URL has any reason to be.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// In characters: more than the longest DNS name.
const LONGEST: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_cut_between_characters() {
        assert_eq!(shown("www.example.com"), "www.example.com");
        assert_eq!(shown(&"ü".repeat(10_000)).chars().count(), LONGEST + 1);
    }
}
