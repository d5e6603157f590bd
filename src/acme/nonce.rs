//! Patience with nonces. instant-acme sends a request three times where its nonce is refused; a CA behind several
//! front ends may refuse more often than that.

/// Makes a call anew for as long as only its nonce was refused (RFC 8555 section 6.5), which means that the CA did
/// nothing; at most [`ROUNDS`] times.
macro_rules! past_bad_nonces {
    ($call:expr) => {{
        let mut left = $crate::acme::nonce::ROUNDS;
        loop {
            match $call {
                Err($crate::acme::error::AcmeError::BadNonce) if left > 1 => left -= 1,
                outcome => break outcome,
            }
        }
    }};
}

pub(super) use past_bad_nonces;

/// Three requests each: at a CA that refuses every second nonce, fewer than four calls in a million fail.
pub(super) const ROUNDS: u32 = 6;
