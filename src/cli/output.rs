//! Where commands print, so that no text of others that is still in it steers a terminal. Its macros stand in the place
//! of the standard ones for all that is declared after this module.

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;

use crate::domain::value::text::{escaped, escaped_json};

macro_rules! print {
    ($($text:tt)*) => { $crate::cli::output::to_stdout(format_args!($($text)*), "") };
}

macro_rules! println {
    () => { $crate::cli::output::to_stdout(format_args!(""), "\n") };
    ($($text:tt)*) => { $crate::cli::output::to_stdout(format_args!($($text)*), "\n") };
}

macro_rules! eprint {
    ($($text:tt)*) => { $crate::cli::output::to_stderr(format_args!($($text)*), "") };
}

macro_rules! eprintln {
    ($($text:tt)*) => { $crate::cli::output::to_stderr(format_args!($($text)*), "\n") };
}

/// Prints a document.
pub(super) fn print_json(document: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string_pretty(document)?;
    write(&mut io::stdout().lock(), &escaped_json(&text), "\n");
    Ok(())
}

/// Prints a page whose parts are clean already, with colours of our own.
pub(super) fn print_styled(page: &str) {
    write(&mut io::stdout().lock(), page, "");
}

pub(super) fn to_stdout(text: fmt::Arguments<'_>, end: &str) {
    write(&mut io::stdout().lock(), &escaped(&text.to_string()), end);
}

pub(super) fn to_stderr(text: fmt::Arguments<'_>, end: &str) {
    write(&mut io::stderr().lock(), &escaped(&text.to_string()), end);
}

/// Who stops reading, as `head` does, has seen enough: the command goes on, for what it changes.
fn write(to: &mut impl Write, text: &str, end: &str) {
    let written = to.write_all(text.as_bytes()).and_then(|()| to.write_all(end.as_bytes())).and_then(|()| to.flush());
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        tracing::error!("the output cannot be written: {error}");
    }
}
