//! Reads the queries of lists: the page, the filters, and the links to the pages beside it. Parameters that a list does
//! not know are ignored.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use url::form_urlencoded;
use utoipa::IntoParams;

use crate::domain::id::AutoCertificateId;
use crate::http::errors::{ApiError, Fault};
use crate::store::{self, Page};

/// The query of a list.
pub(crate) struct ListQuery<F> {
    /// Which part of the list.
    pub(crate) paging: Paging,
    /// Which elements.
    pub(crate) filter: F,
    /// The filters as they were sent, for the links.
    sent: Vec<(String, String)>,
}

/// Which part of a list is asked for.
#[derive(Clone, Copy, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// The first element of the whole list to include. Use together with `limit`.
    #[param(value_type = Option<i32>, minimum = 0, default = 0)]
    pub(crate) offset: u32,
    /// The most elements to return. Use together with `offset`.
    #[param(value_type = Option<i32>, minimum = 1, maximum = 1000, default = 100)]
    pub(crate) limit: u32,
}

/// Which elements of a list are asked for.
pub(crate) trait Filter: Sized {
    /// Reads the filter; notes what cannot be read.
    fn read(parameters: &Parameters, faults: &mut Vec<Fault>) -> Self;
}

/// A list that has no filter.
pub(crate) struct NoFilter;

/// The filter of auto-certificates.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AutoCertificateFilter {
    /// Only those of this common name: exact, in any case, in U-label or A-label form.
    #[param(rename = "filter.commonName", example = "www.example.com")]
    pub(crate) common_name: Option<String>,
}

/// The filter of certificates.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CertificateFilter {
    /// Only those of this common name: exact, in any case, in U-label or A-label form.
    #[param(rename = "filter.commonName", example = "www.example.com")]
    pub(crate) common_name: Option<String>,
    /// Only those that were issued for this auto-certificate.
    #[param(rename = "filter.autoCertificate", value_type = Option<String>, format = "uuid")]
    pub(crate) auto_certificate: Option<AutoCertificateId>,
}

impl Filter for NoFilter {
    fn read(_: &Parameters, _: &mut Vec<Fault>) -> Self {
        Self
    }
}

impl Filter for AutoCertificateFilter {
    fn read(parameters: &Parameters, faults: &mut Vec<Fault>) -> Self {
        Self { common_name: parameters.common_name(faults) }
    }
}

impl Filter for CertificateFilter {
    fn read(parameters: &Parameters, faults: &mut Vec<Fault>) -> Self {
        let auto_certificate = parameters.get(AUTO_CERTIFICATE).and_then(|text| {
            text.parse().map_err(|error| faults.push(Fault(format!("{AUTO_CERTIFICATE}: {error}")))).ok()
        });
        Self { common_name: parameters.common_name(faults), auto_certificate }
    }
}

impl AutoCertificateFilter {
    /// The filter as the store knows it.
    pub(crate) fn narrowed(&self) -> store::AutoCertificateFilter {
        store::AutoCertificateFilter { common_name: self.common_name.clone() }
    }
}

impl CertificateFilter {
    /// The filter as the store knows it.
    pub(crate) fn narrowed(&self) -> store::CertificateFilter {
        store::CertificateFilter { common_name: self.common_name.clone(), auto_certificate: self.auto_certificate }
    }
}

impl<F> ListQuery<F> {
    /// The page as the store knows it.
    pub(crate) const fn page(&self) -> Page {
        Page { offset: self.paging.offset, limit: self.paging.limit }
    }

    /// The same query of `href` from another offset on.
    pub(crate) fn link(&self, href: &str, offset: u32) -> String {
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(&self.sent)
            .append_pair(OFFSET, &offset.to_string())
            .append_pair(LIMIT, &self.paging.limit.to_string())
            .finish();
        format!("{href}?{query}")
    }
}

impl<S: Send + Sync, F: Filter> FromRequestParts<S> for ListQuery<F> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let parameters = Parameters::of(parts);
        let mut faults = Vec::new();
        let paging = Paging {
            offset: parameters.number(OFFSET, 0, 0..=MAX_OFFSET, &mut faults),
            limit: parameters.number(LIMIT, DEFAULT_LIMIT, 1..=MAX_LIMIT, &mut faults),
        };
        let filter = F::read(&parameters, &mut faults);
        let sent = parameters.0.into_iter().filter(|(name, _)| [COMMON_NAME, AUTO_CERTIFICATE].contains(&&**name));
        if faults.is_empty() { Ok(Self { paging, filter, sent: sent.collect() }) } else { Err(ApiError::Query(faults)) }
    }
}

/// The parameters of a query, decoded. Of a repeated one the first counts.
pub(crate) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(crate) fn of(parts: &Parts) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// Every value of a parameter.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    fn common_name(&self, faults: &mut Vec<Fault>) -> Option<String> {
        let text = self.get(COMMON_NAME)?;
        // PostgreSQL cannot compare with it, and no name has it.
        if text.contains('\0') {
            faults.push(Fault(format!("{COMMON_NAME}: holds a NUL character")));
        }
        Some(text.to_owned())
    }

    fn number(&self, name: &str, default: u32, range: std::ops::RangeInclusive<u32>, faults: &mut Vec<Fault>) -> u32 {
        let Some(text) = self.get(name) else { return default };
        text.parse().ok().filter(|number| range.contains(number)).unwrap_or_else(|| {
            faults.push(Fault(format!("{name}: must be a whole number from {} to {}", range.start(), range.end())));
            default
        })
    }
}

const OFFSET: &str = "offset";
const LIMIT: &str = "limit";
const COMMON_NAME: &str = "filter.commonName";
const AUTO_CERTIFICATE: &str = "filter.autoCertificate";
const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;
/// The contract's integers have 32 bits and a sign.
const MAX_OFFSET: u32 = i32::MAX as u32;
