//! What one connection is doing, as its parts report it, and whether it has taken too long.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::http::listener::ConnectionLimits;

/// What one connection is doing. It is an extension of each of its requests.
#[derive(Debug)]
pub(crate) struct ConnectionActivity {
    state: Mutex<ActivityState>,
    /// Cancelled when the connection is to be closed at once.
    pub(super) evicted: CancellationToken,
}

/// What is to become of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionVerdict {
    Keep,
    /// No further requests are taken; nothing is running.
    Finish(&'static str),
    Close(&'static str),
}

/// Which connection makes room for another one: the first of these, and no needed one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum EvictionRank {
    IdleUnauthenticated,
    /// It will soon be one of the others, which is waited for.
    New,
    BusyUnauthenticated,
    IdleAuthenticated,
    /// It waits for its client to read.
    Stalled,
    Needed,
}

#[derive(Debug)]
struct ActivityState {
    is_authenticated: bool,
    is_http2: bool,
    /// Whether all was read that the client has sent by then. In a flood many are accepted before one of them is heard.
    is_input_drained: bool,
    /// Requests that have begun, in all.
    request_count: u64,
    /// Of these, those that the client gave up before their end.
    abandoned: u64,
    running: HashMap<u64, ResponsePace>,
    /// Since when nothing is running.
    idle_since: Instant,
    /// When the first byte came that belongs to no running request.
    head_since: Option<Instant>,
    /// How many such bytes came.
    idle_bytes: usize,
    write_blocked_since: Option<Instant>,
    /// Of responses that are complete, but may not have been sent.
    unsent_permits: Vec<OwnedSemaphorePermit>,
}

/// How fast a client reads a response.
#[derive(Debug, Default)]
struct ResponsePace {
    /// Since when the response waits for the client, rather than the client for the response.
    waiting_since: Option<Instant>,
    /// How long it has waited before that, in all.
    waited: Duration,
    /// How much was handed over.
    bytes: u64,
}

impl ConnectionActivity {
    pub(super) fn new(now: Instant) -> Self {
        let state = ActivityState {
            is_authenticated: false,
            is_http2: false,
            is_input_drained: false,
            request_count: 0,
            abandoned: 0,
            running: HashMap::new(),
            idle_since: now,
            head_since: None,
            idle_bytes: 0,
            write_blocked_since: None,
            unsent_permits: Vec::new(),
        };
        Self { state: Mutex::new(state), evicted: CancellationToken::new() }
    }

    /// Somebody with a right to be here is at the other end.
    pub(crate) fn mark_authenticated(&self) {
        self.state().is_authenticated = true;
    }

    /// A request has begun; gives its number on this connection.
    pub(super) fn begin_request(&self, is_http2: bool) -> u64 {
        let mut state = self.state();
        state.is_http2 = is_http2;
        state.request_count += 1;
        state.head_since = None;
        state.idle_bytes = 0;
        let number = state.request_count;
        state.running.insert(number, ResponsePace::default());
        number
    }

    /// The response to a request is handed over, or will never be.
    pub(super) fn end_request(&self, number: u64, is_complete: bool, slot: Option<OwnedSemaphorePermit>, now: Instant) {
        let mut state = self.state();
        state.running.remove(&number);
        state.abandoned += u64::from(!is_complete);
        if state.running.is_empty() {
            state.idle_since = now;
        }
        if state.write_blocked_since.is_some() {
            state.unsent_permits.extend(slot);
        }
    }

    /// The client has room for more of a response.
    pub(super) fn note_client_ready(&self, number: u64, now: Instant) {
        if let Some(pace) = self.state().running.get_mut(&number)
            && let Some(since) = pace.waiting_since.take()
        {
            pace.waited += now.saturating_duration_since(since);
        }
    }

    /// A part of a response is handed over, and waits for the client.
    pub(super) fn note_part_sent(&self, number: u64, bytes: usize, now: Instant) {
        if let Some(pace) = self.state().running.get_mut(&number) {
            pace.bytes = pace.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
            pace.waiting_since = Some(now);
        }
    }

    pub(super) fn note_read(&self, bytes: usize, now: Instant) {
        let mut state = self.state();
        if bytes > 0 && state.running.is_empty() {
            state.head_since.get_or_insert(now);
            state.idle_bytes = state.idle_bytes.saturating_add(bytes);
        }
    }

    /// The client has sent nothing more by now.
    pub(super) fn note_silence(&self) {
        self.state().is_input_drained = true;
    }

    pub(super) fn note_write(&self, is_blocked: bool, now: Instant) {
        let mut state = self.state();
        if is_blocked {
            state.write_blocked_since.get_or_insert(now);
        } else {
            state.write_blocked_since = None;
            state.unsent_permits.clear();
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.state().running.is_empty()
    }

    pub(super) fn is_authenticated(&self) -> bool {
        self.state().is_authenticated
    }

    pub(super) fn check_limits(&self, limits: &ConnectionLimits, now: Instant) -> ConnectionVerdict {
        self.state().check_limits(limits, now)
    }

    pub(super) fn eviction_rank(&self, now: Instant) -> EvictionRank {
        let state = self.state();
        match (state.is_authenticated, state.running.is_empty()) {
            _ if state.is_new(now) => EvictionRank::New,
            (false, true) => EvictionRank::IdleUnauthenticated,
            (false, false) => EvictionRank::BusyUnauthenticated,
            (true, true) if state.unsent_permits.is_empty() => EvictionRank::IdleAuthenticated,
            _ if state.longest_wait(now) >= TOLERATED_WAIT => EvictionRank::Stalled,
            _ => EvictionRank::Needed,
        }
    }

    /// How long a response has waited for the client, the longest of all.
    pub(super) fn longest_wait(&self, now: Instant) -> Duration {
        self.state().longest_wait(now)
    }

    fn state(&self) -> MutexGuard<'_, ActivityState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ActivityState {
    fn check_limits(&self, limits: &ConnectionLimits, now: Instant) -> ConnectionVerdict {
        let longer =
            |since: Option<Instant>, span| since.is_some_and(|since| now.saturating_duration_since(since) > span);
        if longer(self.write_blocked_since, limits.stall_timeout) {
            return ConnectionVerdict::Close("the client reads nothing");
        }
        if self.running.values().any(|pace| pace.is_overdue(limits.stall_timeout, now)) {
            return ConnectionVerdict::Close("the client reads a response too slowly");
        }
        if self.abandoned > MAX_ABANDONED + (self.request_count - self.abandoned) {
            return ConnectionVerdict::Close("the client gives up most of its requests");
        }
        if !self.running.is_empty() {
            return ConnectionVerdict::Keep;
        }
        if self.idle_bytes > MAX_IDLE_BYTES {
            return ConnectionVerdict::Close("the client sends much and no request");
        }
        // HTTP/2 clients may send PING and WINDOW_UPDATE at any time.
        if longer(self.head_since, limits.head_timeout) && !self.is_http2 {
            return ConnectionVerdict::Close("the head of a request did not arrive in time");
        }
        match self.request_count {
            0 if longer(Some(self.idle_since), limits.head_timeout) => {
                ConnectionVerdict::Close("no request arrived in time")
            }
            1.. if longer(Some(self.idle_since), limits.idle_timeout) => ConnectionVerdict::Finish("idle"),
            MAX_REQUESTS_PER_CONNECTION.. => ConnectionVerdict::Finish("many requests were served"),
            _ => ConnectionVerdict::Keep,
        }
    }

    /// A client that has just connected is about to send its request.
    fn is_new(&self, now: Instant) -> bool {
        self.request_count == 0
            && (!self.is_input_drained || now.saturating_duration_since(self.idle_since) < NEWCOMER_GRACE)
    }

    fn longest_wait(&self, now: Instant) -> Duration {
        let blocked = self.write_blocked_since.filter(|_| !self.unsent_permits.is_empty() || !self.running.is_empty());
        let waits = self.running.values().filter_map(|pace| pace.waiting_since).chain(blocked);
        waits.map(|since| now.saturating_duration_since(since)).max().unwrap_or_default()
    }
}

impl ResponsePace {
    /// A short wait may be the network's; over a long response a client must keep to some pace.
    fn is_overdue(&self, stall: Duration, now: Instant) -> bool {
        let Some(since) = self.waiting_since else { return false };
        let waiting = now.saturating_duration_since(since);
        waiting > stall || self.waited + waiting > stall + Duration::from_secs(self.bytes / MIN_READ_RATE)
    }
}

/// How long a newcomer may keep silent while others wait for its place. In a flood of newcomers this is what lets an
/// honest one send its request; the rest of the flood waits in the backlog meanwhile.
const NEWCOMER_GRACE: Duration = Duration::from_millis(250);
/// Who waits no longer than this is no obstacle to others.
const TOLERATED_WAIT: Duration = Duration::from_secs(1);
/// Bytes a second.
const MIN_READ_RATE: u64 = 4_096;
/// Beside as many as are not given up: cheap to ask for and dear to answer (CVE-2023-44487).
const MAX_ABANDONED: u64 = 100;
/// Longer than any head.
const MAX_IDLE_BYTES: usize = 256 * 1024;
/// What a connection has gathered over time goes with it.
const MAX_REQUESTS_PER_CONNECTION: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(activity: &ConnectionActivity, now: Instant) -> ConnectionVerdict {
        activity.check_limits(&ConnectionLimits::default(), now)
    }

    const JUST: Duration = Duration::from_millis(1);

    #[test]
    fn a_connection_has_its_time_for_the_first_request_and_more_between_requests() {
        let ConnectionLimits { head_timeout: head, idle_timeout: idle, .. } = ConnectionLimits::default();
        let begun = Instant::now();
        let activity = ConnectionActivity::new(begun);
        assert_eq!(judge(&activity, begun + head), ConnectionVerdict::Keep);
        assert!(matches!(judge(&activity, begun + head + JUST), ConnectionVerdict::Close(_)));

        let number = activity.begin_request(false);
        let ended = begun + Duration::from_hours(1);
        assert_eq!(judge(&activity, ended), ConnectionVerdict::Keep, "a request that runs is bounded elsewhere");
        activity.end_request(number, true, None, ended);
        assert_eq!(judge(&activity, ended + idle), ConnectionVerdict::Keep);
        assert!(matches!(judge(&activity, ended + idle + JUST), ConnectionVerdict::Finish(_)));
    }

    #[test]
    fn half_a_head_has_less_time_than_an_idle_connection_and_http2_frames_are_no_head() {
        let begun = Instant::now();
        let half = begun + Duration::from_secs(5);
        let late = half + ConnectionLimits::default().head_timeout + JUST;
        for is_http2 in [false, true] {
            let activity = ConnectionActivity::new(begun);
            activity.end_request(activity.begin_request(is_http2), true, None, begun);
            activity.note_read(1, half);
            activity.note_read(1, late);
            assert_eq!(judge(&activity, late) == ConnectionVerdict::Keep, is_http2);
        }
        let activity = ConnectionActivity::new(begun);
        activity.note_read(MAX_IDLE_BYTES + 1, begun);
        assert!(matches!(judge(&activity, begun), ConnectionVerdict::Close(_)));
    }

    #[test]
    fn a_reader_may_pause_but_must_keep_to_a_pace() {
        let stall = ConnectionLimits::default().stall_timeout;
        let mut now = Instant::now();
        let activity = ConnectionActivity::new(now);
        let number = activity.begin_request(false);
        for _ in 0..20 {
            activity.note_part_sent(number, 8_192, now);
            now += Duration::from_secs(2);
            assert_eq!(judge(&activity, now), ConnectionVerdict::Keep);
            activity.note_client_ready(number, now);
        }
        // The store takes its time, not the client.
        now += Duration::from_hours(1);
        activity.note_part_sent(number, 8_192, now);
        assert_eq!(judge(&activity, now + stall), ConnectionVerdict::Keep);
        assert!(matches!(judge(&activity, now + stall + JUST), ConnectionVerdict::Close(_)));

        let trickling = ConnectionActivity::new(now);
        let number = trickling.begin_request(false);
        for _ in 0..5 {
            trickling.note_part_sent(number, 1, now);
            now += Duration::from_secs(5);
            trickling.note_client_ready(number, now);
        }
        trickling.note_part_sent(number, 1, now);
        assert!(matches!(judge(&trickling, now), ConnectionVerdict::Close(_)), "a byte in five seconds is no pace");
    }

    #[test]
    fn a_socket_that_takes_nothing_is_closed_also_when_all_is_handed_over() {
        let begun = Instant::now();
        let activity = ConnectionActivity::new(begun);
        activity.end_request(activity.begin_request(false), true, None, begun);
        activity.note_write(true, begun);
        activity.note_write(true, begun + Duration::from_secs(15));
        let late = begun + ConnectionLimits::default().stall_timeout + JUST;
        assert!(matches!(judge(&activity, late), ConnectionVerdict::Close(_)));
        activity.note_write(false, late);
        assert_eq!(judge(&activity, late), ConnectionVerdict::Keep);
    }

    #[test]
    fn whoever_gives_up_most_requests_is_closed() {
        let now = Instant::now();
        let activity = ConnectionActivity::new(now);
        for _ in 0..200 {
            activity.end_request(activity.begin_request(true), true, None, now);
            activity.end_request(activity.begin_request(true), false, None, now);
        }
        assert_eq!(judge(&activity, now), ConnectionVerdict::Keep);
        for _ in 0..=MAX_ABANDONED {
            activity.end_request(activity.begin_request(true), false, None, now);
        }
        assert!(matches!(judge(&activity, now), ConnectionVerdict::Close(_)));
    }

    #[test]
    fn the_worth_tells_who_makes_room_first() {
        let now = Instant::now();
        let [idle, busy, known, stalled, working] = std::array::from_fn(|_| ConnectionActivity::new(now));
        assert_eq!(
            idle.eviction_rank(now + NEWCOMER_GRACE),
            EvictionRank::New,
            "it may have sent a request that nobody has read yet"
        );
        idle.note_silence();
        assert_eq!(idle.eviction_rank(now), EvictionRank::New, "it may be about to send a request");
        busy.begin_request(false);
        for activity in [&known, &stalled, &working] {
            activity.mark_authenticated();
        }
        known.end_request(known.begin_request(false), true, None, now);
        stalled.note_part_sent(stalled.begin_request(false), 1, now);
        working.begin_request(false);
        let worth =
            [&idle, &busy, &known, &stalled, &working].map(|activity| activity.eviction_rank(now + TOLERATED_WAIT));
        assert!(
            worth.is_sorted() && worth[3] == EvictionRank::Stalled && worth[4] == EvictionRank::Needed,
            "{worth:?}"
        );
    }
}
