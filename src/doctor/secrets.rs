//! Secrets: nobody may read or change them but their owner and its group.

use crate::config::exposure::Exposure;
use crate::domain::finding::{Check, Finding, Subject};

/// What there is to say of what is open to others.
pub fn secrets(exposures: Vec<Exposure>) -> Vec<Finding> {
    if exposures.is_empty() {
        return vec![Finding::ok(&Subject::SetUp, Check::Secrets, "others cannot read them")];
    }
    let finding = |Exposure { fault, remedy, grave, .. }| {
        let finding = if grave { Finding::fault } else { Finding::warning };
        finding(&Subject::SetUp, Check::Secrets, fault, remedy)
    };
    exposures.into_iter().map(finding).collect()
}
