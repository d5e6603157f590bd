//! The longest that each property may be, in characters. They hold for what comes in by the API; the
//! OpenAPI document and docs/api.md name them.

/// Names of resources.
pub(crate) const NAME: usize = 255;
/// RFC 5321 section 4.5.3.1.3.
pub(crate) const EMAIL: usize = 254;
/// Addresses of ACME directories.
pub(crate) const SERVER: usize = 2_048;
/// DNS names in the form in which they are sent; RFC 1035 section 2.3.4 for the A-label form.
pub(crate) const DNS_NAME: usize = 253;
/// Ids and key algorithms, whatever their form.
pub(crate) const WORD: usize = 64;
/// Key identifiers and keys of external accounts.
pub(crate) const EXTERNAL_ACCOUNT: usize = 1_024;
/// A certificate with a hundred names and an RSA key of 4096 bits has about 8 KiB.
pub(crate) const CERTIFICATE: usize = 32 * 1024;
/// A chain.
pub(crate) const CHAIN: usize = 64 * 1024;
/// How many certificates a chain may have.
pub(crate) const CHAIN_CERTIFICATES: usize = 16;
/// A private key of RSA with 16,384 bits has about 13 KB.
pub(crate) const PRIVATE_KEY: usize = 16 * 1024;
/// The common name of an uploaded certificate; X.520 has 64.
pub(crate) const COMMON_NAME: usize = 255;
