//! The clock, against those of the CAs. One that is off by minutes makes renewals come at the wrong time, and fresh
//! certificates look as if they were not valid yet.

use time::Duration;

use crate::doctor::provider::ProviderReport;
use crate::domain::renewal::check_result::{Check, CheckResult, CheckSubject};
use crate::domain::value::human_duration::HumanDuration;

/// Nothing where no CA was asked. Where they disagree, the one counts that is nearest to us.
pub(super) fn check_clock(seen: &[ProviderReport]) -> Option<CheckResult> {
    let about = CheckSubject::SetUp;
    let told = seen.iter().filter_map(|seen| Some((seen.clock_ahead?, &seen.server)));
    let Some((ahead, server)) = told.min_by_key(|(ahead, _)| ahead.abs()) else {
        let silent = || CheckResult::skipped(&about, Check::Clock, "no CA has told its own time");
        return (!seen.is_empty()).then(silent);
    };
    let direction = if ahead.is_negative() { "behind" } else { "ahead of" };
    let detail = format!("it is {} {direction} that of {server}", HumanDuration(ahead.abs()));
    let remedy = "set the clock, and keep it by NTP: `timedatectl set-ntp true`";
    Some(match ahead.abs() {
        off if off >= FAULT_OFFSET => CheckResult::fault(&about, Check::Clock, detail, remedy),
        off if off >= WARNING_OFFSET => CheckResult::warning(&about, Check::Clock, detail, remedy),
        _ => CheckResult::ok(&about, Check::Clock, format!("it agrees with that of {server}")),
    })
}

const WARNING_OFFSET: Duration = Duration::minutes(1);
const FAULT_OFFSET: Duration = Duration::minutes(5);
