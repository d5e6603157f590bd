//! Reads the queries of lists: the page, the filters, and the links to the pages beside it. Parameters that a list does
//! not know are ignored, except for filters: clients delete what a list returns, so that none may be more than was asked for.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use url::form_urlencoded;
use utoipa::IntoParams;

use crate::domain::certificate::key_algorithm::KeyAlgorithm;
use crate::domain::report::state::ResourceState;
use crate::domain::value::id::{AutoCertificateId, ProviderId};
use crate::domain::value::name::DnsName;
use crate::domain::value::text::RemoteMessage;
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

/// Which elements of a list are asked for. Of several values, joined by commas or given one by one, any will do; all
/// filters must fit.
pub(crate) trait Filter: Sized {
    /// The parameters that it knows.
    const KNOWN: &'static [&'static str];

    /// Reads the filter; notes what cannot be read.
    fn read(parameters: &QueryParameters, faults: &mut Vec<Fault>) -> Self;
}

/// The filter of providers.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ProviderFilter {
    /// Only those of this name: exact.
    #[param(rename = "filter.name", value_type = Option<String>, max_length = 1024)]
    name: Vec<String>,
    /// Only those in this state; several are joined by commas.
    #[param(rename = "filter.state", value_type = Option<String>, max_length = 1024, example = "FAILED")]
    state: Vec<ResourceState>,
}

/// The filter of auto-certificates.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AutoCertificateFilter {
    /// Only those of this common name: exact, in any case, in U-label or A-label form; several are joined by commas.
    #[param(rename = "filter.commonName", value_type = Option<String>, max_length = 1024, example = "www.example.com")]
    common_name: Vec<String>,
    /// Only those of this name: exact.
    #[param(rename = "filter.name", value_type = Option<String>, max_length = 1024)]
    name: Vec<String>,
    /// Only those of this provider; several are joined by commas.
    #[param(rename = "filter.provider", value_type = Option<String>, max_length = 1024, format = "uuid")]
    provider: Vec<ProviderId>,
    /// Only those with this kind of key; several are joined by commas.
    #[param(rename = "filter.keyAlgorithm", value_type = Option<String>, max_length = 1024, example = "secp256r1")]
    key_algorithm: Vec<KeyAlgorithm>,
    /// Only those in this state; several are joined by commas.
    #[param(rename = "filter.state", value_type = Option<String>, max_length = 1024, example = "FAILED")]
    state: Vec<ResourceState>,
}

/// The filter of certificates.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CertificateFilter {
    /// Only those of this common name: exact, in any case, in U-label or A-label form; several are joined by commas.
    #[param(rename = "filter.commonName", value_type = Option<String>, max_length = 1024, example = "www.example.com")]
    common_name: Vec<String>,
    /// Only those of this name: exact.
    #[param(rename = "filter.name", value_type = Option<String>, max_length = 1024)]
    name: Vec<String>,
    /// Only those that were issued for this auto-certificate; several are joined by commas.
    #[param(rename = "filter.autoCertificate", value_type = Option<String>, max_length = 1024, format = "uuid")]
    auto_certificate: Vec<AutoCertificateId>,
    /// Only those in this state, which is always `AVAILABLE`.
    #[param(rename = "filter.state", value_type = Option<String>, max_length = 1024, example = "AVAILABLE")]
    state: Vec<ResourceState>,
}

impl Filter for ProviderFilter {
    const KNOWN: &'static [&'static str] = &[NAME, STATE];

    fn read(parameters: &QueryParameters, faults: &mut Vec<Fault>) -> Self {
        Self { name: parameters.parse_texts(NAME, faults), state: parameters.parse_states(faults) }
    }
}

impl Filter for AutoCertificateFilter {
    const KNOWN: &'static [&'static str] = &[COMMON_NAME, NAME, PROVIDER, KEY_ALGORITHM, STATE];

    fn read(parameters: &QueryParameters, faults: &mut Vec<Fault>) -> Self {
        let algorithm = |text: &str| {
            let known = KeyAlgorithm::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(text));
            known.ok_or_else(|| describe_choices(&KeyAlgorithm::ALL.map(KeyAlgorithm::as_str)))
        };
        Self {
            common_name: parameters.parse_common_names(faults),
            name: parameters.parse_texts(NAME, faults),
            provider: parameters.parse_list(PROVIDER, faults, |text| text.parse().map_err(|_| NO_UUID.to_owned())),
            key_algorithm: parameters.parse_list(KEY_ALGORITHM, faults, algorithm),
            state: parameters.parse_states(faults),
        }
    }
}

impl Filter for CertificateFilter {
    const KNOWN: &'static [&'static str] = &[COMMON_NAME, NAME, AUTO_CERTIFICATE, STATE];

    fn read(parameters: &QueryParameters, faults: &mut Vec<Fault>) -> Self {
        let id = |text: &str| text.parse().map_err(|_| NO_UUID.to_owned());
        Self {
            common_name: parameters.parse_common_names(faults),
            name: parameters.parse_texts(NAME, faults),
            auto_certificate: parameters.parse_list(AUTO_CERTIFICATE, faults, id),
            state: parameters.parse_states(faults),
        }
    }
}

impl ProviderFilter {
    /// The filter as the store knows it.
    pub(crate) fn to_store_filter(&self) -> store::ProviderFilter {
        store::ProviderFilter { names: self.name.clone(), states: self.state.clone() }
    }
}

impl AutoCertificateFilter {
    /// The filter as the store knows it.
    pub(crate) fn to_store_filter(&self) -> store::AutoCertificateFilter {
        store::AutoCertificateFilter {
            common_names: self.common_name.clone(),
            names: self.name.clone(),
            providers: self.provider.clone(),
            key_algorithms: self.key_algorithm.clone(),
            states: self.state.clone(),
        }
    }
}

impl CertificateFilter {
    /// The filter as the store knows it.
    pub(crate) fn to_store_filter(&self) -> store::CertificateFilter {
        store::CertificateFilter {
            common_names: self.common_name.clone(),
            names: self.name.clone(),
            auto_certificates: self.auto_certificate.clone(),
            states: self.state.clone(),
        }
    }
}

impl<F> ListQuery<F> {
    /// The page as the store knows it.
    pub(crate) const fn page(&self) -> Page {
        Page { offset: self.paging.offset, limit: self.paging.limit }
    }

    /// Whether all elements are asked for.
    pub(crate) const fn is_unfiltered(&self) -> bool {
        self.sent.is_empty()
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
        let length = parts.uri.query().map_or(0, str::len);
        if length > LONGEST_QUERY {
            let fault = format!("the query has {length} bytes, more than the {LONGEST_QUERY} allowed");
            return Err(ApiError::InvalidQuery(vec![Fault(fault)]));
        }
        let parameters = QueryParameters::from_parts(parts);
        let mut faults = Vec::new();
        let paging = Paging {
            offset: parameters.parse_number(OFFSET, 0, 0..=MAX_OFFSET, &mut faults),
            limit: parameters.parse_number(LIMIT, DEFAULT_LIMIT, 1..=MAX_LIMIT, &mut faults),
        };
        let filter = F::read(&parameters, &mut faults);
        for (name, _) in parameters.0.iter().filter(|(name, _)| is_filter(name) && !F::KNOWN.contains(&&**name)) {
            let name = RemoteMessage::new(name);
            faults.push(Fault(format!("{name}: there is no such filter; this list has {}", F::KNOWN.join(", "))));
        }
        let sent = parameters.0.into_iter().filter(|(name, _)| is_filter(name));
        if faults.is_empty() {
            Ok(Self { paging, filter, sent: sent.collect() })
        } else {
            Err(ApiError::InvalidQuery(faults))
        }
    }
}

/// The parameters of a query, decoded. Of a repeated offset or limit the first counts.
pub(crate) struct QueryParameters(Vec<(String, String)>);

impl QueryParameters {
    pub(crate) fn from_parts(parts: &Parts) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// Every value of a parameter.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    fn first_value(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The values of a filter of texts that may hold commas.
    fn parse_texts(&self, name: &str, faults: &mut Vec<Fault>) -> Vec<String> {
        let values: Vec<String> = self.all(name).map(ToOwned::to_owned).collect();
        check_values(name, values.len(), values.iter().map(String::as_str), faults);
        values
    }

    /// The values of a filter, each of which `read` understands.
    fn parse_list<T>(&self, name: &str, faults: &mut Vec<Fault>, read: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let parts: Vec<&str> = self.all(name).flat_map(|value| value.split(',')).map(str::trim).collect();
        if !check_values(name, parts.len(), self.all(name), faults) {
            return Vec::new();
        }
        let mut values = Vec::new();
        for part in parts {
            match read(part) {
                Ok(value) => values.push(value),
                Err(fault) => faults.push(Fault(format!("{name}: {fault}"))),
            }
        }
        values
    }

    fn parse_states(&self, faults: &mut Vec<Fault>) -> Vec<ResourceState> {
        self.parse_list(STATE, faults, |text| {
            let known = ResourceState::ALL.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(text));
            known.ok_or_else(|| describe_choices(&ResourceState::ALL.map(ResourceState::as_str)))
        })
    }

    /// A name of the DNS has no comma, but the common name of an upload may.
    fn parse_common_names(&self, faults: &mut Vec<Fault>) -> Vec<String> {
        let mut names = Vec::new();
        for value in self.all(COMMON_NAME) {
            let parts: Vec<&str> = value.split(',').map(str::trim).collect();
            if parts.len() > 1 && parts.len() <= MOST_VALUES && parts.iter().all(|part| part.parse::<DnsName>().is_ok())
            {
                names.extend(parts.into_iter().map(ToOwned::to_owned));
            } else {
                names.push(value.to_owned());
            }
        }
        check_values(COMMON_NAME, names.len(), self.all(COMMON_NAME), faults);
        names
    }

    fn parse_number(
        &self,
        name: &str,
        default: u32,
        range: std::ops::RangeInclusive<u32>,
        faults: &mut Vec<Fault>,
    ) -> u32 {
        let Some(text) = self.first_value(name) else { return default };
        text.parse().ok().filter(|number| range.contains(number)).unwrap_or_else(|| {
            faults.push(Fault(format!("{name}: must be a whole number from {} to {}", range.start(), range.end())));
            default
        })
    }
}

/// Notes where there are too many values, or one that no element can have; then they are of no use.
fn check_values<'a>(name: &str, count: usize, values: impl Iterator<Item = &'a str>, faults: &mut Vec<Fault>) -> bool {
    let before = faults.len();
    if count > MOST_VALUES {
        faults.push(Fault(format!("{name}: has {count} values, more than the {MOST_VALUES} allowed")));
    }
    for value in values.take(MOST_VALUES) {
        if value.len() > LONGEST_VALUE {
            let length = value.len();
            faults.push(Fault(format!("{name}: has {length} bytes, more than the {LONGEST_VALUE} allowed")));
        }
        // PostgreSQL cannot compare with it, and no name has it.
        if value.contains('\0') {
            faults.push(Fault(format!("{name}: holds a NUL character")));
        }
    }
    faults.len() == before
}

fn describe_choices(words: &[&str]) -> String {
    format!("must be one of {}", words.join(", "))
}

fn is_filter(name: &str) -> bool {
    name.starts_with("filter.")
}

const OFFSET: &str = "offset";
const LIMIT: &str = "limit";
const COMMON_NAME: &str = "filter.commonName";
const NAME: &str = "filter.name";
const PROVIDER: &str = "filter.provider";
const KEY_ALGORITHM: &str = "filter.keyAlgorithm";
const STATE: &str = "filter.state";
const AUTO_CERTIFICATE: &str = "filter.autoCertificate";
const NO_UUID: &str = "not a UUID";
const DEFAULT_LIMIT: u32 = 100;
const MAX_LIMIT: u32 = 1000;
/// The contract's integers have 32 bits and a sign.
const MAX_OFFSET: u32 = i32::MAX as u32;
/// In bytes.
const LONGEST_QUERY: usize = 16 * 1024;
/// In bytes: more than the name of any resource.
const LONGEST_VALUE: usize = 1024;
const MOST_VALUES: usize = 20;
