//! Says so where a test cannot be made on this machine.

use std::io::Write;
use std::thread;

/// Says that the test of this thread, or a part of it, is skipped and why. libtest captures what is printed, and shows it
/// only where a test fails: this goes to the standard error itself.
pub fn report_skipped(why: &str) {
    let current = thread::current();
    let test = current.name().unwrap_or("a test");
    // There is nobody else to tell.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}
