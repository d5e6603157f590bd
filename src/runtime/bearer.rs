//! Authorization by a bearer token (RFC 6750) towards other services.

use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

/// What is wrong with a token, which is never printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    /// There is nothing but blanks.
    #[error("it is empty")]
    Empty,
    /// No header can carry it.
    #[error("it has characters that no token has; give the token alone")]
    Malformed,
}

/// The value of `Authorization` for a token, marked so that no log prints it.
///
/// # Errors
/// Where the text can be no token.
pub fn bearer(token: &SecretString) -> Result<HeaderValue, InvalidToken> {
    let token = token.expose_secret().trim();
    if token.is_empty() {
        return Err(InvalidToken::Empty);
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| InvalidToken::Malformed)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_prints() {
        let value = bearer(&SecretString::from("abc.def\n")).unwrap();
        assert_eq!(value.as_bytes(), b"Bearer abc.def");
        assert!(!format!("{value:?}").contains("abc"));
        let error = bearer(&SecretString::from("ab\ncd")).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("ab\n"));
        assert_eq!(bearer(&SecretString::from(" \n")), Err(InvalidToken::Empty));
    }
}
