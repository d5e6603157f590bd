//! Whether CAA records let a CA issue: RFC 8659 with the account and the methods of RFC 8657. Pure: the records are
//! handed in. In doubt it forbids, as a CA must.

use crate::domain::value::name::DnsName;

/// One CAA record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaaRecord {
    /// Whether a CA that does not know the property must not issue.
    pub critical: bool,
    /// What the property is about.
    pub tag: String,
    /// What it says.
    pub value: String,
}

/// What is to be issued, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct CaaRequest<'a> {
    /// One of the names of the certificate.
    pub name: &'a DnsName,
    /// The names by which the CA knows itself in CAA records.
    pub identities: &'a [String],
    /// The URL of the account at the CA, once there is one.
    pub account: Option<&'a str>,
    /// How control of the name is proven, such as `dns-01`.
    pub method: &'a str,
}

/// Why CAA records forbid a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("CAA forbids a certificate for {name}: {why}")]
pub struct CaaDenial {
    /// The name.
    pub name: String,
    /// What the records say.
    pub why: CaaDenialReason,
}

/// What records say against a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaaDenialReason {
    /// A critical property that a CA need not know.
    #[error("its records hold the critical property {0:?}, which is not understood here")]
    UnknownCriticalTag(String),
    /// No CA at all may issue.
    #[error("its records let no CA issue")]
    NoCaAllowed,
    /// Only other CAs may issue.
    #[error("its records let only {} issue, and {}", .allowed.join(", "), own(.identities))]
    OtherCasOnly {
        /// Those that may.
        allowed: Vec<String>,
        /// The names of the CA that was to issue.
        identities: Vec<String>,
    },
    /// The CA may issue, but not to this account, or not by this method.
    #[error("its records let {issuer} issue, but not to this account or not by {method}")]
    Restricted {
        /// The CA as the records name it.
        issuer: String,
        /// The method.
        method: String,
    },
}

/// Where records are looked for, in this order; those of the first place that has any are the relevant ones
/// (RFC 8659 section 3). The root is not among them.
pub fn climb_tree(name: &DnsName) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name.base()), |place| place.split_once('.').map(|(_, parent)| parent))
}

/// Whether the relevant `records` permit what is asked for.
///
/// # Errors
/// Where they forbid it, and why.
pub fn check_issuance(records: &[CaaRecord], request: &CaaRequest<'_>) -> Result<(), CaaDenial> {
    evaluate(records, request).map_err(|why| CaaDenial { name: request.name.to_string(), why })
}

fn evaluate(records: &[CaaRecord], request: &CaaRequest<'_>) -> Result<(), CaaDenialReason> {
    let is_known = |record: &CaaRecord| KNOWN_TAGS.iter().any(|tag| record.has_tag(tag));
    if let Some(unknown) = records.iter().find(|record| record.critical && !is_known(record)) {
        return Err(CaaDenialReason::UnknownCriticalTag(unknown.tag.clone()));
    }
    // Section 4.3: for a wildcard `issuewild` takes the place of `issue`, where there is one.
    let wild = request.name.is_wildcard() && records.iter().any(|record| record.has_tag(ISSUE_WILD));
    let tag = if wild { ISSUE_WILD } else { ISSUE };
    let mut relevant = records.iter().filter(|record| record.has_tag(tag)).peekable();
    if relevant.peek().is_none() {
        return Ok(());
    }
    // Section 4.2: what cannot be read names nobody.
    let grants: Vec<Grant<'_>> = relevant.filter_map(|record| Grant::parse(&record.value)).collect();
    let own: Vec<&Grant<'_>> = grants.iter().filter(|grant| grant.names_one_of(request.identities)).collect();
    if own.iter().any(|grant| grant.permits(request)) {
        return Ok(());
    }
    if let Some(grant) = own.first() {
        return Err(CaaDenialReason::Restricted { issuer: grant.issuer.to_owned(), method: request.method.to_owned() });
    }
    let allowed: Vec<String> =
        grants.iter().map(|grant| grant.issuer.to_owned()).filter(|issuer| !issuer.is_empty()).collect();
    Err(if allowed.is_empty() {
        CaaDenialReason::NoCaAllowed
    } else {
        CaaDenialReason::OtherCasOnly { allowed, identities: request.identities.to_vec() }
    })
}

impl CaaRecord {
    /// Section 4.1: tags match in any case.
    fn has_tag(&self, tag: &str) -> bool {
        self.tag.eq_ignore_ascii_case(tag)
    }
}

/// The value of an `issue` or `issuewild` property, section 4.2.
struct Grant<'a> {
    /// Empty where it names nobody.
    issuer: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
}

impl<'a> Grant<'a> {
    fn parse(value: &'a str) -> Option<Self> {
        let (issuer, parameters) = value.split_once(';').unwrap_or((value, ""));
        let (issuer, parameters) = (trimmed(issuer), trimmed(parameters));
        let is_issuer = issuer.is_empty() || issuer.split('.').all(is_label);
        let parameters = match parameters {
            "" => Vec::new(),
            some => some.split(';').map(parse_parameter).collect::<Option<_>>()?,
        };
        is_issuer.then_some(Self { issuer, parameters })
    }

    fn names_one_of(&self, identities: &[String]) -> bool {
        !self.issuer.is_empty() && identities.iter().any(|identity| identity.eq_ignore_ascii_case(self.issuer))
    }

    /// RFC 8657: the account and the method, where the property asks for them.
    fn permits(&self, request: &CaaRequest<'_>) -> bool {
        let is_listed = |methods: &str| {
            methods.split(',').all(is_label) && methods.split(',').any(|method| method == request.method)
        };
        self.parameter_allows("accounturi", |account| request.account == Some(account))
            && self.parameter_allows("validationmethods", is_listed)
    }

    /// Whether a parameter is satisfied or absent; one that is there twice never is.
    fn parameter_allows(&self, tag: &str, is_satisfied: impl Fn(&str) -> bool) -> bool {
        let mut values =
            self.parameters.iter().filter(|(own, _)| own.eq_ignore_ascii_case(tag)).map(|(_, value)| *value);
        match (values.next(), values.next()) {
            (None, _) => true,
            (Some(value), None) => is_satisfied(value),
            (Some(_), Some(_)) => false,
        }
    }
}

fn parse_parameter(text: &str) -> Option<(&str, &str)> {
    let (tag, value) = text.split_once('=')?;
    let (tag, value) = (trimmed(tag), trimmed(value));
    (is_label(tag) && value.bytes().all(|byte| byte.is_ascii_graphic())).then_some((tag, value))
}

fn trimmed(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

fn is_label(text: &str) -> bool {
    let clean = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    clean && !text.is_empty() && !text.starts_with('-') && !text.ends_with('-')
}

fn own(identities: &[String]) -> String {
    if identities.is_empty() {
        "the CA's directory names no identity of its own".to_owned()
    } else {
        format!("not {}", identities.join(", "))
    }
}

const ISSUE: &str = "issue";
const ISSUE_WILD: &str = "issuewild";
/// What every CA must know (RFC 8659 sections 4.2 to 4.4).
const KNOWN_TAGS: [&str; 3] = [ISSUE, ISSUE_WILD, "iodef"];

#[cfg(test)]
mod tests;
