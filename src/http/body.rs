//! Reads request bodies: JSON of up to 1 MiB into types whose every field may be missing or ill-typed, so that one
//! response can name all faults. What a field must be is decided where the resource is read, not here.

use std::error::Error;
use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::str::FromStr;

use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use bytes::Bytes;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::domain::value::resource::reject_nul;
use crate::domain::value::text::RemoteMessage;
use crate::http::errors::{ApiError, Fault};
use crate::http::listener::BodyTimedOut;

/// The longest body that is read, in bytes.
pub(crate) const MAX_BODY: usize = 1024 * 1024;

/// A body that is JSON of the right kind.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: FieldValue> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        if let Some(encoding) = content_encoding(&request) {
            return Err(ApiError::UnsupportedEncoding(encoding));
        }
        if !is_json(&request) {
            return Err(ApiError::UnsupportedMediaType);
        }
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| body_error(&rejection))?;
        // RFC 8259 section 8.1 lets a reader pass over a byte order mark.
        let text = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
        let wrong = |more: String| ApiError::Body(vec![Fault(format!("the body must be {}{more}", T::KIND))]);
        match serde_json::from_slice(text) {
            Ok(Field::Given(body)) => Ok(Self(body)),
            Ok(Field::Absent | Field::IllTyped) => Err(wrong(String::new())),
            // It is JSON, but a member is there twice, for example.
            Err(error) if error.is_data() => Err(wrong(format!("; {}", RemoteMessage::new(&error.to_string())))),
            Err(error) => Err(ApiError::BrokenJson(error)),
        }
    }
}

/// A member of a request as it came. A JSON `null` counts as absent.
#[derive(Default)]
pub(crate) enum Field<T> {
    /// It was not sent.
    #[default]
    Absent,
    /// It was sent, but as something else.
    IllTyped,
    /// It was sent.
    Given(T),
}

impl<'de, T: FieldValue> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FieldVisitor(PhantomData))
    }
}

/// Reads a member without a copy of what is of another kind: such a copy can need a hundred times the body's memory.
struct FieldVisitor<T>(PhantomData<T>);

impl<'de, T: FieldValue> Visitor<'de> for FieldVisitor<T> {
    type Value = Field<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::KIND)
    }

    fn visit_unit<E>(self) -> Result<Field<T>, E> {
        Ok(Field::Absent)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Field<T>, E> {
        Ok(Field::IllTyped)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Field<T>, E> {
        Ok(Field::IllTyped)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Field<T>, E> {
        Ok(Field::IllTyped)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Field<T>, E> {
        Ok(Field::IllTyped)
    }

    fn visit_str<E>(self, text: &str) -> Result<Field<T>, E> {
        Ok(T::from_text(text).map_or(Field::IllTyped, Field::Given))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Field<T>, A::Error> {
        T::from_list(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Field<T>, A::Error> {
        T::from_object(object)
    }
}

/// What a [`Field`] may hold: an object, where nothing else is said.
pub(crate) trait FieldValue: DeserializeOwned {
    /// How faults call the kind of JSON value that it is read from.
    const KIND: &'static str = "an object";

    fn from_text(_: &str) -> Option<Self> {
        None
    }

    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Field<Self>, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::IllTyped)
    }

    fn from_object<'de, A: MapAccess<'de>>(object: A) -> Result<Field<Self>, A::Error> {
        Self::deserialize(MapAccessDeserializer::new(object)).map(Field::Given)
    }
}

impl FieldValue for String {
    const KIND: &'static str = "a string";

    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }

    fn from_object<'de, A: MapAccess<'de>>(object: A) -> Result<Field<Self>, A::Error> {
        skip_object(object)
    }
}

/// A list, of which no more is kept than can be right.
#[derive(Default)]
pub(crate) struct BoundedList<T> {
    pub(crate) first: Vec<Field<T>>,
    /// How many there are in all.
    pub(crate) count: usize,
}

impl<'de, T: FieldValue> Deserialize<'de> for BoundedList<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Field::deserialize(deserializer)? {
            Field::Given(items) => Ok(items),
            Field::Absent | Field::IllTyped => Err(serde::de::Error::custom("no list")),
        }
    }
}

impl<T: FieldValue> FieldValue for BoundedList<T> {
    const KIND: &'static str = "a list";

    fn from_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<Field<Self>, A::Error> {
        let mut items = Self { first: Vec::new(), count: 0 };
        while items.count < MAX_ITEMS
            && let Some(item) = list.next_element()?
        {
            items.first.push(item);
            items.count += 1;
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            items.count += 1;
        }
        Ok(Field::Given(items))
    }

    fn from_object<'de, A: MapAccess<'de>>(object: A) -> Result<Field<Self>, A::Error> {
        skip_object(object)
    }
}

fn skip_object<'de, T, A: MapAccess<'de>>(mut object: A) -> Result<Field<T>, A::Error> {
    while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(Field::IllTyped)
}

/// Collects the faults of a body. What is read from a faulty field is `None`.
#[derive(Default)]
pub(crate) struct InputFaults(Vec<Fault>);

impl InputFaults {
    /// Notes a fault of the property at `path`.
    pub(crate) fn add(&mut self, path: &str, fault: impl Display) {
        self.0.push(Fault(format!("{path}: {fault}")));
    }

    /// What was sent at `path`.
    pub(crate) fn required<T: FieldValue>(&mut self, path: &str, field: Field<T>) -> Option<T> {
        let given = self.optional(path, field)?;
        if given.is_none() {
            self.add(path, "is missing");
        }
        given
    }

    /// What was sent at `path`; `Some(None)` where nothing was.
    #[expect(clippy::option_option, reason = "a fault and an absence are two things")]
    pub(crate) fn optional<T: FieldValue>(&mut self, path: &str, field: Field<T>) -> Option<Option<T>> {
        match field {
            Field::Given(given) => Some(Some(given)),
            Field::Absent => Some(None),
            Field::IllTyped => {
                self.add(path, format_args!("must be {}", T::KIND));
                None
            }
        }
    }

    /// The text at `path`, of at most `longest` characters, parsed.
    pub(crate) fn parse<T: FromStr<Err: Display>>(
        &mut self,
        path: &str,
        field: Field<String>,
        longest: usize,
    ) -> Option<T> {
        self.read(path, field, longest, str::parse)
    }

    /// The text at `path`, of at most `longest` characters, as `read` understands it.
    pub(crate) fn read<T, E: Display>(
        &mut self,
        path: &str,
        field: Field<String>,
        longest: usize,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.required(path, field)?;
        let text = reject_nul(&text).map_err(|fault| self.add(path, fault)).ok()?;
        let length = text.chars().count();
        if length > longest {
            self.add(path, format_args!("has {length} characters, more than the {longest} allowed"));
            return None;
        }
        read(text).map_err(|fault| self.add(path, fault)).ok()
    }
}

impl From<InputFaults> for ApiError {
    fn from(InputFaults(faults): InputFaults) -> Self {
        Self::Body(faults)
    }
}

/// Whether the content type is JSON, with or without parameters (RFC 9110 section 8.3.1).
fn is_json(request: &Request) -> bool {
    let Some(content_type) = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

fn body_error(rejection: &BytesRejection) -> ApiError {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        return ApiError::BodyTooLarge;
    }
    let mut causes = std::iter::successors(Some(rejection as &(dyn Error + 'static)), |error| (*error).source());
    if causes.any(<dyn Error>::is::<BodyTimedOut>) { ApiError::BodyTimedOut } else { ApiError::TruncatedBody }
}

/// The codings of the body that would have to be undone first (RFC 9110 section 8.4); nothing where there are none.
fn content_encoding(request: &Request) -> Option<RemoteMessage> {
    let values = request.headers().get_all(CONTENT_ENCODING).iter();
    let values: Vec<String> = values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
    let codings = values.iter().flat_map(|value| value.split(',')).map(str::trim);
    let codings: Vec<&str> =
        codings.filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity")).collect();
    (!codings.is_empty()).then(|| RemoteMessage::new(&codings.join(", ")))
}

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// More than any list of a body may have.
const MAX_ITEMS: usize = 32;
