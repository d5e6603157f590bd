//! The text of a URL that somebody wrote: taken where it reads as it will be used, refused otherwise. Parsers of URLs mend
//! much in silence (they drop line ends, add slashes, rewrite hosts); what is mended would be shown, compared and stored
//! in another form than it is used.

use url::{Position, Url};

/// What is wrong with the text of a URL. It repeats nothing of it, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUrl {
    /// It is no absolute URL with a host.
    #[error("it is not a URL such as https://example.com/path")]
    NotAUrl,
    /// It holds something that a URL has in encoded form only.
    #[error("it holds a blank, a line end or another character that no URL has; remove it, or percent-encode it")]
    Character,
    /// It is too long.
    #[error("it is longer than {LONGEST_URL} characters")]
    TooLong,
    /// It has a fragment.
    #[error("it has a fragment; remove the # and what follows")]
    Fragment,
    /// Its host is written in another form than it is used.
    #[error("its host has to be written as {0}")]
    Host(String),
    /// Nobody listens on port 0.
    #[error("its port is 0; give the port of the service")]
    Port,
}

/// Reads an absolute URL with a host, written as it is used.
///
/// # Errors
/// Where it is none, or written in a way that a parser would mend in silence.
pub fn parse_url(text: &str) -> Result<Url, InvalidUrl> {
    if text.len() > LONGEST_URL {
        return Err(InvalidUrl::TooLong);
    }
    // RFC 3986 section 2; what is not ASCII may stand in a host alone, for which there is a better word below.
    let odd = |c: char| c.is_ascii_control() || " \"<>\\^`{|}".contains(c) || (!c.is_ascii() && !c.is_alphanumeric());
    if text.contains(odd) {
        return Err(InvalidUrl::Character);
    }
    let (_, rest) = text.split_once("://").ok_or(InvalidUrl::NotAUrl)?;
    let url = Url::parse(text).map_err(|_| InvalidUrl::NotAUrl)?;
    let host = url.host_str().filter(|_| !rest.starts_with('/')).ok_or(InvalidUrl::NotAUrl)?;
    if url.fragment().is_some() {
        return Err(InvalidUrl::Fragment);
    }
    if url.port() == Some(0) {
        return Err(InvalidUrl::Port);
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let written = authority.rsplit_once('@').map_or(authority, |(_, written)| written);
    let name = written.rsplit_once(':').filter(|(_, port)| !port.contains(']')).map_or(written, |(name, _)| name);
    if !name.eq_ignore_ascii_case(host) {
        return Err(InvalidUrl::Host(host.to_owned()));
    }
    if !text.is_ascii() {
        return Err(InvalidUrl::Character);
    }
    Ok(url)
}

/// Reads a URL that a former release took as it was, in the form in which it is used; nothing where it is none.
pub fn normalize_stored_url(text: &str) -> Option<String> {
    let url = Url::parse(text).ok().filter(Url::has_host)?;
    Some(url[..Position::AfterQuery].to_owned())
}

/// In characters.
pub const LONGEST_URL: usize = 2_048;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_as_it_is_used_is_taken() {
        for text in [
            "https://ca.example",
            "https://ca.example/",
            "https://CA.example:14000/dir?x=1&y=%20",
            "HTTPS://ca.example/acme/~user/dir;v=2",
            "http://127.0.0.1:8080",
            "https://[fd00::1]:443/dir",
            "https://[::1]",
            "https://ca.example:443/",
            "https://xn--bcher-kva.example/dir",
            "https://user:pw@ca.example/dir",
            "https://under_score.example/",
        ] {
            assert!(parse_url(text).is_ok(), "{text}: {:?}", parse_url(text));
        }
    }

    #[test]
    fn what_a_parser_would_mend_in_silence_is_refused() {
        use InvalidUrl::{Character, Fragment, Host, NotAUrl, Port, TooLong};
        let long = format!("https://ca.example/{}", "x".repeat(LONGEST_URL));
        for (text, fault) in [
            ("", NotAUrl),
            ("ca.example", NotAUrl),
            ("https:ca.example", NotAUrl),
            ("https:/ca.example/dir", NotAUrl),
            ("https://", NotAUrl),
            ("https:///ca.example/dir", NotAUrl),
            ("https:\\\\ca.example\\dir", Character),
            ("https://ca.example\\@evil.example", Character),
            (" https://ca.example/dir", Character),
            ("https://ca.example/dir\r\n", Character),
            ("https://ca.exa\nmple/dir", Character),
            ("https://ca.example/d\tir", Character),
            ("https://ca.example/\u{1b}[2J", Character),
            ("https://ca.example/\u{202e}dir", Character),
            ("https://ca.example/\u{200b}", Character),
            ("https://ca.example/b\u{fc}cher", Character),
            ("https://ca.example/dir#new", Fragment),
            ("https://ca.example/dir#", Fragment),
            ("https://ca.example:0/dir", Port),
            ("https://ca.example:99999/dir", NotAUrl),
            ("https://b\u{fc}cher.example/dir", Host("xn--bcher-kva.example".to_owned())),
            ("https://127.1/dir", Host("127.0.0.1".to_owned())),
            ("https://ex%61mple.com/dir", Host("example.com".to_owned())),
            ("https://[0:0:0:0:0:0:0:1]/", Host("[::1]".to_owned())),
            (&long, TooLong),
        ] {
            assert_eq!(parse_url(text), Err(fault), "{text:?}");
        }
    }

    #[test]
    fn what_a_former_release_took_can_still_be_read() {
        for (stored, read) in [
            ("https://ca.example/dir\r\n", Some("https://ca.example/dir")),
            ("https://ca.example/dir#new", Some("https://ca.example/dir")),
            ("https:ca.example", Some("https://ca.example/")),
            ("https://ca.example/a\u{1b}b", Some("https://ca.example/a%1Bb")),
            ("nonsense", None),
        ] {
            assert_eq!(normalize_stored_url(stored).as_deref(), read, "{stored:?}");
        }
    }
}
