//! The look-up of CAA records, as a CA does it (RFC 8659 section 3): up from the name until some are found. What a
//! resolver makes of CNAMEs is followed. A look-up that fails is an error, for a CA would not issue then.

use crate::config::dns::PropagationSection;
use crate::dns::error::DnsError;
use crate::dns::lookup::DnsLookup;
use crate::domain::provider::caa::{CaaRecord, climb_tree};
use crate::domain::value::name::DnsName;

/// Through whom CAA records are looked up.
#[derive(Clone, Debug)]
pub struct CaaLookup {
    lookup: DnsLookup,
}

impl CaaLookup {
    /// A look-up through the resolvers of these settings.
    pub fn new(section: &PropagationSection) -> Self {
        Self { lookup: DnsLookup::new(section) }
    }

    /// The relevant records for a name; none where there are none up to the root.
    ///
    /// # Errors
    /// [`DnsError::NoCaa`] where a server fails or none answers.
    pub async fn find_relevant(&self, name: &DnsName) -> Result<Vec<CaaRecord>, DnsError> {
        for place in climb_tree(name) {
            let found = self.lookup.caa(place).await?;
            if !found.is_empty() {
                return Ok(found);
            }
        }
        Ok(Vec::new())
    }
}
