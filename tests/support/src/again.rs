//! A test that runs a part of itself again in a process of its own, inside another program such as `strace` or
//! `unshare`. The part is a test of the same binary that is ignored otherwise, and is told what to do by its environment.

use std::path::Path;
use std::process::Command;

/// The environment variable that tells the part in which folder to work.
pub const FOLDER_VARIABLE: &str = "AUTOCERTD_TEST_FOLDER";

/// The command that runs the test of this full name, `wrapper` in front of it.
///
/// # Errors
/// Where this test's own program cannot be found.
pub fn command(wrapper: &[&str], test: &str, folder: &Path) -> std::io::Result<Command> {
    let own = std::env::current_exe()?;
    let mut command = match wrapper {
        [] => Command::new(&own),
        [program, arguments @ ..] => {
            let mut command = Command::new(program);
            command.args(arguments).arg(&own);
            command
        }
    };
    command.args([test, "--exact", "--ignored", "--nocapture"]).env(FOLDER_VARIABLE, folder);
    Ok(command)
}
