//! The `[experimental]` section: what may still change or go, because what it speaks is a draft.

use serde::{Deserialize, Serialize};

use crate::domain::renewal::dns_persist::DnsPersist;

/// Everything under `[experimental]`; all of it is off by default.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExperimentalSection {
    /// Whether names are proven by dns-persist-01 where the CA offers it: `off`, `by-hand` or `publish`. Default `off`.
    pub dns_persist_01: DnsPersist,
}
