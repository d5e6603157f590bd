//! What all resources of the API share: a name for people, and who made and changed them when.

use std::fmt;
use std::str::FromStr;

use crate::domain::value::moment::Moment;
use crate::domain::value::text::{is_printable, printable};

/// A name for people: 1 to 255 printable characters, not only blanks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceName(String);

/// What is wrong with a name for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a name has 1 to {MAX_CHARACTERS} characters, no control or invisible characters, and is not only blanks")]
pub struct InvalidResourceName;

impl ResourceName {
    /// A name that is stored, made printable: a former release took more.
    pub fn from_stored(text: &str) -> Self {
        text.parse().unwrap_or_else(|_| {
            let name: String = printable(text).chars().take(MAX_CHARACTERS).collect();
            Self(if name.is_empty() { UNNAMED.to_owned() } else { name })
        })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of a certificate issued at `issued` for a resource of this name; cut where it would grow too long.
    #[must_use]
    pub fn with_issue_time(&self, issued: Moment) -> Self {
        let suffix = format!(" {issued}");
        let room = MAX_CHARACTERS - suffix.chars().count();
        Self(self.0.chars().take(room).chain(suffix.chars()).collect())
    }
}

impl FromStr for ResourceName {
    type Err = InvalidResourceName;

    fn from_str(text: &str) -> Result<Self, InvalidResourceName> {
        let fits = text.chars().count() <= MAX_CHARACTERS && !text.trim().is_empty();
        if fits && text.chars().all(is_printable) { Ok(Self(text.to_owned())) } else { Err(InvalidResourceName) }
    }
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text with a NUL character: PostgreSQL cannot keep it, and no property has a use for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("holds a NUL character")]
pub struct ContainsNul;

/// The text of a property, before it is read any further.
///
/// # Errors
/// Where it holds a NUL character.
pub fn reject_nul(text: &str) -> Result<&str, ContainsNul> {
    if text.contains('\0') { Err(ContainsNul) } else { Ok(text) }
}

/// Who did something: the holder of a token, or autocertd itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The token's name, or `autocertd`.
    pub name: String,
    /// The token's id, or the nil UUID.
    pub id: uuid::Uuid,
}

impl Actor {
    /// autocertd itself: what it issues was made by nobody else.
    pub fn autocertd() -> Self {
        Self { name: "autocertd".to_owned(), id: uuid::Uuid::nil() }
    }
}

/// Who made a resource and who changed it last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// When it was made.
    pub created: Moment,
    /// Who made it.
    pub created_by: Actor,
    /// When a person changed it last; states and issues do not count.
    pub modified: Moment,
    /// Who changed it last.
    pub modified_by: Actor,
}

impl Audit {
    /// Made just now.
    pub fn new(by: Actor, now: Moment) -> Self {
        Self { created: now, created_by: by.clone(), modified: now, modified_by: by }
    }
}

const UNNAMED: &str = "(no printable name)";
const MAX_CHARACTERS: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issue_time_fits_even_behind_the_longest_name() {
        let name: ResourceName = "x".repeat(MAX_CHARACTERS).parse().unwrap();
        let issued = name.with_issue_time(Moment::from_micros(0));
        assert!(issued.as_str().ends_with(" 1970-01-01T00:00:00Z"));
        assert_eq!(issued.as_str().parse(), Ok(issued.clone()));
    }

    #[test]
    fn blanks_and_control_characters_are_no_names() {
        for text in ["", "  ", "a\nb", "a\u{202e}b", "a\u{200b}b", "a\u{9b}b", &"x".repeat(256)] {
            assert_eq!(text.parse::<ResourceName>(), Err(InvalidResourceName));
            let stored = ResourceName::from_stored(text);
            assert_eq!(stored.as_str().parse(), Ok(stored.clone()), "{text:?}");
        }
        for text in ["Let's Encrypt", " a  b ", "\u{26a0}\u{fe0f} staging", "日本語 עברית"] {
            assert_eq!(ResourceName::from_stored(text).as_str(), text);
        }
    }
}
