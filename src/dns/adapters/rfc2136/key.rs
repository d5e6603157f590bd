//! The TSIG key: its file as tsig-keygen prints it, or the bare secret, made into what signs. Texts of faults hold
//! nothing of the file.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{Name, TSigner};
use secrecy::ExposeSecret;

use super::Section;
use crate::config::secret;
use crate::dns::adapters::AdapterContext;
use crate::dns::error::DnsError;
use crate::dns::question::to_fqdn;
use crate::domain::value::secret_text::unquoted;

/// The key of the settings.
///
/// # Errors
/// [`DnsError::Setting`] where the file cannot be read, or file and settings give no usable key.
pub(super) fn load_signer(given: &AdapterContext, section: &Section) -> Result<TSigner, DnsError> {
    let file = section.key_file.display();
    let in_file = |reason: String| given.setting_error("key_file", format!("{file}: {reason}"));
    let text = secret::read("key_file", &section.key_file);
    let text = text.map_err(|error| given.setting_error("key_file", error.to_string()))?;
    let key = TsigKey::parse(text.expose_secret(), section.key_name.as_deref()).map_err(in_file)?;
    let no_name = || given.setting_error("key_name", "it is missing; the key file holds the secret alone".to_owned());
    let name = section.key_name.as_deref().or(key.name).ok_or_else(no_name)?;
    let bad_name = |_| given.setting_error("key_name", format!("{name:?} can name no key"));
    let name = Name::from_ascii(to_fqdn(name)).map_err(bad_name)?;
    let set = section.algorithm.as_deref().map(parse_algorithm).transpose();
    let set = set.map_err(|reason| given.setting_error("algorithm", reason))?;
    let stated = key.algorithm.map(parse_algorithm).transpose().map_err(in_file)?;
    let algorithm = match (set, stated) {
        (Some(set), Some(stated)) if set != stated => {
            return Err(given.setting_error("algorithm", format!("it says {set}, but the key file says {stated}")));
        }
        (set, stated) => set.or(stated).unwrap_or(TsigAlgorithm::HmacSha256),
    };
    let secret = STANDARD.decode(key.secret).ok().filter(|secret| !secret.is_empty());
    let secret = secret.ok_or_else(|| in_file("its secret is no base64; make a key with tsig-keygen".to_owned()))?;
    TSigner::new(secret, algorithm, name, FUDGE).map_err(|error| in_file(error.to_string()))
}

/// A key as its file states it.
#[derive(Clone, Copy)]
#[cfg_attr(test, derive(Debug, PartialEq, Eq))]
struct TsigKey<'a> {
    name: Option<&'a str>,
    algorithm: Option<&'a str>,
    /// In base64.
    secret: &'a str,
}

impl<'a> TsigKey<'a> {
    /// The key in a file, the one of this name where it holds several.
    fn parse(text: &'a str, name: Option<&str>) -> Result<Self, String> {
        if !text.contains('{') {
            return Ok(Self { name: None, algorithm: None, secret: unquoted(text) });
        }
        let keys = parse_key_statements(text).ok_or("it is neither a secret in base64 nor what tsig-keygen prints")?;
        let is_it = |key: &&TsigKey<'_>| name.is_none_or(|name| is_same_name(name, key.name.unwrap_or_default()));
        match keys.iter().filter(is_it).collect::<Vec<_>>().as_slice() {
            [key] => Ok(**key),
            [] => Err(format!("it holds no key {:?}, which key_name asks for", name.unwrap_or_default())),
            _ => Err("it holds several keys; choose one with key_name".to_owned()),
        }
    }
}

/// All `key "name" { algorithm ...; secret "..."; };` of a file in BIND's syntax; `None` where there is anything else.
fn parse_key_statements(text: &str) -> Option<Vec<TsigKey<'_>>> {
    let mut tokens = Tokens(text);
    let mut keys = Vec::new();
    while let Some(token) = tokens.next() {
        let name = tokens.next().filter(|_| token == "key")?;
        let (mut algorithm, mut secret) = (None, None);
        tokens.expect("{")?;
        loop {
            match tokens.next()? {
                "}" => break,
                "algorithm" => algorithm = Some(tokens.next()?),
                "secret" => secret = Some(tokens.next()?),
                _ => return None,
            }
            tokens.expect(";")?;
        }
        tokens.expect(";")?;
        keys.push(TsigKey { name: Some(name), algorithm, secret: secret? });
    }
    Some(keys)
}

/// What is left of a text in BIND's syntax, to be read token by token, without comments and quotes.
struct Tokens<'a>(&'a str);

impl<'a> Tokens<'a> {
    fn next(&mut self) -> Option<&'a str> {
        loop {
            self.0 = self.0.trim_start();
            let rest = self.0;
            if rest.starts_with('#') || rest.starts_with("//") {
                self.0 = rest.split_once('\n').map_or("", |(_, after)| after);
            } else if let Some(comment) = rest.strip_prefix("/*") {
                self.0 = comment.split_once("*/")?.1;
            } else if let Some(quoted) = rest.strip_prefix('"') {
                let (token, after) = quoted.split_once('"')?;
                self.0 = after;
                return Some(token);
            } else {
                let end = match rest.find(|c: char| c.is_whitespace() || PUNCTUATION.contains(&c))? {
                    0 => 1,
                    end => end,
                };
                let (token, after) = rest.split_at(end);
                self.0 = after;
                return Some(token);
            }
        }
    }

    fn expect(&mut self, token: &str) -> Option<()> {
        (self.next()? == token).then_some(())
    }
}

fn parse_algorithm(text: &str) -> Result<TsigAlgorithm, String> {
    match text.trim_end_matches('.').to_lowercase().as_str() {
        "hmac-sha256" => Ok(TsigAlgorithm::HmacSha256),
        "hmac-sha384" => Ok(TsigAlgorithm::HmacSha384),
        "hmac-sha512" => Ok(TsigAlgorithm::HmacSha512),
        _ => {
            Err("the algorithm is none of hmac-sha256, hmac-sha384 and hmac-sha512; make a key with tsig-keygen"
                .to_owned())
        }
    }
}

fn is_same_name(one: &str, other: &str) -> bool {
    one.trim_end_matches('.').eq_ignore_ascii_case(other.trim_end_matches('.'))
}

const PUNCTUATION: [char; 4] = ['{', '}', ';', '"'];
/// By how many seconds the clocks may differ (RFC 8945 section 10).
const FUDGE: u16 = 300;

#[cfg(test)]
mod tests {
    use super::*;

    const OFFICE: &str = "key \"office\" {\n\talgorithm hmac-sha512;\n\tsecret \"a//b/*c=\";\n};\n";

    #[test]
    fn a_key_is_read_as_tsig_keygen_prints_it_or_as_the_bare_secret() {
        let office = TsigKey { name: Some("office"), algorithm: Some("hmac-sha512"), secret: "a//b/*c=" };
        assert_eq!(TsigKey::parse(OFFICE, None).unwrap(), office);
        assert_eq!(TsigKey::parse(OFFICE, Some("Office.")).unwrap(), office);
        let tight = "# by hand\nkey office{secret a;algorithm hmac-sha512; /* { */ };// end";
        assert_eq!(TsigKey::parse(tight, None).unwrap(), TsigKey { secret: "a", ..office });
        let bare = TsigKey { name: None, algorithm: None, secret: "c2VjcmV0" };
        for text in [" c2VjcmV0\n", "\"c2VjcmV0\"\r\n"] {
            assert_eq!(TsigKey::parse(text, Some("office")).unwrap(), bare);
        }
    }

    #[test]
    fn one_of_several_keys_is_chosen_by_its_name() {
        let two = format!("{OFFICE}{}", OFFICE.replace("office", "other").replace("a//", "b//"));
        assert_eq!(TsigKey::parse(&two, Some("other")).unwrap().secret, "b//b/*c=");
        assert!(TsigKey::parse(&two, None).unwrap_err().contains("several"));
        assert!(TsigKey::parse(&two, Some("third")).unwrap_err().contains("\"third\""));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for text in [
            "{",
            "key office { secret \"a\"; }",
            "key office { algorithm hmac-sha256; };",
            "key office { secret \"a; };",
            "zone office { secret a; };",
            "key office { secret a; /* };",
        ] {
            assert!(TsigKey::parse(text, None).is_err(), "{text:?} was taken");
        }
        assert!(parse_algorithm("hmac-md5").is_err());
        assert_eq!(parse_algorithm("HMAC-SHA384."), Ok(TsigAlgorithm::HmacSha384));
    }
}
