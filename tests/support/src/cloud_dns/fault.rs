//! Faults that the API can be told to have.

use std::time::Duration;

/// What goes wrong with a request.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Not carried out, 429, with this `Retry-After` where there is one.
    TooManyRequests(Option<String>),
    /// Not carried out, this status with an error body.
    Status(u16),
    /// Not carried out, the connection is cut without an answer.
    Cut,
    /// Carried out, and the connection cut without an answer.
    CutAfter,
    /// Carried out, and answered with the right status but an empty body.
    WithoutBody,
    /// Carried out, and answered with the right status but a body that is no JSON.
    NotJson,
    /// Carried out, and answered with 409, as where a twin was faster.
    ConflictAfter,
    /// The record that the request creates stays PROVISIONING.
    StayProvisioning,
    /// The record that the request creates turns FAILED.
    TurnFailed,
    /// The record that the request creates is on its way out at once.
    Destroying,
    /// Carried out after so much time.
    Slow(Duration),
}

/// A fault that waits for its requests.
#[derive(Clone, Debug)]
pub(super) struct InjectedFault {
    pub(super) times: usize,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) fault: Fault,
}

/// Takes the fault of a request, if one waits for it.
pub(super) fn take(armed: &mut Vec<InjectedFault>, method: &str, path: &str) -> Option<Fault> {
    let waiting = armed.iter_mut().find(|armed| armed.method == method && path.starts_with(&armed.path))?;
    waiting.times -= 1;
    let fault = waiting.fault.clone();
    armed.retain(|armed| armed.times > 0);
    Some(fault)
}
