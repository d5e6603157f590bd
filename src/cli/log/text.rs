//! The text of the log: one line for each event, whatever is in its fields. What is not printable is escaped, and what is
//! too long is cut, so that nobody whose words are logged forges a line, steers a terminal or fills a disk.

use std::fmt::{self, Write as _};
use std::io;

use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FormatFields, MakeWriter};

use crate::domain::value::text::{escaped_json, escaped_line};

/// Writes fields as tracing-subscriber does: the message, then `key=value`.
#[derive(Debug)]
pub(super) struct EscapedFields;

impl<'w> FormatFields<'w> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = FieldWriter { writer, is_first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct FieldWriter<'w> {
    writer: Writer<'w>,
    is_first: bool,
    result: fmt::Result,
}

impl Visit for FieldWriter<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == MESSAGE_FIELD {
            self.record_debug(field, &format_args!("{value}"));
        } else {
            self.record_debug(field, &value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Fields of the `log` crate, which the event's own metadata repeat.
        if self.result.is_ok() && !field.name().starts_with("log.") {
            self.result = self.write(field.name(), value);
        }
    }
}

impl FieldWriter<'_> {
    fn write(&mut self, name: &str, value: &dyn fmt::Debug) -> fmt::Result {
        let mut text = BoundedText::default();
        // Its only error is that there is no room for more.
        let _ = write!(text, "{value:?}");
        let text = text.finish();
        if !std::mem::take(&mut self.is_first) {
            self.writer.write_char(' ')?;
        }
        match (name, self.writer.has_ansi_escapes()) {
            (MESSAGE_FIELD, _) => {}
            (name, true) => write!(self.writer, "\x1b[3m{}\x1b[0m\x1b[2m=\x1b[0m", name.trim_start_matches("r#"))?,
            (name, false) => write!(self.writer, "{}=", name.trim_start_matches("r#"))?,
        }
        self.writer.write_str(&escaped_line(&text))
    }
}

/// Takes no more than a field may have.
#[derive(Default)]
struct BoundedText {
    text: String,
    is_cut: bool,
}

impl BoundedText {
    fn finish(mut self) -> String {
        if self.is_cut {
            self.text.push('…');
        }
        self.text
    }
}

impl fmt::Write for BoundedText {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        let room = MAX_FIELD_LENGTH - self.text.len();
        let end = more.floor_char_boundary(room);
        self.text.push_str(&more[..end]);
        self.is_cut |= end < more.len();
        if self.is_cut { Err(fmt::Error) } else { Ok(()) }
    }
}

/// Standard error for lines of JSON, in whose strings what is not printable is escaped.
#[derive(Clone, Copy, Debug)]
pub(super) struct EscapedJsonWriter;

impl MakeWriter<'_> for EscapedJsonWriter {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

impl io::Write for EscapedJsonWriter {
    /// Gets whole events.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        io::stderr().lock().write_all(escaped_json(&text).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

const MESSAGE_FIELD: &str = "message";

/// In bytes: more than the longest message of a failure.
const MAX_FIELD_LENGTH: usize = 20_000;

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;
    use crate::domain::value::text::is_printable;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(ansi: bool, log: impl FnOnce()) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = tracing_subscriber::fmt::layer().with_ansi(ansi).fmt_fields(EscapedFields);
        let subscriber = tracing_subscriber::registry().with(layer.with_writer(move || writer.clone()));
        tracing::subscriber::with_default(subscriber, log);
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn nothing_that_is_logged_forges_a_line_or_steers_a_terminal() {
        let hostile = "x\r\n2026-01-01T00:00:00Z ERROR forged\u{1b}[2J\u{9b}1m\u{202e}\u{200b}\u{2028}\u{e0041}";
        let log = || {
            let span = tracing::error_span!("request", id = hostile, actor = %hostile);
            let _entered = span.enter();
            tracing::error!(server = %hostile, name = hostile, detail = ?hostile, "it said: {hostile}");
            tracing::error!(message = hostile);
        };
        let plain = logged(false, log);
        assert_eq!(plain.matches('\n').count(), 2, "{plain}");
        assert!(plain.chars().all(|c| c == '\n' || is_printable(c)), "{plain:?}");
        assert!(plain.contains("it said: x\\r\\n2026"), "{plain}");
        let coloured = logged(true, log);
        assert!(!coloured.contains("\u{1b}[2J") && coloured.contains("\u{1b}[3mserver\u{1b}[0m"), "{coloured:?}");
    }

    #[test]
    fn a_field_of_any_length_is_cut() {
        let long = "ü".repeat(500_000);
        let line = logged(false, || tracing::error!(detail = %long, "short"));
        assert!(line.len() < MAX_FIELD_LENGTH + 200 && line.contains("short detail=üü") && line.ends_with("…\n"));
    }
}
