//! Secrets: nobody may read or change them but their owner and its group.

use crate::config::exposure::Exposure;
use crate::domain::renewal::check_result::{Check, CheckResult, CheckSubject};

/// What there is to say of what is open to others.
pub fn check_secrets(exposures: Vec<Exposure>) -> Vec<CheckResult> {
    if exposures.is_empty() {
        return vec![CheckResult::ok(&CheckSubject::SetUp, Check::Secrets, "others cannot read them")];
    }
    let finding = |Exposure { fault, remedy, is_severe: grave, .. }| {
        let finding = if grave { CheckResult::fault } else { CheckResult::warning };
        finding(&CheckSubject::SetUp, Check::Secrets, fault, remedy)
    };
    exposures.into_iter().map(finding).collect()
}
