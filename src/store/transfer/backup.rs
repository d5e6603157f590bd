//! All that is worth keeping, as one document that either database can be restored from. Rows are carried column by
//! column as the tables have them, so that a later migration adds to it by itself; what is sealed stays sealed, bound to
//! its table, column and row id, which is why ids are kept. The whole is authenticated under a master key.

mod authentication;

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sqlx::any::{AnyRow, AnyTypeInfoKind};
use sqlx::{Column, Row, ValueRef};

use crate::domain::value::text::printable;
use crate::store::database::Transaction;
use crate::store::database::row::RowReader;
use crate::store::sealing::key_ring::{KeyError, KeyRing};
use crate::store::sealing::rotation::SEALED;
use crate::store::sealing::seal::SealedLocation;
use crate::store::transfer::backup::authentication::Authentication;
use crate::store::{Store, StoreError, migrations};

/// A copy of a store's rows. Its secrets are sealed under the master keys, which are not in it.
#[derive(Debug, Deserialize, Serialize)]
pub struct Backup {
    #[serde(flatten)]
    document: BackupDocument,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    authentication: Option<Authentication>,
}

/// What is authenticated.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct BackupDocument {
    format: String,
    version: u32,
    /// The newest migration of the tables that it was read from.
    schema: i64,
    /// Of autocertd, for people.
    program: String,
    /// For people.
    made: String,
    left_out: OmittedWork,
    tables: BTreeMap<String, Vec<BTreeMap<String, BackupCell>>>,
}

/// What was under way and is not in a backup: it belongs to processes and to a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OmittedWork {
    /// Attempts that were open.
    pub open_attempts: u64,
    /// TXT records that were in the DNS for attempts.
    pub challenge_records: u64,
}

/// How much there is of what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupContents {
    /// Providers, with their accounts.
    pub providers: u64,
    /// Auto-certificates.
    pub auto_certificates: u64,
    /// Certificates, with their private keys.
    pub certificates: u64,
    /// API tokens, of which only hashes are kept.
    pub tokens: u64,
}

/// The value of a column. Where it is NULL it is left out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
enum BackupCell {
    Number(i64),
    Text(String),
    Bytes { base64: String },
}

/// Why a backup cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It is something else.
    #[error("this is no export of autocertd, or not the whole of one")]
    NotAnExport(#[source] Option<serde_json::Error>),
    /// It was written by a version that this one does not know.
    #[error("the export was made by autocertd {program}, which is newer than this one; restore it with that version")]
    Newer {
        /// The version of autocertd that wrote it.
        program: String,
    },
    /// A value is not what its column holds.
    #[error("the export is damaged at table {table}, column {column}, row {row}; take another one")]
    Damaged {
        /// The table.
        table: String,
        /// The column.
        column: String,
        /// The row's id.
        row: String,
    },
    /// It is not as autocertd wrote it.
    #[error("the export was changed after it was made, or does not prove that it was not; take another one")]
    Altered,
    /// A secret does not open.
    #[error(
        "the export's secrets do not open under the present master keys; bring back the master key file that belongs to it"
    )]
    Sealed(#[source] KeyError),
    /// There is something in the store.
    #[error("the store is not empty, it holds {0}; an export is only restored into an empty one")]
    NotEmpty(BackupContents),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Backup {
    /// Reads an export.
    ///
    /// # Errors
    /// Where it is none, or of a version that is not known here.
    pub fn from_json(text: &[u8]) -> Result<Self, BackupError> {
        let backup: Self = serde_json::from_slice(text).map_err(|error| BackupError::NotAnExport(Some(error)))?;
        let document = &backup.document;
        if document.format != FORMAT || TABLES.iter().any(|table| !document.tables.contains_key(table.name)) {
            return Err(BackupError::NotAnExport(None));
        }
        if document.version > VERSION || document.schema > migrations::NEWEST_VERSION {
            return Err(BackupError::Newer { program: printable(&document.program) });
        }
        Ok(backup)
    }

    /// The document.
    ///
    /// # Errors
    /// None that is known of: there are only numbers and texts in it.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec_pretty(self)
    }

    /// How much is in it.
    pub fn contents(&self) -> BackupContents {
        let count = |table: &str| self.document.tables.get(table).map_or(0, |rows| rows.len() as u64);
        BackupContents {
            providers: count("providers"),
            auto_certificates: count("auto_certificates"),
            certificates: count("certificates"),
            tokens: count("tokens"),
        }
    }

    /// What was under way when it was made.
    pub const fn omitted_work(&self) -> OmittedWork {
        self.document.left_out
    }

    /// When it was made, and by which version: for people.
    pub fn origin(&self) -> String {
        format!("made at {} by autocertd {}", printable(&self.document.made), printable(&self.document.program))
    }

    /// The same, authenticated anew by these keys: for those who changed it and stand in for that.
    ///
    /// # Errors
    /// Where the keys cannot be used.
    pub fn reauthenticate(self, keys: &KeyRing) -> Result<Self, KeyError> {
        let authentication = Some(Authentication::sign(&self.document, keys)?);
        Ok(Self { authentication, ..self })
    }

    /// Makes sure that it is as a holder of these keys wrote it, and opens every secret once, and keeps none.
    ///
    /// # Errors
    /// Where it was changed, or a secret does not open under these keys.
    pub fn check(&self, keys: &KeyRing) -> Result<(), BackupError> {
        self.authentication.as_ref().ok_or(BackupError::Altered)?.check(&self.document, keys)?;
        for sealed in SEALED {
            for row in self.document.tables.get(sealed.table).into_iter().flatten() {
                let Some(cell) = row.get(sealed.column) else { continue };
                let id = row_id(row);
                let damaged = || damaged_error(sealed.table, sealed.column, row);
                let BackupCell::Bytes { base64 } = cell else { return Err(damaged()) };
                let bytes = STANDARD.decode(base64).map_err(|_| damaged())?;
                let place = SealedLocation { table: sealed.table, column: sealed.column, row: id };
                keys.open(place, &bytes).map_err(BackupError::Sealed)?;
            }
        }
        Ok(())
    }
}

impl Store {
    /// A backup of the store at this moment, also while others work on it.
    ///
    /// # Errors
    /// Where the database fails, or holds what autocertd never writes.
    pub async fn export(&self) -> Result<Backup, StoreError> {
        let mut transaction = self.0.pool.begin_reading().await?;
        let mut tables = BTreeMap::new();
        for table in TABLES {
            let rows = self.query(table.select).fetch_all(&mut *transaction).await?;
            let rows = rows.iter().map(|row| read_cells(table.name, row)).collect::<Result<_, _>>()?;
            tables.insert(table.name.to_owned(), rows);
        }
        let open_attempts = self.count_rows(&mut transaction, OPEN_ATTEMPTS).await?;
        let challenge_records = self.count_rows(&mut transaction, CHALLENGE_RECORDS).await?;
        let document = BackupDocument {
            format: FORMAT.to_owned(),
            version: VERSION,
            schema: migrations::NEWEST_VERSION,
            program: env!("CARGO_PKG_VERSION").to_owned(),
            made: self.now().to_string(),
            left_out: OmittedWork { open_attempts, challenge_records },
            tables,
        };
        Ok(Backup { document, authentication: None }.reauthenticate(&self.0.keys)?)
    }

    /// Brings back everything of a backup, all or nothing, into a store that is empty.
    ///
    /// # Errors
    /// Where the store is not empty, the backup is damaged or the database fails; then nothing was changed.
    pub async fn restore(&self, backup: &Backup) -> Result<(), BackupError> {
        backup.check(&self.0.keys)?;
        let mut transaction = self.begin().await?;
        self.lock_auto_certificates(&mut transaction).await?;
        let contents = self.count_contents(&mut transaction).await?;
        if contents != BackupContents::default() {
            return Err(BackupError::NotEmpty(contents));
        }
        for table in TABLES {
            let known = self.columns(&mut transaction, table.name).await?;
            for row in backup.document.tables.get(table.name).into_iter().flatten() {
                self.restore_row(&mut transaction, table.name, &known, row).await?;
            }
        }
        transaction.commit().await.map_err(StoreError::from)?;
        Ok(())
    }

    /// How much there is of what.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn contents(&self) -> Result<BackupContents, StoreError> {
        let mut transaction = self.0.pool.begin_reading().await?;
        self.count_contents(&mut transaction).await
    }

    /// Whether other processes have this store open. Of PostgreSQL nobody can tell, and the answer is no.
    ///
    /// # Errors
    /// Where the files of the processes cannot be read.
    pub async fn is_open_elsewhere(&self) -> Result<bool, StoreError> {
        let Some(presence) = &self.0.instance_lock else { return Ok(false) };
        for other in presence.other_instances().await? {
            if presence.find_dead(&other).await?.is_none() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn count_contents(&self, transaction: &mut Transaction) -> Result<BackupContents, StoreError> {
        Ok(BackupContents {
            providers: self.count_rows(transaction, "SELECT COUNT(*) AS present FROM providers").await?,
            auto_certificates: self
                .count_rows(transaction, "SELECT COUNT(*) AS present FROM auto_certificates")
                .await?,
            certificates: self.count_rows(transaction, "SELECT COUNT(*) AS present FROM certificates").await?,
            tokens: self.count_rows(transaction, "SELECT COUNT(*) AS present FROM tokens").await?,
        })
    }

    async fn count_rows(&self, transaction: &mut Transaction, select: &'static str) -> Result<u64, StoreError> {
        let row = self.query(select).fetch_one(&mut **transaction).await?;
        RowReader::new(&row, "counted").count("present")
    }

    /// The columns that a table has here.
    async fn columns(&self, transaction: &mut Transaction, table: &'static str) -> Result<Vec<String>, StoreError> {
        let rows = self.query(self.0.dialect.columns()).bind(table.to_owned()).fetch_all(&mut **transaction).await?;
        rows.iter().map(|row| RowReader::new(row, "columns").text("name")).collect()
    }

    /// A column that the backup does not have takes its default, as after the migration that added it.
    async fn restore_row(
        &self,
        transaction: &mut Transaction,
        table: &'static str,
        known: &[String],
        row: &BTreeMap<String, BackupCell>,
    ) -> Result<(), BackupError> {
        if let Some(unknown) = row.keys().find(|column| !known.contains(column)) {
            return Err(damaged_error(table, unknown, row));
        }
        // The names are those of the database itself by now.
        let columns: Vec<&str> = row.keys().map(String::as_str).collect();
        let places: Vec<String> = (1..=columns.len()).map(|number| format!("${number}")).collect();
        let insert = format!("INSERT INTO {table} ({}) VALUES ({})", columns.join(", "), places.join(", "));
        let mut query = self.query(insert);
        for (column, cell) in row {
            query = match cell {
                BackupCell::Number(number) => query.bind(*number),
                BackupCell::Text(text) => query.bind(text.clone()),
                BackupCell::Bytes { base64 } => {
                    query.bind(STANDARD.decode(base64).map_err(|_| damaged_error(table, column, row))?)
                }
            };
        }
        query.execute(&mut **transaction).await.map_err(StoreError::from)?;
        Ok(())
    }
}

/// A row as a backup has it, without the lease, which ends with its process.
fn read_cells(table: &'static str, row: &AnyRow) -> Result<BTreeMap<String, BackupCell>, StoreError> {
    let columns = row.columns().iter().filter(|column| !OMITTED_COLUMNS.contains(&column.name()));
    let cells = columns.filter_map(|column| {
        let cell = read_cell(row, column.ordinal()).transpose()?;
        Some(cell.map(|cell| (column.name().to_owned(), cell)).map_err(|source| StoreError::CorruptRow {
            table,
            column: "*",
            row: row.try_get("id").unwrap_or_default(),
            source: Some(Box::new(source)),
        }))
    });
    cells.collect()
}

fn read_cell(row: &AnyRow, place: usize) -> Result<Option<BackupCell>, sqlx::Error> {
    Ok(match row.try_get_raw(place)?.type_info().kind() {
        AnyTypeInfoKind::Null => None,
        AnyTypeInfoKind::Text => Some(BackupCell::Text(row.try_get(place)?)),
        AnyTypeInfoKind::Blob => {
            let bytes: Vec<u8> = row.try_get(place)?;
            Some(BackupCell::Bytes { base64: STANDARD.encode(bytes) })
        }
        // What is no number is refused here.
        _ => Some(BackupCell::Number(row.try_get(place)?)),
    })
}

fn row_id(row: &BTreeMap<String, BackupCell>) -> &str {
    match row.get("id") {
        Some(BackupCell::Text(id)) => id,
        _ => "without an id",
    }
}

fn damaged_error(table: &str, column: &str, row: &BTreeMap<String, BackupCell>) -> BackupError {
    BackupError::Damaged { table: table.to_owned(), column: printable(column), row: printable(row_id(row)) }
}

impl fmt::Display for BackupContents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.providers, "provider"),
            (self.auto_certificates, "auto-certificate"),
            (self.certificates, "certificate"),
            (self.tokens, "API token"),
        ];
        let words: Vec<String> = counts
            .iter()
            .map(|(count, what)| format!("{count} {what}{}", if *count == 1 { "" } else { "s" }))
            .collect();
        f.write_str(&words.join(", "))
    }
}

/// A table that is kept.
struct BackupTable {
    name: &'static str,
    select: &'static str,
}

/// The tables that are kept. All columns of a row are wanted, whatever they are by now. A deleted auto-certificate only
/// waits for records in the DNS that no backup knows.
const TABLES: [BackupTable; 6] = [
    BackupTable { name: "tokens", select: "SELECT * FROM tokens ORDER BY created_at, id" },
    BackupTable { name: "providers", select: "SELECT * FROM providers ORDER BY created_at, id" },
    BackupTable {
        name: "auto_certificates",
        select: "SELECT * FROM auto_certificates WHERE deleted_at IS NULL ORDER BY created_at, id",
    },
    BackupTable { name: "certificates", select: "SELECT * FROM certificates ORDER BY created_at, id" },
    BackupTable { name: "ledger", select: "SELECT * FROM ledger ORDER BY id" },
    BackupTable { name: "compromised_keys", select: "SELECT * FROM compromised_keys ORDER BY id" },
];
const OMITTED_COLUMNS: [&str; 2] = ["lease_owner", "lease_until"];
const OPEN_ATTEMPTS: &str = "SELECT COUNT(*) AS present FROM attempts WHERE ended_at IS NULL";
const CHALLENGE_RECORDS: &str = "SELECT COUNT(*) AS present FROM challenge_records";
const FORMAT: &str = "autocertd export";
const VERSION: u32 = 1;
