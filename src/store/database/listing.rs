//! Lists are read in two steps, so that a long one is never held whole: which rows a page has and how long they are, in
//! one statement, and then the rows themselves, a few at a time. No connection is held between the two.

use std::fmt::Display;

use sqlx::any::AnyRow;

use crate::domain::value::moment::Moment;
use crate::store::database::Transaction;
use crate::store::database::row::RowReader;
use crate::store::{Page, Store, StoreError};

/// The rows of a page, in the stable order of their making.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRows<I> {
    /// The rows.
    pub rows: Vec<ListedRow<I>>,
    /// Whether others follow.
    pub has_more: bool,
}

/// A row of a page that is not read yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedRow<I> {
    /// Its id.
    pub id: I,
    /// How many bytes its longest columns have.
    pub bytes: u64,
}

impl<I: Copy> PageRows<I> {
    /// The ids of the rows.
    pub fn ids(&self) -> Vec<I> {
        self.rows.iter().map(|row| row.id).collect()
    }
}

/// A table that is listed.
pub(in crate::store) struct ListedTable {
    pub(in crate::store) table: &'static str,
    /// The condition that every row meets which is there for clients; empty where all are.
    pub(in crate::store) present: &'static str,
    /// The length of the row `r`.
    pub(in crate::store) bytes: &'static str,
}

/// The conditions that narrow a list. They are about the row `s`.
#[derive(Default)]
pub(in crate::store) struct Conditions {
    terms: Vec<String>,
    values: Vec<ConditionValue>,
    /// Whether some are about the same row as `a`: then what is said about `s` is found in an index alone.
    joins_table: bool,
}

enum ConditionValue {
    Text(String),
    Number(i64),
}

impl Conditions {
    /// Those where `column` is one of `values`, where there are any.
    pub(in crate::store) fn and_any(mut self, column: &'static str, values: impl IntoIterator<Item = String>) -> Self {
        let places: Vec<String> =
            values.into_iter().map(|value| self.placeholder_for(ConditionValue::Text(value))).collect();
        match places.as_slice() {
            [] => {}
            [place] => self.terms.push(format!("s.{column} = {place}")),
            places => self.terms.push(format!("s.{column} IN ({})", places.join(", "))),
        }
        self
    }

    /// Those that meet a condition of which `at` is `$at`.
    pub(in crate::store) fn and_at(mut self, term: &str, at: Moment, looks_twice: bool) -> Self {
        let place = self.placeholder_for(ConditionValue::Number(at.micros()));
        self.terms.push(format!("({})", term.replace("$at", &place)));
        self.joins_table |= looks_twice;
        self
    }

    /// Those that meet a condition.
    pub(in crate::store) fn and(mut self, term: &'static str) -> Self {
        self.terms.push(term.to_owned());
        self
    }

    fn placeholder_for(&mut self, value: ConditionValue) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }
}

impl ListedTable {
    /// The page is chosen first, so that what is passed over costs no look at the rows.
    pub(in crate::store) fn page_sql(&self, conditions: &Conditions) -> String {
        let twice = if conditions.joins_table { format!("CROSS JOIN {} a", self.table) } else { String::new() };
        let same = conditions.joins_table.then_some("a.id = s.id");
        let present = (!self.present.is_empty()).then_some(self.present);
        let terms = conditions.terms.iter().map(String::as_str);
        let terms: Vec<&str> = present.into_iter().chain(terms).chain(same).collect();
        let filter = if terms.is_empty() { String::new() } else { format!("WHERE {}", terms.join(" AND ")) };
        let (limit, offset) = (conditions.values.len() + 1, conditions.values.len() + 2);
        format!(
            "SELECT r.id, CAST({bytes} AS BIGINT) AS bytes FROM (SELECT s.id AS page_id FROM {table} s {twice} {filter} \
             ORDER BY s.created_at, s.id LIMIT ${limit} OFFSET ${offset}) page JOIN {table} r ON r.id = page.page_id \
             ORDER BY r.created_at, r.id",
            bytes = self.bytes,
            table = self.table,
        )
    }
}

impl Store {
    /// The rows of a page of `listed`.
    pub(in crate::store) async fn page_rows<I>(
        &self,
        listed: &ListedTable,
        conditions: Conditions,
        page: Page,
    ) -> Result<PageRows<I>, StoreError>
    where
        I: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>,
    {
        let mut query = self.query(listed.page_sql(&conditions));
        for value in conditions.values {
            query = match value {
                ConditionValue::Text(text) => query.bind(text),
                ConditionValue::Number(number) => query.bind(number),
            };
        }
        let found = query.bind(page.fetch_limit()).bind(i64::from(page.offset)).fetch_all(&self.0.pool).await?;
        let limit = usize::try_from(page.limit).unwrap_or(usize::MAX);
        let row = |row| {
            let record = RowReader::new(row, listed.table);
            Ok(ListedRow { id: record.parsed("id")?, bytes: record.count("bytes")? })
        };
        let rows = found.iter().take(limit).map(row).collect::<Result<_, StoreError>>()?;
        Ok(PageRows { rows, has_more: found.len() > limit })
    }

    /// The rows of these ids that are still there, as `select` with [`IDS`] gives them. One that cannot be read is an
    /// error of its own.
    pub(in crate::store) async fn rows_by_id<I: Display, T>(
        &self,
        select: &str,
        ids: &[I],
        read: impl Fn(&AnyRow) -> Result<T, StoreError>,
    ) -> Result<Vec<Result<T, StoreError>>, StoreError> {
        let mut rows = Vec::with_capacity(ids.len());
        for group in ids.chunks(BATCH_SIZE) {
            let mut query = self.query(select.to_owned());
            // Always the same statement: the last id stands for those that are missing.
            for id in (0..BATCH_SIZE).filter_map(|place| group.get(place).or_else(|| group.last())) {
                query = query.bind(id.to_string());
            }
            rows.extend(query.fetch_all(&self.0.pool).await?.iter().map(&read));
        }
        Ok(rows)
    }
}

impl Store {
    /// How many rows of `table` are there for clients.
    pub(in crate::store) async fn count_present(&self, table: &'static str) -> Result<u64, StoreError> {
        let row = self.query(TOTAL).bind(table).fetch_one(&self.0.pool).await?;
        RowReader::new(&row, "totals").count("present")
    }

    /// How many rows of `table` clients made, with what this transaction changed. Nobody else adds one until it ends, once
    /// it has added one itself.
    pub(in crate::store) async fn count_made_by_clients(
        &self,
        transaction: &mut Transaction,
        table: &'static str,
    ) -> Result<u64, StoreError> {
        let row = self.query(TOTAL).bind(table).fetch_one(&mut **transaction).await?;
        RowReader::new(&row, "totals").count("of_clients")
    }
}

pub(in crate::store) const TOTAL: &str = "SELECT id, present, of_clients FROM totals WHERE id = $1";
/// How many rows one statement reads.
const BATCH_SIZE: usize = 50;
/// As many places for ids.
pub(in crate::store) const ID_PLACEHOLDERS: &str = "($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, \
    $21, $22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43, \
    $44, $45, $46, $47, $48, $49, $50)";
