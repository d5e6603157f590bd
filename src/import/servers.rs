//! The ACME server of a lineage: as the caller says, else as the tool wrote it down, else the only one of its accounts.

use url::Url;

use crate::domain::value::server_url::ServerUrl;
use crate::import::{Fault, ImportOverrides};

/// A server, at the address that answers today.
pub(super) struct LineageServer {
    pub(super) url: ServerUrl,
    /// What the tool used, where that address is gone.
    pub(super) retired: Option<String>,
}

impl ImportOverrides {
    /// The server of a lineage: the one that the caller says, else the one that the tool wrote down.
    pub(super) fn resolve_server(&self, written: Option<&str>) -> Result<LineageServer, Fault> {
        let written = match (&self.server, written) {
            (Some(server), _) => server.clone(),
            (None, Some(text)) => ServerUrl::parse(text, self.plain_http).map_err(Fault::Server)?,
            (None, None) => return Err(Fault::NoServer),
        };
        let Some(successor) = successor_directory(written.as_str()) else {
            return Ok(LineageServer { url: written, retired: None });
        };
        let url = ServerUrl::parse(successor, self.plain_http).map_err(Fault::Server)?;
        Ok(LineageServer { url, retired: Some(written.as_str().to_owned()) })
    }
}

impl LineageServer {
    /// The addresses under which a tool may keep the account.
    pub(super) fn addresses(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.url.as_str()).chain(self.retired.as_deref())
    }
}

/// The `ACMEv2` directory of a CA whose `ACMEv1` address, at the same host as `url`, no longer answers.
pub(super) fn successor_directory(url: &str) -> Option<&'static str> {
    let host = host_and_port(url)?;
    RETIRED_HOSTS.into_iter().find(|(retired, _)| *retired == host).map(|(_, successor)| successor)
}

/// The directory of a well-known CA, by a URL at it.
pub(super) fn known_directory(url: &str) -> Option<&'static str> {
    let host = host_and_port(url)?;
    let known = KNOWN_DIRECTORIES.into_iter().find(|directory| host_and_port(directory).as_ref() == Some(&host));
    known.or_else(|| successor_directory(url))
}

/// Host and port, as far as the URL names one.
pub(super) fn host_and_port(url: &str) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?;
    Some(url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// Let's Encrypt ended `ACMEv1` in June 2021, and these names no longer resolve.
const RETIRED_HOSTS: [(&str, &str); 2] = [
    ("acme-v01.api.letsencrypt.org", "https://acme-v02.api.letsencrypt.org/directory"),
    ("acme-staging.api.letsencrypt.org", "https://acme-staging-v02.api.letsencrypt.org/directory"),
];

const KNOWN_DIRECTORIES: [&str; 12] = [
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
    use crate::domain::value::server_url::PlainHttpPolicy;

    #[test]
    fn a_directory_is_known_by_its_host_alone() {
        let of = |url| known_directory(url);
        assert_eq!(of("https://acme-v02.api.letsencrypt.org/acme/cert/03ab"), Some(KNOWN_DIRECTORIES[0]));
        assert_eq!(of("https://acme-v01.api.letsencrypt.org/acme/cert/03ab"), Some(KNOWN_DIRECTORIES[0]));
        assert_eq!(of("https://localhost:14000/certZ/1"), None);
        assert_eq!(of("https://acme-v02.api.letsencrypt.org:8443/x"), None);
        assert_eq!(of(""), None);
    }

    #[test]
    fn an_address_that_is_gone_gives_its_successor_wherever_it_was_said() {
        let untold = ImportOverrides { server: None, email: None, plain_http: PlainHttpPolicy::Refused };
        for (written, successor) in [
            ("https://acme-v01.api.letsencrypt.org/directory", KNOWN_DIRECTORIES[0]),
            ("https://acme-staging.api.letsencrypt.org/directory", KNOWN_DIRECTORIES[1]),
            ("https://ACME-staging.api.letsencrypt.org", KNOWN_DIRECTORIES[1]),
        ] {
            let told = ServerUrl::parse(written, PlainHttpPolicy::Refused).ok();
            for server in [
                untold.resolve_server(Some(written)),
                ImportOverrides { server: told, ..untold.clone() }.resolve_server(None),
            ] {
                let server = server.unwrap();
                assert_eq!((server.url.as_str(), server.retired.as_deref()), (successor, Some(written)));
            }
        }
        let server = untold.resolve_server(Some(KNOWN_DIRECTORIES[0])).unwrap();
        assert_eq!((server.url.as_str(), server.retired), (KNOWN_DIRECTORIES[0], None));
    }
}
