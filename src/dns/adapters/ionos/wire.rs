//! Bodies of the Cloud DNS API, read leniently: what a newer or older server leaves out or adds does no harm.

use serde::Deserialize;
use serde_json::{Value, json};

/// One page of a list.
#[derive(Deserialize)]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    /// The limit that the server applied, which may be lower than the one asked for.
    pub(super) limit: Option<usize>,
}

/// Something that lists hold.
#[derive(Deserialize)]
pub(super) struct Resource<P, M> {
    pub(super) id: String,
    pub(super) properties: P,
    pub(super) metadata: Option<M>,
}

pub(super) type ZoneResource = Resource<ZoneProperties, ZoneMetadata>;
pub(super) type RecordResource = Resource<RecordProperties, RecordMetadata>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ZoneProperties {
    pub(super) zone_name: String,
    pub(super) enabled: Option<bool>,
}

#[derive(Deserialize)]
pub(super) struct ZoneMetadata {
    pub(super) state: Option<String>,
    pub(super) nameservers: Option<Vec<String>>,
}

#[derive(Deserialize)]
pub(super) struct RecordProperties {
    /// Relative to the zone, empty at its apex.
    pub(super) name: Option<String>,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) content: Option<String>,
    pub(super) enabled: Option<bool>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RecordMetadata {
    pub(super) state: Option<String>,
    pub(super) zone_id: Option<String>,
}

impl RecordResource {
    pub(super) fn state(&self) -> Option<&str> {
        self.metadata.as_ref()?.state.as_deref()
    }

    /// Whether this is exactly the TXT record of that zone, name and content; the filters of lists match parts.
    pub(super) fn matches(&self, zone: &str, relative_name: &str, content: &str) -> bool {
        let zone_id = self.metadata.as_ref().and_then(|metadata| metadata.zone_id.as_deref());
        zone_id.is_none_or(|id| id == zone)
            && self.properties.kind.eq_ignore_ascii_case(TXT)
            && self.properties.name.as_deref().unwrap_or_default().eq_ignore_ascii_case(relative_name)
            && unquote(self.properties.content.as_deref().unwrap_or_default()) == unquote(content)
    }
}

/// The body that creates a TXT record.
pub(super) fn txt_body(relative_name: &str, content: &str) -> Value {
    json!({"properties": {"name": relative_name, "type": TXT, "content": content, "ttl": TTL, "enabled": true}})
}

/// TXT content in its raw form, whether it was written raw or as the quoted strings of a zone file.
fn unquote(content: &str) -> String {
    let content = content.trim();
    content
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .map_or_else(|| content.to_owned(), |inner| inner.replace("\" \"", "").replace("\\\"", "\""))
}

pub(super) const TXT: &str = "TXT";
/// The shortest that the API takes, in seconds.
const TTL: u32 = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_make_no_difference() {
        for content in ["abc-def", "\"abc-def\"", " \"abc\" \"-def\" "] {
            assert_eq!(unquote(content), "abc-def");
        }
        assert_eq!(unquote("\"say \\\"hi\\\"\""), "say \"hi\"");
        assert_eq!(unquote("\""), "\"");
    }

    #[test]
    fn a_record_matches_exactly_or_not_at_all() {
        let record: RecordResource = serde_json::from_value(json!({
            "id": "r", "properties": {"name": "_Acme-Challenge.www", "type": "TXT", "content": "\"v\""},
            "metadata": {"zoneId": "z", "state": "AVAILABLE"}
        }))
        .unwrap();
        assert!(record.matches("z", "_acme-challenge.www", "v"));
        assert!(!record.matches("y", "_acme-challenge.www", "v"));
        assert!(!record.matches("z", "_acme-challenge", "v"));
        assert!(!record.matches("z", "_acme-challenge.www", "V"));
    }
}
