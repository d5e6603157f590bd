//! Why the database cannot be used: the cause behind an error of sqlx, in words that name it and its remedy.

use std::io;

use rustls::{CertificateError, Error as TlsError};

use crate::domain::value::text::RemoteMessage;

/// The database cannot be used. Display gives what the database or the system said, [`FaultCause`] what that means.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct StoreFault {
    /// What it means, and what to do.
    pub cause: FaultCause,
    detail: String,
}

/// What keeps the database from being used. Display says what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FaultCause {
    /// `ENOSPC`, a quota, or PostgreSQL's own disk.
    #[error("the disk of the database is full; make room on it (or raise the quota), and autocertd goes on by itself")]
    DiskFull,
    /// A read-only file system, or a PostgreSQL that is a standby.
    #[error("the database is read-only; remount its file system for writing, or name the primary server")]
    ReadOnly,
    /// Another owner or mode than ours.
    #[error(
        "the database may not be written by this user; check the owner and mode of its file and folder, or its grants"
    )]
    Permission,
    /// The disk fails.
    #[error("the disk of the database reports errors; check the disk and the system's log before anything else")]
    DiskError,
    /// Damaged, or no database at all.
    #[error("the database file is damaged or is no database; stop autocertd and restore it from a backup")]
    Corrupt,
    /// The file is no longer where it was opened.
    #[error("the database file was moved or deleted while it was open; put it back and restart autocertd")]
    FileMoved,
    /// Neither the file nor its folder can be opened.
    #[error("the database file cannot be opened; check that its folder exists and may be used by this user")]
    CannotOpen,
    /// The limit of open files.
    #[error("too many files are open; raise the limit (LimitNOFILE= of the unit, ulimit -n)")]
    TooManyFiles,
    /// No memory is left.
    #[error("the database is out of memory; give it or this machine more")]
    OutOfMemory,
    /// Another process writes for long.
    #[error(
        "another process kept the database locked for too long; end what holds it (a backup tool, an open transaction)"
    )]
    Locked,
    /// Row locks that wait for each other.
    #[error("the database ended one of two transactions that waited for each other; it is safe to try again")]
    Deadlock,
    /// Nobody listens, or the connection broke.
    #[error("the database server cannot be reached; check that it runs, its host and port in store.url, and firewalls")]
    Unreachable,
    /// The name of the host has no address.
    #[error(
        "the name of the database server cannot be resolved; check the host in store.url and the DNS of this machine"
    )]
    UnknownHost,
    /// Nothing came back in time.
    #[error("the database gave no answer in time; check the server, the network to it, and store.timeout")]
    NoAnswer,
    /// PostgreSQL's own time-out.
    #[error("the database broke off a statement that took too long; check its load, or raise store.timeout")]
    StatementTimeout,
    /// All connections are in use.
    #[error("all connections to the database were in use for too long; raise store.max_connections, or check its load")]
    PoolExhausted,
    /// PostgreSQL gives no more connections.
    #[error(
        "the database server accepts no more connections; raise its max_connections, or lower store.max_connections"
    )]
    TooManyConnections,
    /// It starts, stops, or was told to end the connection.
    #[error("the database server is starting or stopping; autocertd goes on once it runs")]
    ServerStopping,
    /// The log-in was refused.
    #[error("the database server refused the log-in; check user and password in store.url, and pg_hba.conf")]
    Authentication,
    /// No database of this name.
    #[error("the server has no database of that name; check the name at the end of store.url, or create it")]
    NoDatabase,
    /// The server's certificate has another name.
    #[error(
        "the TLS certificate of the database server has another name; use that name as the host in store.url, or sslmode=verify-ca"
    )]
    TlsName,
    /// The server's certificate comes from an unknown CA.
    #[error(
        "the TLS certificate of the database server comes from an unknown CA; name its root certificate by sslrootcert in store.url"
    )]
    TlsIssuer,
    /// The server's certificate is out of date.
    #[error(
        "the TLS certificate of the database server has expired or is not valid yet; renew it, and check the clocks"
    )]
    TlsExpired,
    /// Anything else about TLS.
    #[error(
        "TLS with the database server failed; check sslmode, sslrootcert, sslcert and sslkey in store.url, and ssl of the server"
    )]
    Tls,
    /// A pooler that gives each transaction another session.
    #[error(
        "a pooler (pgbouncer) stands before the database and hands out sessions by transaction; set its pool_mode = session (and ignore_startup_parameters = extra_float_digits), or connect to PostgreSQL itself"
    )]
    TransactionPooling,
    /// PostgreSQL is too old.
    #[error("this PostgreSQL is too old; autocertd needs version 13 or newer")]
    ServerTooOld,
    /// The store was closed by this process.
    #[error("the store is closed; autocertd is stopping")]
    Closed,
    /// Passing, and nothing more is known.
    #[error("the database cannot be used right now; check that it is reachable and that its disk has room")]
    Other,
}

impl StoreFault {
    pub(super) fn new(cause: FaultCause, detail: impl Into<String>) -> Self {
        Self { cause, detail: detail.into() }
    }

    /// The fault behind an error, unless the statement itself was refused.
    pub(in crate::store) fn from_sqlx(error: &sqlx::Error) -> Option<Self> {
        if let sqlx::Error::AnyDriverError(inner) = error
            && let Some(fault) = inner.downcast_ref::<Self>()
        {
            return Some(fault.clone());
        }
        cause_from_sqlx(error).map(|cause| Self::new(cause, describe(error)))
    }

    /// As an error of sqlx, for what passes through its traits.
    pub(super) fn into_sqlx(self) -> sqlx::Error {
        sqlx::Error::AnyDriverError(Box::new(self))
    }
}

impl FaultCause {
    /// Whether reading may go on although writing fails.
    pub(super) const fn affects_only_writes(self) -> bool {
        matches!(self, Self::DiskFull | Self::ReadOnly | Self::Permission | Self::DiskError | Self::FileMoved)
    }

    /// Whether one call alone may have met it, so that it is no outage of the database.
    pub const fn is_transient(self) -> bool {
        matches!(self, Self::Locked | Self::Deadlock | Self::StatementTimeout | Self::Closed)
    }

    /// Whether a connection that met it may be in a state that nobody knows.
    pub(super) const fn breaks_connection(self) -> bool {
        !matches!(self, Self::DiskFull | Self::Locked | Self::Deadlock | Self::StatementTimeout)
    }
}

/// What an error says, once (sqlx repeats its sources), on one line and bounded.
pub(in crate::store) fn describe(error: &sqlx::Error) -> String {
    let text = match error {
        sqlx::Error::Database(error) => match error.code() {
            Some(code) => format!("{} (code {code})", error.message()),
            None => error.message().to_owned(),
        },
        sqlx::Error::Io(error) => error.to_string(),
        sqlx::Error::Tls(error) => error.to_string(),
        other => other.to_string(),
    };
    RemoteMessage::new(&text).to_string()
}

fn cause_from_sqlx(error: &sqlx::Error) -> Option<FaultCause> {
    use sqlx::Error as E;
    match error {
        E::Io(error) => Some(cause_from_io(error)),
        E::Tls(error) => Some(match error.downcast_ref::<TlsError>() {
            Some(error) => cause_from_tls(error),
            None => FaultCause::Tls,
        }),
        E::PoolTimedOut => Some(FaultCause::PoolExhausted),
        E::PoolClosed => Some(FaultCause::Closed),
        E::WorkerCrashed | E::BeginFailed | E::InvalidSavePointStatement | E::Protocol(_) => Some(FaultCause::Other),
        E::Database(error) => {
            let code = error.code()?;
            if code.len() == 5 {
                cause_from_sql_state(&code, error.message())
            } else {
                cause_from_sqlite(code.parse().ok()?)
            }
        }
        _ => None,
    }
}

/// The cause behind an error of the system.
pub(super) fn cause_from_io(error: &io::Error) -> FaultCause {
    use io::ErrorKind as K;
    if let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        return cause_from_tls(error);
    }
    match error.kind() {
        K::StorageFull | K::QuotaExceeded | K::FileTooLarge => FaultCause::DiskFull,
        K::ReadOnlyFilesystem => FaultCause::ReadOnly,
        K::PermissionDenied => FaultCause::Permission,
        K::TimedOut => FaultCause::NoAnswer,
        K::OutOfMemory => FaultCause::OutOfMemory,
        _ if matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) => FaultCause::TooManyFiles,
        _ if error.raw_os_error().is_none() && error.to_string().contains("lookup address") => FaultCause::UnknownHost,
        _ => FaultCause::Unreachable,
    }
}

fn cause_from_tls(error: &TlsError) -> FaultCause {
    use CertificateError as C;
    match error {
        TlsError::InvalidCertificate(C::NotValidForName | C::NotValidForNameContext { .. }) => FaultCause::TlsName,
        TlsError::InvalidCertificate(C::UnknownIssuer) => FaultCause::TlsIssuer,
        TlsError::InvalidCertificate(
            C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. },
        ) => FaultCause::TlsExpired,
        _ => FaultCause::Tls,
    }
}

/// SQLSTATEs, PostgreSQL's appendix A.
fn cause_from_sql_state(code: &str, message: &str) -> Option<FaultCause> {
    Some(match code {
        "53100" => FaultCause::DiskFull,
        "53200" => FaultCause::OutOfMemory,
        "53300" => FaultCause::TooManyConnections,
        "25006" => FaultCause::ReadOnly,
        "42501" => FaultCause::Permission,
        "40001" | "40P01" => FaultCause::Deadlock,
        "55P03" => FaultCause::Locked,
        "57014" => FaultCause::StatementTimeout,
        "57P01" | "57P02" | "57P03" => FaultCause::ServerStopping,
        "58030" => FaultCause::DiskError,
        "3D000" => FaultCause::NoDatabase,
        "XX001" | "XX002" => FaultCause::Corrupt,
        // What poolers answer that know no sessions: a statement prepared in another one, or start-up parameters.
        "26000" | "42P05" => FaultCause::TransactionPooling,
        "08P01" if message.contains("startup parameter") || message.contains("transaction blocks") => {
            FaultCause::TransactionPooling
        }
        _ if code.starts_with("28") => FaultCause::Authentication,
        _ if code.starts_with("08") => FaultCause::Unreachable,
        _ if ["40", "53", "57P", "58"].iter().any(|class| code.starts_with(class)) => FaultCause::Other,
        _ => return None,
    })
}

/// Result codes of SQLite: the lowest byte is the primary one.
fn cause_from_sqlite(code: u32) -> Option<FaultCause> {
    Some(match (code, code & 0xff) {
        (READONLY_DBMOVED, _) => FaultCause::FileMoved,
        // The shared memory beside the file could not grow.
        (IOERR_SHMSIZE, _) | (_, 13) => FaultCause::DiskFull,
        (IOERR_NOMEM, _) | (_, 7) => FaultCause::OutOfMemory,
        (_, 3 | 23) => FaultCause::Permission,
        (_, 5 | 6) => FaultCause::Locked,
        (_, 8) => FaultCause::ReadOnly,
        (_, 10) => FaultCause::DiskError,
        (_, 11 | 26) => FaultCause::Corrupt,
        (_, 14) => FaultCause::CannotOpen,
        _ => return None,
    })
}

/// Extended result codes, in which the second byte is the detail.
const READONLY_DBMOVED: u32 = 8 + (4 << 8);
const IOERR_SHMSIZE: u32 = 10 + (19 << 8);
const IOERR_NOMEM: u32 = 10 + (12 << 8);
const EMFILE: i32 = 24;
const ENFILE: i32 = 23;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_its_cause() {
        for (code, cause) in [
            ("53100", Some(FaultCause::DiskFull)),
            ("53300", Some(FaultCause::TooManyConnections)),
            ("25006", Some(FaultCause::ReadOnly)),
            ("28P01", Some(FaultCause::Authentication)),
            ("3D000", Some(FaultCause::NoDatabase)),
            ("08006", Some(FaultCause::Unreachable)),
            ("40P01", Some(FaultCause::Deadlock)),
            ("55P03", Some(FaultCause::Locked)),
            ("57014", Some(FaultCause::StatementTimeout)),
            ("57P03", Some(FaultCause::ServerStopping)),
            ("26000", Some(FaultCause::TransactionPooling)),
            ("23505", None),
            ("42601", None),
        ] {
            assert_eq!(cause_from_sql_state(code, ""), cause, "{code}");
        }
        for (code, cause) in [
            (13, Some(FaultCause::DiskFull)),
            (4_874, Some(FaultCause::DiskFull)),
            (5, Some(FaultCause::Locked)),
            (261, Some(FaultCause::Locked)),
            (8, Some(FaultCause::ReadOnly)),
            (1_032, Some(FaultCause::FileMoved)),
            (778, Some(FaultCause::DiskError)),
            (11, Some(FaultCause::Corrupt)),
            (26, Some(FaultCause::Corrupt)),
            (14, Some(FaultCause::CannotOpen)),
            (1, None),
            (2_067, None),
        ] {
            assert_eq!(cause_from_sqlite(code), cause, "{code}");
        }
    }

    #[test]
    fn errors_of_the_system_have_their_cause() {
        for (number, cause) in [
            (28, FaultCause::DiskFull),
            (122, FaultCause::DiskFull),
            (30, FaultCause::ReadOnly),
            (13, FaultCause::Permission),
            (EMFILE, FaultCause::TooManyFiles),
            (111, FaultCause::Unreachable),
            (104, FaultCause::Unreachable),
            (110, FaultCause::NoAnswer),
        ] {
            assert_eq!(cause_from_io(&io::Error::from_raw_os_error(number)), cause, "{number}");
        }
        let wrapped = io::Error::other(TlsError::InvalidCertificate(CertificateError::UnknownIssuer));
        assert_eq!(cause_from_io(&wrapped), FaultCause::TlsIssuer);
    }

    #[test]
    fn what_the_database_said_stands_once_and_on_one_line() {
        let error = sqlx::Error::Io(io::Error::other(format!("broken\n\x1b[31m{}", "x".repeat(10_000))));
        let fault = StoreFault::from_sqlx(&error).expect("it is a fault");
        let text = fault.to_string();
        assert!(text.starts_with("broken [31mx") && text.chars().count() < 1_000, "{text}");
        assert!(std::error::Error::source(&fault).is_none());
        assert_eq!(StoreFault::from_sqlx(&fault.clone().into_sqlx()), Some(fault));
        assert_eq!(StoreFault::from_sqlx(&sqlx::Error::RowNotFound), None);
    }
}
