//! The ACME server of a lineage: as the caller says, else as the tool wrote it down, else the only one of its accounts.

use url::Url;

use crate::domain::server_url::ServerUrl;
use crate::import::{Fault, Overrides};

/// A server, at the address that answers today.
pub(super) struct Server {
    pub(super) url: ServerUrl,
    /// What the tool used, where that address is gone.
    pub(super) retired: Option<String>,
}

impl Overrides {
    /// The server of a lineage: the one that the caller says, else the one that the tool wrote down.
    pub(super) fn server_or(&self, written: Option<&str>) -> Result<Server, Fault> {
        let written = match (&self.server, written) {
            (Some(server), _) => server.clone(),
            (None, Some(text)) => ServerUrl::parse(text, self.plain_http).map_err(Fault::Server)?,
            (None, None) => return Err(Fault::NoServer),
        };
        let Some(successor) = successor(written.as_str()) else { return Ok(Server { url: written, retired: None }) };
        let url = ServerUrl::parse(successor, self.plain_http).map_err(Fault::Server)?;
        Ok(Server { url, retired: Some(written.as_str().to_owned()) })
    }
}

impl Server {
    /// The addresses under which a tool may keep the account.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.url.as_str()).chain(self.retired.as_deref())
    }
}

/// The `ACMEv2` directory of a CA whose `ACMEv1` address, at the same host as `url`, no longer answers.
pub(super) fn successor(url: &str) -> Option<&'static str> {
    let host = host_of(url)?;
    RETIRED.into_iter().find(|(retired, _)| *retired == host).map(|(_, successor)| successor)
}

/// The directory of a well-known CA, by a URL at it.
pub(super) fn directory_of(url: &str) -> Option<&'static str> {
    let host = host_of(url)?;
    let known = DIRECTORIES.into_iter().find(|directory| host_of(directory).as_ref() == Some(&host));
    known.or_else(|| successor(url))
}

/// Host and port, as far as the URL names one.
pub(super) fn host_of(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// Let's Encrypt ended `ACMEv1` in June 2021, and these names no longer resolve.
const RETIRED: [(&str, &str); 2] = [
    ("acme-v01.api.letsencrypt.org", "https://acme-v02.api.letsencrypt.org/directory"),
    ("acme-staging.api.letsencrypt.org", "https://acme-staging-v02.api.letsencrypt.org/directory"),
];

const DIRECTORIES: [&str; 12] = [
    "https://acme-v02.api.letsencrypt.org/directory",
    "https://acme-staging-v02.api.letsencrypt.org/directory",
    "https://acme.zerossl.com/v2/DV90",
    "https://dv.acme-v02.api.pki.goog/directory",
    "https://dv.acme-v02.test-api.pki.goog/directory",
    "https://api.buypass.com/acme/directory",
    "https://acme-api.actalis.com/acme/directory",
    "https://one.digicert.com/mpki/api/v1/acme/v2/directory",
    "https://acmepro.freessl.cn/v2/DV",
    "https://emea.acme.atlas.globalsign.com/directory",
    "https://acme.litessl.com/acme/v2/directory",
    "https://stica.peeringhub.io/acme",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::server_url::PlainHttp;

    #[test]
    fn a_directory_is_known_by_its_host_alone() {
        let of = |url| directory_of(url);
        assert_eq!(of("https://acme-v02.api.letsencrypt.org/acme/cert/03ab"), Some(DIRECTORIES[0]));
        assert_eq!(of("https://acme-v01.api.letsencrypt.org/acme/cert/03ab"), Some(DIRECTORIES[0]));
        assert_eq!(of("https://localhost:14000/certZ/1"), None);
        assert_eq!(of("https://acme-v02.api.letsencrypt.org:8443/x"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn an_address_that_is_gone_gives_its_successor_wherever_it_was_said() {
        let untold = Overrides { server: None, email: None, plain_http: PlainHttp::Refused };
        for (written, successor) in [
            ("https://acme-v01.api.letsencrypt.org/directory", DIRECTORIES[0]),
            ("https://acme-staging.api.letsencrypt.org/directory", DIRECTORIES[1]),
            ("https://ACME-staging.api.letsencrypt.org", DIRECTORIES[1]),
        ] {
            let told = ServerUrl::parse(written, PlainHttp::Refused).ok();
            for server in
                [untold.server_or(Some(written)), Overrides { server: told, ..untold.clone() }.server_or(None)]
            {
                let server = server.unwrap();
                assert_eq!((server.url.as_str(), server.retired.as_deref()), (successor, Some(written)));
            }
        }
        let server = untold.server_or(Some(DIRECTORIES[0])).unwrap();
        assert_eq!((server.url.as_str(), server.retired), (DIRECTORIES[0], None));
    }
}
