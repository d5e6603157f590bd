//! The chain that a CA hands out (RFC 8555 section 9.1): read from whatever PEM text it came in, written anew from the DER.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::prelude::BASE64_STANDARD;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// A certificate with those that lead from it to a root, in DER.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateChain(Vec<Vec<u8>>);

/// Why a text is no chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidChain {
    /// It has no PEM block at all.
    #[error("it has no certificate")]
    Empty,
    /// RFC 8555 section 9.1 has clients refuse anything else, lest a CA slips a private key into a web server's files.
    #[error("it has a PEM block that is no certificate")]
    OtherBlock,
    /// A block has no end, or is not base64 of one X.509 certificate.
    #[error("a certificate in it is not whole")]
    Damaged,
    /// It is longer than any real one.
    #[error("it has more than {LONGEST} certificates")]
    TooLong,
}

impl CertificateChain {
    /// Reads a chain. Text around the blocks, any line ends and line lengths, and repeated certificates are passed over.
    /// The end-entity certificate comes first, also where the CA gave it elsewhere.
    ///
    /// # Errors
    /// Where it holds no certificate, one that is damaged, or anything else than certificates.
    pub fn parse(pem: &str) -> Result<Self, InvalidChain> {
        let mut certificates: Vec<Vec<u8>> = Vec::new();
        let mut rest = pem;
        while let Some((_, begun)) = rest.split_once(BEGIN) {
            let (label, body) = begun.split_once(DASHES).ok_or(InvalidChain::Damaged)?;
            if label != LABEL {
                return Err(InvalidChain::OtherBlock);
            }
            let (body, behind) = body.split_once(END).ok_or(InvalidChain::Damaged)?;
            let der = parse_certificate_body(body)?;
            if !certificates.contains(&der) {
                certificates.push(der);
            }
            if certificates.len() > LONGEST {
                return Err(InvalidChain::TooLong);
            }
            rest = behind;
        }
        if certificates.is_empty() {
            return Err(InvalidChain::Empty);
        }
        // The sort is stable: among themselves they stay as the CA gave them.
        certificates.sort_by_key(|der| is_ca(der));
        Ok(Self(certificates))
    }

    /// The end-entity certificate, PEM.
    pub fn leaf_pem(&self) -> String {
        self.0.first().map(|der| to_pem(der)).unwrap_or_default()
    }

    /// Those after it, PEM; empty where the CA gave the end-entity certificate alone.
    pub fn issuers_pem(&self) -> String {
        self.0.iter().skip(1).map(|der| to_pem(der)).collect()
    }

    /// The whole, PEM.
    pub fn pem(&self) -> String {
        self.0.iter().map(|der| to_pem(der)).collect()
    }
}

/// An issued certificate and its chain as they are to be shown and delivered, out of what may be a row of the former
/// release: that one kept the text of the CA, without a line break at its end, and a certificate alone as its own chain.
pub fn normalize_issued_pem(certificate: &str, chain: &str) -> (String, String) {
    let (certificate, chain) = (normalize_line_ends(certificate), normalize_line_ends(chain));
    if certificate == chain { (certificate, String::new()) } else { (certificate, chain) }
}

fn normalize_line_ends(text: &str) -> String {
    match text.trim() {
        "" => String::new(),
        text => format!("{}\n", text.replace("\r\n", "\n")),
    }
}

fn parse_certificate_body(body: &str) -> Result<Vec<u8>, InvalidChain> {
    let base64: String = body.chars().filter(|c| !c.is_whitespace()).collect();
    let der = LENIENT.decode(base64).map_err(|_| InvalidChain::Damaged)?;
    match X509Certificate::from_der(&der) {
        Ok(([], _)) => Ok(der),
        _ => Err(InvalidChain::Damaged),
    }
}

fn is_ca(der: &[u8]) -> bool {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return false };
    certificate.basic_constraints().is_ok_and(|found| found.is_some_and(|extension| extension.value.ca))
}

fn to_pem(der: &[u8]) -> String {
    let base64 = BASE64_STANDARD.encode(der);
    let mut text = format!("{BEGIN}{LABEL}{DASHES}\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        // base64 is ASCII.
        let (line, behind) = rest.split_at(rest.len().min(LINE_LENGTH));
        text.push_str(line);
        text.push('\n');
        rest = behind;
    }
    text.push_str(END);
    text.push('\n');
    text
}

const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const BEGIN: &str = "-----BEGIN ";
const LABEL: &str = "CERTIFICATE";
const DASHES: &str = "-----";
const END: &str = "-----END CERTIFICATE-----";
/// RFC 7468 section 2.
const LINE_LENGTH: usize = 64;
/// Real ones have up to five.
const LONGEST: usize = 32;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    fn made(name: &str, is_ca: IsCa) -> String {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = is_ca;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem().replace("\r\n", "\n")
    }

    fn leaf() -> String {
        made("leaf.example", IsCa::NoCa)
    }

    fn ca() -> String {
        made("ca.example", IsCa::Ca(BasicConstraints::Unconstrained))
    }

    #[test]
    fn pem_is_written_anew_from_the_der() {
        let (leaf, one, two) = (leaf(), ca(), ca());
        let plain = format!("{leaf}{one}{two}");
        let joined = |pem: &str| pem.replace('\n', "").replace("CERTIFICATE-----M", "CERTIFICATE-----\nM");
        for odd in [
            plain.clone(),
            plain.replace('\n', "\r\n"),
            plain.trim_end().to_owned(),
            format!("subject=/CN=x\n\n{leaf}issuer: M\u{fc}ller\n{one}\n\n# two\n{two}\ntrailing"),
            format!("{}{}{}", joined(&leaf), joined(&one), joined(&two)),
            plain.replace('\n', " \n  "),
            format!("{leaf}{leaf}{one}{two}{one}"),
            format!("{one}{leaf}{two}"),
        ] {
            let chain = CertificateChain::parse(&odd).unwrap_or_else(|error| panic!("{error}: {odd}"));
            assert_eq!(chain.pem(), plain, "{odd}");
            assert_eq!((chain.leaf_pem(), chain.issuers_pem()), (leaf.clone(), format!("{one}{two}")));
        }
    }

    #[test]
    fn a_certificate_alone_has_no_issuers() {
        let leaf = leaf();
        let chain = CertificateChain::parse(&leaf).unwrap();
        assert_eq!((chain.leaf_pem(), chain.issuers_pem(), chain.pem()), (leaf.clone(), String::new(), leaf));
    }

    #[test]
    fn anything_but_whole_certificates_is_refused() {
        let leaf = leaf();
        let key = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
        for (pem, expected) in [
            (String::new(), InvalidChain::Empty),
            ("{}".to_owned(), InvalidChain::Empty),
            (format!("{leaf}{key}"), InvalidChain::OtherBlock),
            (format!("{leaf} {key}"), InvalidChain::OtherBlock),
            (format!("{}{key}", leaf.trim_end()), InvalidChain::OtherBlock),
            (format!("{leaf}{}", &leaf[..40]), InvalidChain::Damaged),
            (format!("{leaf}-----BEGIN "), InvalidChain::Damaged),
            (leaf.replacen('\n', "\n!", 1), InvalidChain::Damaged),
            ("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n".to_owned(), InvalidChain::Damaged),
            ((0..=LONGEST).map(|_| ca()).collect(), InvalidChain::TooLong),
        ] {
            assert_eq!(CertificateChain::parse(&pem), Err(expected), "{pem}");
        }
    }

    #[test]
    fn rows_of_the_former_release_are_shown_as_those_of_this_one() {
        for (certificate, chain, expected) in [
            ("L", "L", ("L\n", "")),
            ("L", "L\n", ("L\n", "")),
            ("L\n", "", ("L\n", "")),
            ("L", "C\r\nD", ("L\n", "C\nD\n")),
            ("L\n", "C\n", ("L\n", "C\n")),
        ] {
            let expected = (expected.0.to_owned(), expected.1.to_owned());
            assert_eq!(normalize_issued_pem(certificate, chain), expected, "{certificate:?} {chain:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_brings_it_down(text in any::<String>(), cut in 0usize..400) {
            let _ = CertificateChain::parse(&text);
            let leaf = leaf();
            let cut: String = leaf.chars().take(cut).collect();
            let _ = CertificateChain::parse(&format!("{cut}{text}"));
        }
    }
}
