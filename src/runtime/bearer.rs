//! Authorization by a bearer token (RFC 6750) towards other services.

use http::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

use crate::domain::value::secret_text::{self, InvalidSecret};

/// The value of `Authorization` for a token, marked so that no log prints it.
///
/// # Errors
/// Where the text can be no token.
pub fn bearer_header(token: &SecretString) -> Result<HeaderValue, InvalidSecret> {
    let token = secret_text::token(token.expose_secret())?;
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| InvalidSecret::NotAToken)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_never_prints() {
        for text in ["abc.def\n", "Bearer abc.def", "\"abc.def\"\r\n"] {
            let value = bearer_header(&SecretString::from(text)).unwrap();
            assert_eq!(value.as_bytes(), b"Bearer abc.def");
            assert!(!format!("{value:?}").contains("abc"));
        }
        let error = bearer_header(&SecretString::from("ab\ncd")).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("ab\n"));
        assert_eq!(bearer_header(&SecretString::from(" \n")), Err(InvalidSecret::Empty));
    }
}
