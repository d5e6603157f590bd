//! What every part stands on: the clock, randomness, bearer tokens, credentials that end, drafts of files, file descriptors,
//! programs that are run, the wake, the lifecycle, the watchdog and the hardening of the process. It knows nothing of certificates but moments and when
//! credentials end, and imports no other room but `domain`.

pub(crate) mod atomic_file;
pub mod bearer;
pub mod clock;
pub mod credentials;
pub mod descriptors;
pub(crate) mod files;
pub mod hardening;
pub mod lifecycle;
pub mod network_fault;
pub(crate) mod processes;
pub(crate) mod program;
pub mod randomness;
pub mod wake;
pub mod watchdog;
