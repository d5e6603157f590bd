//! What a CA says about the renewal of one certificate: ACME Renewal Information (RFC 9773). Pure: the draw that picks a
//! moment is handed in, and what comes of it is kept per certificate, so that restarts and replicas agree.

use std::fmt;
use std::str::FromStr;

use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::Duration;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

use crate::domain::value::moment::Moment;
use crate::domain::value::text::quoted;

/// The identifier of a certificate towards its CA, RFC 9773 section 4.1.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CertId {
    issuer_key: String,
    serial: String,
}

/// A text that identifies no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not the identifier of a certificate, which is two texts in base64url with a dot between them")]
pub struct InvalidCertId(String);

impl CertId {
    /// The identifier of the first certificate of a PEM text; nothing where it names no key of its issuer.
    pub fn from_pem(pem: &str) -> Option<Self> {
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
        let (_, certificate) = X509Certificate::from_der(&der).ok()?;
        let issuer = certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(issuer) => issuer.key_identifier.as_ref(),
            _ => None,
        })?;
        let encoded = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let serial = encoded(certificate.tbs_certificate.raw_serial());
        Some(Self { issuer_key: encoded(issuer.0), serial })
    }

    /// The key identifier of the issuer, in base64url.
    pub fn issuer_key(&self) -> &str {
        &self.issuer_key
    }

    /// The serial number as it is encoded in the certificate, in base64url.
    pub fn serial(&self) -> &str {
        &self.serial
    }
}

/// As it stands in URLs, in orders and in the store.
impl fmt::Display for CertId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.issuer_key, self.serial)
    }
}

impl FromStr for CertId {
    type Err = InvalidCertId;

    fn from_str(text: &str) -> Result<Self, InvalidCertId> {
        let is_base64url = |part: &str| !part.is_empty() && BASE64_URL_SAFE_NO_PAD.decode(part).is_ok();
        match text.split_once('.') {
            Some((issuer_key, serial)) if is_base64url(issuer_key) && is_base64url(serial) => {
                Ok(Self { issuer_key: issuer_key.to_owned(), serial: serial.to_owned() })
            }
            _ => Err(InvalidCertId(quoted(text))),
        }
    }
}

/// When a CA would like a certificate to be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RenewalWindow {
    start: Moment,
    end: Moment,
}

impl RenewalWindow {
    /// A window; nothing where it does not end behind its start, which section 4.2 takes as no answer at all.
    pub fn new(start: Moment, end: Moment) -> Option<Self> {
        (start < end).then_some(Self { start, end })
    }

    /// Its first moment.
    pub const fn start(self) -> Moment {
        self.start
    }

    /// The first moment behind it.
    pub const fn end(self) -> Moment {
        self.end
    }

    /// Whether `now` lies in it: only then a CA exempts a renewal from its limits.
    pub fn contains(self, now: Moment) -> bool {
        self.start <= now && now < self.end
    }

    /// A moment in it; `draw` is a number in `0.0 .. 1.0`.
    fn pick(self, draw: f64) -> Moment {
        self.start + (self.end - self.start) * draw
    }
}

/// `2026-12-01T00:00:00Z to 2026-12-03T00:00:00Z`.
impl fmt::Display for RenewalWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.start, self.end)
    }
}

/// A window with the moment that was picked in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewalSuggestion {
    /// The window.
    pub window: RenewalWindow,
    /// The moment from which the certificate is to be renewed; one in the past means now.
    pub moment: Moment,
    /// A page on which the CA says why, where it gives one.
    pub explanation_url: Option<String>,
}

/// What is known about the renewal of one certificate, and when to ask for more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewalInfo {
    /// What the CA suggests; absent where it offers nothing or could not be asked yet.
    pub suggestion: Option<RenewalSuggestion>,
    /// When to ask again.
    pub ask_at: Moment,
    /// How many questions in a row brought no window.
    pub failures: u32,
    /// What went wrong the last time.
    pub problem: Option<String>,
}

/// What a question came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RenewalInfoAnswer {
    /// The CA gave a window.
    Window {
        /// The window.
        window: RenewalWindow,
        /// The page that explains it.
        explanation_url: Option<String>,
        /// When the CA wants to be asked again.
        retry_after: Option<Moment>,
    },
    /// The CA's directory lists no renewal information.
    NotOffered,
    /// The CA is in trouble or cannot be reached; why, and when it wants to be asked again.
    Unreachable(String, Option<Moment>),
    /// The answer is of no use, such as a window that ends before it starts; why.
    Useless(String),
}

impl RenewalInfo {
    /// What is known after one more answer. The moment stays as it was picked for as long as the window does; `draw`, a
    /// number in `0.0 .. 1.0`, picks another one, and spreads the questions of those that were asked about at the same
    /// time. Without a new window the last one counts on.
    #[must_use]
    pub fn after(previous: Option<&Self>, answer: RenewalInfoAnswer, now: Moment, draw: f64) -> Self {
        let kept = previous.and_then(|info| info.suggestion.clone());
        let failures = previous.map_or(0, |info| info.failures);
        let more_failures = failures.saturating_add(1);
        let ask_after = |pause: Duration| now + apply_jitter(pause, draw);
        match answer {
            RenewalInfoAnswer::Window { window, explanation_url, retry_after } => {
                let same = kept.filter(|kept| kept.window == window);
                let moment = same.map_or_else(|| window.pick(draw), |kept| kept.moment);
                let ask_at = ask_after(retry_after.map_or(DEFAULT_PAUSE, |asked| asked - now));
                Self {
                    suggestion: Some(RenewalSuggestion { window, moment, explanation_url }),
                    // Once more right before the order, which must not count on a window that has moved meanwhile.
                    ask_at: if moment > now { ask_at.min(moment.max(now + MIN_PAUSE)) } else { ask_at },
                    failures: 0,
                    problem: None,
                }
            }
            RenewalInfoAnswer::NotOffered => {
                Self { suggestion: None, ask_at: ask_after(MAX_PAUSE), failures: 0, problem: None }
            }
            RenewalInfoAnswer::Unreachable(problem, retry_after) => {
                let own = (MIN_PAUSE * 5_i32.saturating_pow(failures.min(MAX_BACK_OFF_STEPS))).min(DEFAULT_PAUSE);
                let ask_at = ask_after(retry_after.map_or(own, |asked| asked - now));
                Self { suggestion: kept, ask_at, failures: more_failures, problem: Some(problem) }
            }
            RenewalInfoAnswer::Useless(problem) => {
                let ask_at = ask_after(DEFAULT_PAUSE);
                Self { suggestion: kept, ask_at, failures: more_failures, problem: Some(problem) }
            }
        }
    }
}

/// The pause within the bounds that section 4.3.1 allows, and up to a tenth longer, so that certificates of the same
/// minute, which all CAs give the same pause, drift apart. The tenth that leads up to the upper bound is its end.
fn apply_jitter(pause: Duration, draw: f64) -> Duration {
    let pause = pause.clamp(MIN_PAUSE, MAX_PAUSE);
    let spread = pause * JITTER_FRACTION;
    (pause + spread).min(MAX_PAUSE) - spread * (1.0 - draw)
}

const MIN_PAUSE: Duration = Duration::minutes(1);
/// Section 4.3.2, also for errors that last.
const DEFAULT_PAUSE: Duration = Duration::hours(6);
const MAX_PAUSE: Duration = Duration::days(1);
const JITTER_FRACTION: f64 = 0.1;
/// After so many failures the pause no longer grows.
const MAX_BACK_OFF_STEPS: u32 = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Moment = Moment::from_micros(1_800_000_000_000_000);

    fn window(from: i64, to: i64) -> RenewalWindow {
        RenewalWindow::new(NOW + Duration::hours(from), NOW + Duration::hours(to)).unwrap()
    }

    fn answer(window: RenewalWindow) -> RenewalInfoAnswer {
        RenewalInfoAnswer::Window { window, explanation_url: None, retry_after: None }
    }

    #[test]
    fn the_example_of_the_rfc_has_its_identifier() {
        // Appendix A of RFC 9773.
        let pem = "-----BEGIN CERTIFICATE-----\n\
            MIIBQzCB66ADAgECAgUAh2VDITAKBggqhkjOPQQDAjAVMRMwEQYDVQQDEwpFeGFt\n\
            cGxlIENBMCIYDzAwMDEwMTAxMDAwMDAwWhgPMDAwMTAxMDEwMDAwMDBaMBYxFDAS\n\
            BgNVBAMTC2V4YW1wbGUuY29tMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEeBZu\n\
            7cbpAYNXZLbbh8rNIzuOoqOOtmxA1v7cRm//AwyMwWxyHz4zfwmBhcSrf47NUAFf\n\
            qzLQ2PPQxdTXREYEnKMjMCEwHwYDVR0jBBgwFoAUaYhba4dGQEHhs3uEe6CuLN4B\n\
            yNQwCgYIKoZIzj0EAwIDRwAwRAIge09+S5TZAlw5tgtiVvuERV6cT4mfutXIlwTb\n\
            +FYN/8oCIClDsqBklhB9KAelFiYt9+6FDj3z4KGVelYM5MdsO3pK\n\
            -----END CERTIFICATE-----\n";
        let id = CertId::from_pem(pem).unwrap();
        assert_eq!(id.to_string(), "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(CertId::from_pem("no certificate"), None);
        for text in ["", "aYhba4dG", ".AIdlQyE", "aYhba4dG.", "aYhba4dG.AIdl.QyE", "aYhba4dG.AIdlQyE="] {
            assert!(text.parse::<CertId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_window_that_does_not_end_behind_its_start_is_none() {
        assert_eq!(RenewalWindow::new(NOW, NOW), None);
        assert_eq!(RenewalWindow::new(NOW, NOW - Duration::SECOND), None);
    }

    #[test]
    fn the_moment_stays_until_the_window_moves() {
        let first = RenewalInfo::after(None, answer(window(10, 20)), NOW, 0.5);
        assert_eq!(first.suggestion.as_ref().unwrap().moment, NOW + Duration::hours(15));
        let again = RenewalInfo::after(Some(&first), answer(window(10, 20)), NOW + Duration::hours(6), 0.9);
        assert_eq!(again.suggestion, first.suggestion);
        let moved = RenewalInfo::after(Some(&again), answer(window(-2, -1)), NOW + Duration::hours(12), 0.0);
        assert_eq!(moved.suggestion.unwrap().moment, NOW - Duration::hours(2));
    }

    #[test]
    fn without_a_new_window_the_last_one_counts_on() {
        let known = RenewalInfo::after(None, answer(window(10, 20)), NOW, 0.5);
        for answer in [
            RenewalInfoAnswer::Useless("end before start".into()),
            RenewalInfoAnswer::Unreachable("HTTP 503".into(), None),
        ] {
            let info = RenewalInfo::after(Some(&known), answer, NOW, 0.1);
            assert_eq!((info.suggestion, info.failures), (known.suggestion.clone(), 1));
            assert!(info.problem.is_some());
        }
        assert_eq!(RenewalInfo::after(Some(&known), RenewalInfoAnswer::NotOffered, NOW, 0.1).suggestion, None);
    }

    #[test]
    fn the_last_question_comes_right_before_the_order() {
        let near = RenewalInfo::after(None, answer(window(1, 3)), NOW, 0.5);
        assert_eq!(near.ask_at, NOW + Duration::hours(2));
        let then = RenewalInfo::after(Some(&near), answer(window(1, 3)), near.ask_at, 0.5);
        assert_eq!((then.suggestion, then.ask_at), (near.suggestion, near.ask_at + DEFAULT_PAUSE * 1.05));
    }

    #[test]
    fn questions_are_asked_at_the_pace_of_the_ca_within_bounds() {
        let pause = |answer, draw| RenewalInfo::after(None, answer, NOW, draw).ask_at - NOW;
        let asked = |retry_after: Duration, draw| {
            let retry_after = Some(NOW + retry_after);
            pause(RenewalInfoAnswer::Window { window: window(1_000, 2_000), explanation_url: None, retry_after }, draw)
        };
        assert_eq!(asked(Duration::hours(2), 0.0), Duration::hours(2));
        assert_eq!(asked(Duration::hours(2), 0.5), Duration::minutes(126));
        assert_eq!(asked(Duration::ZERO, 0.0), MIN_PAUSE);
        assert_eq!(asked(-Duration::days(30), 0.0), MIN_PAUSE);
        assert_eq!(asked(Duration::days(30), 0.5), MAX_PAUSE * 0.95);
        assert_eq!(pause(answer(window(1_000, 2_000)), 0.0), DEFAULT_PAUSE);
        assert_eq!(pause(RenewalInfoAnswer::Useless(String::new()), 0.0), DEFAULT_PAUSE);
        assert_eq!(
            pause(RenewalInfoAnswer::Unreachable(String::new(), Some(NOW + Duration::hours(3))), 0.0),
            Duration::hours(3)
        );
        let mut info = None;
        let pauses = [0; 6].map(|_| {
            let next = RenewalInfo::after(info.as_ref(), RenewalInfoAnswer::Unreachable(String::new(), None), NOW, 0.0);
            let pause = next.ask_at - NOW;
            info = Some(next);
            pause.whole_minutes()
        });
        assert_eq!(pauses, [1, 5, 25, 125, 360, 360]);
    }

    proptest! {
        #[test]
        fn a_pause_keeps_its_bounds_and_what_the_ca_asked_for(minutes in -10i64..3_000, draw in 0.0..1.0f64) {
            let asked = Duration::minutes(minutes);
            let pause = apply_jitter(asked, draw);
            prop_assert!((MIN_PAUSE..=MAX_PAUSE).contains(&pause));
            prop_assert!(pause >= asked.min(MAX_PAUSE * 0.9));
        }

        #[test]
        fn a_window_that_moves_with_every_answer_is_asked_for_once_a_minute_at_most(
            moves in prop::collection::vec((-100i64..100, 1i64..100, 0.0..1.0f64), 1..20),
        ) {
            let (mut info, mut now) = (None, NOW);
            for (from, length, draw) in moves {
                let start = now + Duration::seconds(from);
                let window = RenewalWindow::new(start, start + Duration::seconds(length)).unwrap();
                let next = RenewalInfo::after(info.as_ref(), answer(window), now, draw);
                prop_assert!(next.ask_at >= now + MIN_PAUSE);
                now = next.ask_at;
                info = Some(next);
            }
        }

        #[test]
        fn a_picked_moment_lies_in_its_window(from in -1_000i64..1_000, length in 1i64..1_000, draw in 0.0..1.0f64) {
            let window = window(from, from + length);
            prop_assert!(window.contains(window.pick(draw)));
        }
    }
}
