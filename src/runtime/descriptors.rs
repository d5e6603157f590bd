//! The file descriptors of the process: how many there may be, and how many of them a server may take. What is left is for
//! the database, ACME, DNS, programs and files, which a flood of connections must not starve.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to the hard one, as far as `MOST`, where the operating system allows it.
pub fn raise_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let wanted = hard.min(MOST);
        if wanted > soft && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_err() {
            tracing::debug!(soft, hard, "the limit of file descriptors cannot be raised");
        }
    }
}

/// How many descriptors the process may have open.
pub fn limit() -> usize {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(USUAL, |(soft, _)| soft);
    usize::try_from(soft).unwrap_or(usize::MAX)
}

/// How many connections a server may hold that takes one part in `parts` of the descriptors, and `most` at the highest.
pub fn share(parts: usize, most: usize) -> usize {
    (limit() / parts).clamp(LEAST, most.max(LEAST))
}

/// Enough for everything here. Programs that are started inherit the limit, and some walk through all descriptors.
const MOST: u64 = 65_536;
/// The soft limit that Linux gives.
const USUAL: u64 = 1_024;
const LEAST: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_bounded_and_leaves_most_of_the_descriptors() {
        assert!(limit() > 8);
        assert_eq!(share(4, 10), 10.min(limit() / 4).max(LEAST));
        assert!(share(4, usize::MAX) <= (limit() / 4).max(LEAST));
        assert_eq!(share(usize::MAX, 100), LEAST);
    }
}
