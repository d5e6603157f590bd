//! Where SQLite and PostgreSQL differ: one line each, and nowhere else.

use std::borrow::Cow;
use std::time::Duration;

use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use crate::store::database::lease::LEASE_DURATION;

/// The SQL of one of the databases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// How a transaction that writes begins. SQLite takes the write lock at once: one that reads first and writes
    /// later fails where another wrote between.
    pub(in crate::store) const fn begin(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
        }
    }

    /// How a transaction begins that looks at everything as of one moment.
    pub(in crate::store) const fn begin_read(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN",
            Self::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY",
        }
    }

    /// The names of a table's columns.
    pub(in crate::store) const fn columns(self) -> &'static str {
        match self {
            Self::Sqlite => "SELECT name FROM pragma_table_info($1)",
            Self::Postgres => {
                "SELECT CAST(column_name AS TEXT) AS name FROM information_schema.columns \
                 WHERE table_schema = current_schema() AND table_name = $1"
            }
        }
    }

    /// The database's own time in microseconds, by which leases run. It moves on inside a transaction.
    const fn now(self) -> &'static str {
        match self {
            Self::Sqlite => "CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
            Self::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)",
        }
    }

    /// Ends the choice of the rows that a statement will change: PostgreSQL locks them in this order, so that no two
    /// transactions wait for each other. SQLite has one writer.
    const fn lock_in_order(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " ORDER BY id FOR UPDATE",
        }
    }

    /// The type of bytes.
    const fn blob(self) -> &'static str {
        match self {
            Self::Sqlite => "BLOB",
            Self::Postgres => "BYTEA",
        }
    }

    /// The texts of the JSON array that is bound as parameter `number`, as rows of one column, `value`.
    fn json_rows(self, number: usize) -> String {
        match self {
            Self::Sqlite => format!("json_each(${number})"),
            Self::Postgres => format!("jsonb_array_elements_text(CAST(${number} AS JSONB))"),
        }
    }

    /// The triggers of the fifth migration.
    const fn triggers(self) -> &'static str {
        match self {
            Self::Sqlite => include_str!("../migrations/0005_triggers_sqlite.sql"),
            Self::Postgres => include_str!("../migrations/0005_triggers_postgres.sql"),
        }
    }

    /// The triggers of the seventh migration.
    const fn derived_columns(self) -> &'static str {
        match self {
            Self::Sqlite => include_str!("../migrations/0007_triggers_sqlite.sql"),
            Self::Postgres => include_str!("../migrations/0007_triggers_postgres.sql"),
        }
    }

    /// What each new connection is told first. PostgreSQL breaks off what takes longer than `limit` before our own limit
    /// does, and frees the locks of a process that has frozen or vanished.
    pub(in crate::store) fn session_setup(self, limit: Duration) -> String {
        match self {
            Self::Sqlite => PRAGMAS.to_owned(),
            Self::Postgres => format!(
                "SET statement_timeout = {statement}; SET lock_timeout = {lock}; \
                 SET idle_in_transaction_session_timeout = 120000; SET tcp_keepalives_idle = 30; \
                 SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3",
                statement = limit.as_millis() * 4 / 5,
                lock = limit.as_millis() / 3,
            ),
        }
    }

    /// What the connection of the migrations is told: they take the time they need, but do not wait for long with the
    /// locks that they already have.
    pub(in crate::store) const fn migration_session_setup(self) -> &'static str {
        match self {
            Self::Sqlite => PRAGMAS,
            Self::Postgres => "SET statement_timeout = 0; SET lock_timeout = 10000",
        }
    }

    /// The statement in this dialect: `@now`, `@lease`, `@blob`, `@in_order`, `@triggers`, `@derived_columns` and `@listed1` to
    /// `@listed3` are filled in. Values are always bound, never part of the text.
    pub(in crate::store) fn sql(self, text: impl Into<Cow<'static, str>>) -> SqlStr {
        let text = text.into();
        debug_assert!(locks_in_one_order(&text), "a statement that changes several rows lacks @in_order: {text}");
        if !text.contains('@') {
            return AssertSqlSafe(text).into_sql_str();
        }
        let lease = LEASE_DURATION.as_micros().to_string();
        let filled = text
            .replace("@now", self.now())
            .replace("@lease", &lease)
            .replace("@blob", self.blob())
            .replace("@in_order", self.lock_in_order())
            .replace("@triggers", self.triggers())
            .replace("@derived_columns", self.derived_columns());
        let filled =
            (1..=3).fold(filled, |text, number| text.replace(&format!("@listed{number}"), &self.json_rows(number)));
        AssertSqlSafe(filled).into_sql_str()
    }
}

/// Whether a statement changes one row at most, or locks those that it changes in the order of their ids.
fn locks_in_one_order(text: &str) -> bool {
    let changes = text.contains("DELETE FROM ")
        || text.match_indices("UPDATE ").any(|(at, _)| !text[..at].ends_with("FOR ") && !text[..at].ends_with("DO "));
    let is_statement = ["UPDATE ", "DELETE FROM ", "WITH "].iter().any(|verb| text.starts_with(verb));
    let one_row = ["WHERE id = ", "WHERE instance = ", "WHERE name = $1 AND content = $2"];
    !(is_statement && changes) || text.contains("@in_order") || one_row.iter().any(|one| text.contains(one))
}

const PRAGMAS: &str = "\
    PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;";

#[cfg(test)]
mod tests {
    use super::locks_in_one_order;

    #[test]
    fn a_statement_of_several_rows_without_an_order_is_noticed() {
        for (text, is_ordered) in [
            ("UPDATE t SET a = 1 WHERE owner = $1", false),
            ("DELETE FROM t WHERE a <= $1", false),
            ("WITH due AS (SELECT id FROM t) UPDATE t SET a = 1 WHERE id IN (SELECT id FROM due)", false),
            ("DELETE FROM t WHERE id IN (SELECT id FROM t WHERE a <= $1@in_order)", true),
            ("UPDATE t SET a = 1 WHERE id = $1 AND b = $2", true),
            ("SELECT id FROM t FOR UPDATE", true),
            ("INSERT INTO t (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET a = 1", true),
        ] {
            assert_eq!(locks_in_one_order(text), is_ordered, "{text}");
        }
    }
}
