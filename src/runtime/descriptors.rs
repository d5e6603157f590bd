//! The file descriptors of the process: how many there may be, and how many of them a server may take. What is left is for
//! the database, ACME, DNS, programs and files, which a flood of connections must not starve.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the soft limit to the hard one, as far as `MOST`, where the operating system allows it.
pub fn raise_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let wanted = hard.min(MAX_DESCRIPTORS);
        if wanted > soft && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_err() {
            tracing::debug!(soft, hard, "the limit of file descriptors cannot be raised");
        }
    }
}

/// How many descriptors the process may have open.
pub fn soft_limit() -> usize {
    let soft = getrlimit(Resource::RLIMIT_NOFILE).map_or(DEFAULT_SOFT_LIMIT, |(soft, _)| soft);
    usize::try_from(soft).unwrap_or(usize::MAX)
}

/// How many connections a server may hold that takes one part in `parts` of the descriptors, and `most` at the highest.
pub fn connection_share(parts: usize, most: usize) -> usize {
    (soft_limit() / parts).clamp(MIN_CONNECTIONS, most.max(MIN_CONNECTIONS))
}

/// Enough for everything here. Programs that are started inherit the limit, and some walk through all descriptors.
const MAX_DESCRIPTORS: u64 = 65_536;
/// The soft limit that Linux gives.
const DEFAULT_SOFT_LIMIT: u64 = 1_024;
const MIN_CONNECTIONS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_bounded_and_leaves_most_of_the_descriptors() {
        assert!(soft_limit() > 8);
        assert_eq!(connection_share(4, 10), 10.min(soft_limit() / 4).max(MIN_CONNECTIONS));
        assert!(connection_share(4, usize::MAX) <= (soft_limit() / 4).max(MIN_CONNECTIONS));
        assert_eq!(connection_share(usize::MAX, 100), MIN_CONNECTIONS);
    }
}
