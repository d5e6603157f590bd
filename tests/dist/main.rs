//! What needs other programs than the ordinary tests: each test names the one that it misses. They install nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails right there")]

mod import;
