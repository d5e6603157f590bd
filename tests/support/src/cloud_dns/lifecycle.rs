//! The life of a record: promised, then published, or stuck.

use std::time::{Duration, Instant};

/// How new records become available.
#[derive(Clone, Copy, Debug)]
pub enum Provisioning {
    /// PROVISIONING in so many reads of the record itself, AVAILABLE from the next on.
    Reads(u32),
    /// AVAILABLE after so much time.
    After(Duration),
}

/// Where a record is in its life.
#[derive(Clone, Copy, Debug)]
pub(super) enum RecordLifecycle {
    AfterReads(u32),
    At(Instant),
    Available(Instant),
    Stuck,
    Failed,
    Destroying,
}

impl RecordLifecycle {
    pub(super) fn start(how: Provisioning) -> Self {
        match how {
            Provisioning::Reads(0) => Self::Available(Instant::now()),
            Provisioning::Reads(reads) => Self::AfterReads(reads),
            Provisioning::After(span) => Self::At(Instant::now() + span),
        }
    }

    pub(super) fn state(self) -> &'static str {
        match self {
            Self::AfterReads(_) | Self::Stuck => "PROVISIONING",
            Self::At(moment) if Instant::now() < moment => "PROVISIONING",
            Self::At(_) | Self::Available(_) => "AVAILABLE",
            Self::Failed => "FAILED",
            Self::Destroying => "DESTROYING",
        }
    }

    /// After a read of the record itself.
    pub(super) fn after_read(self) -> Self {
        match self {
            Self::AfterReads(0 | 1) => Self::Available(Instant::now()),
            Self::AfterReads(reads) => Self::AfterReads(reads - 1),
            other => other,
        }
    }

    /// Whether a name server that is `lag` behind shows the record.
    pub(super) fn is_shown(self, lag: Duration) -> bool {
        match self {
            Self::At(since) | Self::Available(since) => {
                Instant::now().checked_duration_since(since).is_some_and(|age| age >= lag)
            }
            Self::AfterReads(_) | Self::Stuck | Self::Failed | Self::Destroying => false,
        }
    }
}
