//! autocertd's binary: the exit code, nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    autocertd::cli::main()
}
