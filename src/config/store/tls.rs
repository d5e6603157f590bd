//! TLS with PostgreSQL, as the parameters of the URL have it. They are checked with the settings, before anything connects.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use url::{Host, Url};

use crate::domain::certificate::leaf::is_encrypted_key;
use crate::runtime::files;

/// What is wrong with the TLS parameters of the database's URL.
#[derive(Debug, thiserror::Error)]
pub enum InvalidTls {
    /// A mode that PostgreSQL does not know.
    #[error("sslmode in the store's URL is none of disable, allow, prefer, require, verify-ca, verify-full")]
    Mode,
    /// A file cannot be read.
    #[error("{parameter} in the store's URL names {}, which cannot be read", path.display())]
    File {
        /// `sslrootcert`, `sslcert` or `sslkey`.
        parameter: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Only a passphrase opens the key.
    #[error(
        "sslkey in the store's URL names {}, which is encrypted with a passphrase; decrypt it with `openssl pkey -in KEY -out \
         NEWKEY` and name the new file", .0.display()
    )]
    EncryptedKey(PathBuf),
    /// No certificate is in the file.
    #[error("{parameter} in the store's URL names {}, which holds no certificate in PEM", path.display())]
    NoCertificate {
        /// `sslrootcert` or `sslcert`.
        parameter: &'static str,
        /// The file.
        path: PathBuf,
    },
}

/// Refuses what sqlx would stumble over when it connects.
pub(super) fn check(url: &str) -> Result<(), InvalidTls> {
    let Some(mode) = url_parameter(url, &["sslmode", "ssl-mode"]) else { return check_files(url) };
    if !SSL_MODES.contains(&mode.to_ascii_lowercase().as_str()) {
        return Err(InvalidTls::Mode);
    }
    check_files(url)
}

/// Over the network without a check of the server anybody in between can read and change everything.
pub(super) fn insecure_connection_warning(url: &str) -> Option<String> {
    let parsed = Url::parse(url).ok()?;
    let socket = url_parameter(url, &["host"]).is_some_and(|host| host.starts_with('/'));
    let local = match parsed.host()? {
        // Of this scheme IPv4 addresses pass for names.
        Host::Domain(name) => {
            ["", "localhost"].contains(&name)
                || name.starts_with("%2F")
                || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    };
    let mode = url_parameter(url, &["sslmode", "ssl-mode"]).unwrap_or_else(|| "prefer".to_owned()).to_ascii_lowercase();
    if !mode.starts_with("verify-") && url_parameter(url, &ROOT_PARAMETERS).is_some() {
        return Some(format!(
            "sslrootcert in the store's URL is not looked at with sslmode={mode}; set sslmode=verify-full there"
        ));
    }
    let weak = matches!(mode.as_str(), "disable" | "allow" | "prefer");
    (weak && !local && !socket).then(|| {
        format!(
            "the connection to the database goes over the network with sslmode={mode}, which may be unencrypted; set \
             sslmode=verify-full in the store's URL"
        )
    })
}

fn check_files(url: &str) -> Result<(), InvalidTls> {
    for (name, spellings, is_certificate) in [
        ("sslrootcert", ROOT_PARAMETERS, true),
        ("sslcert", ["sslcert", "ssl-cert", ""], true),
        ("sslkey", ["sslkey", "ssl-key", ""], false),
    ] {
        let Some(path) = url_parameter(url, &spellings).map(PathBuf::from) else { continue };
        let content = files::read_at_once(&path, files::LONGEST_FILE).map_err(|source| InvalidTls::File {
            parameter: name,
            path: path.clone(),
            source,
        })?;
        let mut certificates = CertificateDer::pem_slice_iter(&content);
        if !is_certificate && is_encrypted_key(&String::from_utf8_lossy(&content)) {
            return Err(InvalidTls::EncryptedKey(path));
        }
        if is_certificate && certificates.next().is_none_or(|certificate| certificate.is_err()) {
            return Err(InvalidTls::NoCertificate { parameter: name, path });
        }
    }
    Ok(())
}

fn url_parameter(url: &str, spellings: &[&str]) -> Option<String> {
    let url = Url::parse(url).ok()?;
    let found = url.query_pairs().filter(|(name, _)| spellings.contains(&name.as_ref())).last();
    found.map(|(_, value)| value.into_owned())
}

/// As sqlx spells it.
const ROOT_PARAMETERS: [&str; 3] = ["sslrootcert", "ssl-root-cert", "ssl-ca"];
const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_and_files_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("roots.pem");
        let url = |mode: &str| format!("postgres://me@db.example/certs?sslmode={mode}&sslrootcert={}", file.display());
        for mode in ["verify-full", "verify-ca"] {
            assert!(matches!(check(&url(mode)), Err(InvalidTls::File { parameter: "sslrootcert", .. })), "{mode}");
        }
        std::fs::write(&file, "no certificate").unwrap();
        assert!(matches!(check(&url("verify-full")), Err(InvalidTls::NoCertificate { .. })));
        let root = rcgen::generate_simple_self_signed(vec!["db.example".to_owned()]).unwrap();
        std::fs::write(&file, root.cert.pem()).unwrap();
        check(&url("verify-full")).unwrap();
        assert!(matches!(check(&url("verify_full")), Err(InvalidTls::Mode)));
        check(&url("require")).unwrap();
        assert!(insecure_connection_warning(&url("require")).is_some_and(|words| words.contains("sslrootcert")));
        check("postgres://me@db.example/certs").unwrap();
    }

    #[test]
    fn the_network_without_a_check_is_warned_of() {
        for url in
            ["postgres://db.example/c", "postgres://10.0.0.1/c?sslmode=allow", "postgres://db.example/c?sslmode=prefer"]
        {
            assert!(insecure_connection_warning(url).is_some_and(|words| words.contains("verify-full")), "{url}");
        }
        for url in [
            "postgres://localhost/c",
            "postgres://127.0.0.1/c",
            "postgres://[::1]/c",
            "postgres://db.example/c?host=/run/postgresql",
            "postgres://db.example/c?sslmode=verify-full",
            "postgres:///c?host=/run/postgresql",
        ] {
            assert_eq!(insecure_connection_warning(url), None, "{url}");
        }
    }
}
