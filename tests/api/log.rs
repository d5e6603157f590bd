//! The log of all tests of this binary in one place. It is the process's, because a log of one thread misses what
//! another thread saw first.

use std::io::{self, Write};
use std::sync::{Mutex, OnceLock};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// The log, which begins at the first call.
pub(crate) fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    static INSTALLED: OnceLock<()> = OnceLock::new();
    let log = LOG.get_or_init(Log::default);
    INSTALLED.get_or_init(|| {
        let filter = EnvFilter::new("debug,autocertd=trace");
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_env_filter(filter).with_writer(log);
        tracing::subscriber::set_global_default(subscriber.finish()).expect("nobody else sets one");
    });
    log
}

#[derive(Default)]
pub(crate) struct Log(Mutex<Vec<u8>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for &Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for &'static Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self
    }
}
