//! Auto-certificates and how they stand.

use std::collections::{HashMap, HashSet};

use crate::store::database::Transaction;
use sqlx::any::AnyRow;

use crate::domain::certificate::NewestCertificate;
use crate::domain::certificate::key_algorithm::KeyAlgorithm;
use crate::domain::failure::deferral::{Deferral, DeferralCause};
use crate::domain::renewal::attempt::StageKind;
use crate::domain::renewal::auto_certificate::{AutoCertificate, NewAutoCertificate};
use crate::domain::renewal::facts::AutoCertificateFacts;
use crate::domain::renewal::renewal_info::RenewalInfo;
use crate::domain::report::state::ResourceState;
use crate::domain::value::id::{AutoCertificateId, ProviderId};
use crate::domain::value::moment::Moment;
use crate::domain::value::name::{RequestedName, normalize_common_name};
use crate::domain::value::resource::{Actor, ResourceName};
use crate::store::database::listing::{Conditions, ID_PLACEHOLDERS, ListedTable};
use crate::store::database::renaming::Renaming;
use crate::store::database::row::RowReader;
use crate::store::documents;
use crate::store::{Listing, Page, PageRows, Store, StoreError};

/// What became of the making of an auto-certificate.
#[derive(Clone, Debug)]
pub enum CreationOutcome {
    /// It is stored.
    Created(Box<AutoCertificate>),
    /// There is no such provider.
    UnknownProvider,
    /// As many as allowed are there already.
    LimitReached,
}

/// Which auto-certificates a list is about: those that meet every condition. One without values is met by all.
#[derive(Clone, Debug, Default)]
pub struct AutoCertificateFilter {
    /// Those of one of these common names, in any case, in U-label or A-label form.
    pub common_names: Vec<String>,
    /// Those of one of these names.
    pub names: Vec<String>,
    /// Those of one of these providers.
    pub providers: Vec<ProviderId>,
    /// Those with one of these kinds of key.
    pub key_algorithms: Vec<KeyAlgorithm>,
    /// Those that are in one of these states.
    pub states: Vec<ResourceState>,
}

impl Store {
    /// Stores an auto-certificate, due at once, unless `limit` of them are there already; declared ones do not count.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn create_auto_certificate(
        &self,
        new: &NewAutoCertificate,
        by: &Actor,
        limit: u32,
    ) -> Result<CreationOutcome, StoreError> {
        let mut transaction = self.begin().await?;
        self.lock_auto_certificates(&mut transaction).await?;
        if !self.has_provider(&mut transaction, new.provider).await? {
            return Ok(CreationOutcome::UnknownProvider);
        }
        if self.count_made_by_clients(&mut transaction, TABLE).await? >= u64::from(limit) {
            return Ok(CreationOutcome::LimitReached);
        }
        let id = self.insert_auto_certificate(&mut transaction, new, by).await?;
        let row = self.query(get_sql()).bind(id.to_string()).fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(CreationOutcome::Created(Box::new(read(&row)?)))
    }

    /// The auto-certificate of this id, unless it is deleted.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn auto_certificate(&self, id: AutoCertificateId) -> Result<Option<AutoCertificate>, StoreError> {
        let row = self.query(get_sql()).bind(id.to_string()).fetch_optional(&self.0.pool).await?;
        let found = row.as_ref().map(read).transpose()?;
        Ok(found.filter(|auto_certificate| !auto_certificate.standing.deleted))
    }

    /// The auto-certificates of these ids, in the same order; those that are deleted are left out.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn auto_certificates_with_ids(
        &self,
        ids: &[AutoCertificateId],
    ) -> Result<Vec<AutoCertificate>, StoreError> {
        let rows = self.query(get_listed_sql()).bind(documents::ids_to_json(ids)).fetch_all(&self.0.pool).await?;
        let mut found = HashMap::with_capacity(rows.len());
        for row in &rows {
            let auto_certificate = read(row)?;
            found.insert(auto_certificate.id, auto_certificate);
        }
        Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
    }

    /// At most `limit` auto-certificates in the order of their making, those after `last`. Damaged ones are logged and
    /// passed over; others take their places, so that fewer than `limit` always mean the end.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn auto_certificates_after(
        &self,
        last: Option<&AutoCertificate>,
        limit: u32,
    ) -> Result<Vec<AutoCertificate>, StoreError> {
        let mut after =
            last.map_or((i64::MIN, String::new()), |last| (last.audit.created.micros(), last.id.to_string()));
        let mut page = Vec::new();
        loop {
            let lacking = i64::from(limit) - i64::try_from(page.len()).unwrap_or(i64::MAX);
            let query = self.query(list_after_sql()).bind(after.0).bind(after.1).bind(lacking);
            let rows = query.fetch_all(&self.0.pool).await?;
            let readable = self.read_undamaged(&rows, read)?;
            let is_whole = readable.len() == rows.len();
            page.extend(readable);
            let Some(row) = rows.last().filter(|_| !is_whole) else { return Ok(page) };
            let row = RowReader::new(row, TABLE);
            after = (row.number("created_at")?, row.text("id")?);
        }
    }

    /// A page of auto-certificates, of those with this common name where one is given.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn auto_certificates(
        &self,
        page: Page,
        common_name: Option<&str>,
    ) -> Result<Listing<AutoCertificate>, StoreError> {
        let common_names = common_name.map(ToOwned::to_owned).into_iter().collect();
        let filter = AutoCertificateFilter { common_names, ..AutoCertificateFilter::default() };
        let found = self.auto_certificate_page(page, &filter, self.now()).await?;
        let items = self.skip_damaged(self.auto_certificates_by_id(&found.ids()).await?)?;
        Ok(Listing { items, has_more: found.has_more })
    }

    /// Which auto-certificates a page has, by their states at `now`.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn auto_certificate_page(
        &self,
        page: Page,
        filter: &AutoCertificateFilter,
        now: Moment,
    ) -> Result<PageRows<AutoCertificateId>, StoreError> {
        self.page_rows(&LISTED, filter.conditions(now), page).await
    }

    /// How many auto-certificates there are.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn auto_certificate_total(&self) -> Result<u64, StoreError> {
        self.count_present(TABLE).await
    }

    /// Those of these auto-certificates that are still there, in the order of a page. A damaged row is an error of its own.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn auto_certificates_by_id(
        &self,
        ids: &[AutoCertificateId],
    ) -> Result<Vec<Result<AutoCertificate, StoreError>>, StoreError> {
        self.rows_by_id(&list_sql(), ids, read).await
    }

    /// Gives an auto-certificate another name.
    ///
    /// # Errors
    /// [`StoreError::Declared`], or where the database fails.
    pub async fn rename_auto_certificate(
        &self,
        id: AutoCertificateId,
        name: &ResourceName,
        by: &Actor,
    ) -> Result<Option<AutoCertificate>, StoreError> {
        let how = Renaming {
            rename: RENAME,
            declarable: Some(TABLE),
            get: get_sql(),
            follow_up: Some(BUMP_ROSTER_VERSION),
            read,
        };
        self.rename(how, id.to_string(), name, by).await
    }

    /// Deletes an auto-certificate: it is gone for everyone but the work that cleans up behind it. Its certificates
    /// stay. `false` where there is none.
    ///
    /// # Errors
    /// [`StoreError::Declared`], or where the database fails.
    pub async fn delete_auto_certificate(&self, id: AutoCertificateId) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        // Keeps out settings that declare it just now.
        self.lock_auto_certificates(&mut transaction).await?;
        self.refuse_declared(&mut transaction, TABLE, id.to_string()).await?;
        let now = self.now().micros();
        let deleted = self.query(DELETE).bind(id.to_string()).bind(now).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(deleted.rows_affected() == 1)
    }

    /// For each of these texts the auto-certificates that a person may mean by it: by id, by name or by common name.
    ///
    /// # Errors
    /// Where the database fails.
    pub async fn matching_auto_certificates<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
    ) -> Result<Vec<Vec<AutoCertificateId>>, StoreError> {
        // PostgreSQL refuses a NUL, and nothing has one in its name.
        let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
        let usable = || texts.iter().filter(|text| !text.contains('\0'));
        let id = |text: &str| text.parse::<AutoCertificateId>().map_or_else(|_| text.to_owned(), |id| id.to_string());
        let rows = self
            .query(MATCHING)
            .bind(documents::texts_to_json(usable().map(|text| id(text))))
            .bind(documents::texts_to_json(usable().map(|text| (*text).to_owned())))
            .bind(documents::texts_to_json(usable().map(|text| normalize_common_name(text))))
            .fetch_all(&self.0.pool)
            .await?;
        let mut found: HashMap<String, Vec<AutoCertificateId>> = HashMap::new();
        for row in &rows {
            let record = RowReader::new(row, TABLE);
            found.entry(record.text("wanted")?).or_default().push(record.parsed("id")?);
        }
        let of = |key: String| found.get(&key).into_iter().flatten().copied();
        let matching = |text: &&str| {
            let mut ids: Vec<AutoCertificateId> = of(format!("i{}", id(text)))
                .chain(of(format!("n{text}")))
                .chain(of(format!("f{}", normalize_common_name(text))))
                .collect();
            let mut seen = HashSet::new();
            ids.retain(|id| seen.insert(*id));
            ids
        };
        Ok(texts.iter().map(matching).collect())
    }
}

impl Store {
    /// Keeps others from making auto-certificates and from deleting providers until the transaction ends, and tells that
    /// the roster changes.
    pub(in crate::store) async fn lock_auto_certificates(
        &self,
        transaction: &mut Transaction,
    ) -> Result<(), StoreError> {
        self.query(BUMP_ROSTER_VERSION).execute(&mut **transaction).await?;
        Ok(())
    }

    /// Stores an auto-certificate of a provider that is there, due at once.
    pub(in crate::store) async fn insert_auto_certificate(
        &self,
        transaction: &mut Transaction,
        new: &NewAutoCertificate,
        by: &Actor,
    ) -> Result<AutoCertificateId, StoreError> {
        let id = AutoCertificateId::from(self.0.randomness.uuid());
        let names = new.subject_alternative_names.iter().map(|name| name.sent().to_owned());
        self.query(INSERT)
            .bind(id.to_string())
            .bind(new.name.to_string())
            .bind(new.provider.to_string())
            .bind(new.common_name.sent().to_owned())
            .bind(new.common_name.name().to_string())
            .bind(new.key_algorithm.as_str())
            .bind(documents::texts_to_json(names))
            .bind(new.profile.as_ref().map(ToString::to_string))
            .bind(self.now().micros())
            .bind(by.name.clone())
            .bind(by.id.to_string())
            .execute(&mut **transaction)
            .await?;
        Ok(id)
    }
}

/// Reads a row of [`get`] or of the listings.
pub(in crate::store) fn read(row: &AnyRow) -> Result<AutoCertificate, StoreError> {
    let record = RowReader::new(row, TABLE);
    Ok(AutoCertificate {
        id: record.parsed("id")?,
        name: record.name("name")?,
        provider: record.parsed("provider_id")?,
        common_name: record.parsed("common_name")?,
        key_algorithm: record.parsed("key_algorithm")?,
        subject_alternative_names: record.texts::<RequestedName>("subject_alternative_names")?,
        profile: record.optional_parsed("profile")?,
        audit: record.audit()?,
        standing: AutoCertificateFacts {
            newest: read_newest(&record)?,
            last_issued: record.optional_moment("last_issued")?,
            renewal_info: read_renewal_info(&record)?,
            failure_streak: record.failure_streak("trouble")?,
            deferral: read_deferral(&record)?,
            open_attempt: read_stage(&record)?,
            running: record.flag("running")?,
            renewal_requested: record.flag("renewal_requested")?,
            intent_changed: record.flag("intent_changed")?,
            clean_up_at: record.optional_moment("clean_up_at")?,
            preflight: record.preflight("rehearsal")?,
            deleted: record.optional_moment("deleted_at")?.is_some(),
        },
    })
}

/// Reads the stage of the open attempt.
pub(in crate::store) fn read_stage(record: &RowReader<'_>) -> Result<Option<StageKind>, StoreError> {
    let stage = record.optional_text("open_stage")?;
    stage.map(|name| record.require_known("open_stage", StageKind::from_name(&name))).transpose()
}

fn read_newest(record: &RowReader<'_>) -> Result<Option<NewestCertificate>, StoreError> {
    let Some(id) = record.optional_parsed("newest_id")? else { return Ok(None) };
    let (not_before, not_after) = (record.moment("newest_not_before")?, record.moment("newest_not_after")?);
    let issuer = record.optional_parsed("newest_provider_id")?;
    Ok(Some(NewestCertificate { id, not_before, not_after, revoked: record.flag("newest_revoked")?, issuer }))
}

/// What a clock that was ahead asked for the last time says nothing of when to ask again.
fn read_renewal_info(record: &RowReader<'_>) -> Result<Option<RenewalInfo>, StoreError> {
    let known = record.renewal_info("newest_renewal_info")?;
    let anew = record.optional_moment("newest_ask_anew")?.is_some_and(|flag| flag.micros() == 1);
    Ok(known.map(|known| if anew { RenewalInfo { ask_at: Moment::from_micros(0), ..known } } else { known }))
}

/// Reads what keeps an order back.
pub(in crate::store) fn read_deferral(record: &RowReader<'_>) -> Result<Option<Deferral>, StoreError> {
    let stored = record.optional_text("held_kind")?.zip(record.optional_text("held_by")?);
    let Some((kind, description)) = stored else { return Ok(None) };
    Ok(Some(Deferral { until: record.moment("held_until")?, cause: DeferralCause::from_stored(&kind, description) }))
}

/// A column of the newest certificate that was issued for the auto-certificate `a`.
macro_rules! newest {
    ($column:literal) => {
        concat!(
            "(SELECT c.",
            $column,
            " FROM certificates c WHERE c.auto_certificate_id = a.id ORDER BY c.created_at DESC, c.id DESC LIMIT 1)"
        )
    };
}
pub(in crate::store) use newest;

/// The stage of the open attempt for the auto-certificate `a`.
macro_rules! open_stage {
    () => {
        "(SELECT o.stage FROM attempts o WHERE o.auto_certificate_id = a.id AND o.ended_at IS NULL) AS open_stage"
    };
}
pub(in crate::store) use open_stage;

/// Whether someone works on the auto-certificate `a`.
macro_rules! running {
    () => {
        "CASE WHEN a.lease_until > @now THEN 1 ELSE 0 END AS running"
    };
}
pub(in crate::store) use running;

pub(in crate::store) const COLUMNS: &str = concat!(
    "a.id, a.name, a.provider_id, a.common_name, a.key_algorithm, a.subject_alternative_names, a.profile, \
     a.created_at, a.created_by, a.created_by_id, a.modified_at, a.modified_by, a.modified_by_id, \
     a.last_issued, a.trouble, a.held_until, a.held_by, a.held_kind, a.renewal_requested, a.intent_changed, a.deleted_at, a.rehearsal, ",
    running!(),
    ", ",
    open_stage!(),
    ", ",
    newest!("id"),
    " AS newest_id, ",
    newest!("not_before"),
    " AS newest_not_before, ",
    newest!("not_after"),
    " AS newest_not_after, ",
    newest!("provider_id"),
    " AS newest_provider_id, ",
    newest!("renewal_info"),
    " AS newest_renewal_info, ",
    newest!("ask_anew"),
    " AS newest_ask_anew, CASE WHEN ",
    newest!("revocation"),
    " IS NULL THEN 0 ELSE 1 END AS newest_revoked, \
     (SELECT MIN(r.next_try) FROM challenge_records r JOIN attempts t ON t.id = r.attempt_id \
      WHERE r.auto_certificate_id = a.id AND (t.ended_at IS NOT NULL OR a.deleted_at IS NOT NULL)) AS clean_up_at"
);

/// One auto-certificate, deleted or not.
pub(in crate::store) fn get_sql() -> String {
    format!("SELECT {COLUMNS} FROM auto_certificates a WHERE a.id = $1")
}

pub(in crate::store) fn get_listed_sql() -> String {
    format!(
        "SELECT {COLUMNS} FROM @listed1 listed CROSS JOIN auto_certificates a \
         WHERE a.id = listed.value AND a.deleted_at IS NULL"
    )
}

/// The page is chosen first, so that no other columns are read of the rest.
pub(in crate::store) fn list_after_sql() -> String {
    format!(
        "SELECT {COLUMNS} FROM (SELECT id AS page_id FROM auto_certificates WHERE deleted_at IS NULL \
         AND (created_at, id) > ($1, $2) ORDER BY created_at, id LIMIT $3) page \
         JOIN auto_certificates a ON a.id = page.page_id ORDER BY a.created_at, a.id"
    )
}

/// Those of [`IDS`] that are not deleted.
pub(in crate::store) fn list_sql() -> String {
    format!(
        "SELECT {COLUMNS} FROM auto_certificates a WHERE a.id IN {ID_PLACEHOLDERS} AND a.deleted_at IS NULL \
         ORDER BY a.created_at, a.id"
    )
}

impl AutoCertificateFilter {
    pub(in crate::store) fn conditions(&self, now: Moment) -> Conditions {
        let conditions = Conditions::default()
            .and_any("name", self.names.iter().cloned())
            .and_any("common_name_form", self.common_names.iter().map(|text| normalize_common_name(text)))
            .and_any("provider_id", self.providers.iter().map(ToString::to_string))
            .and_any("key_algorithm", self.key_algorithms.iter().map(ToString::to_string));
        let wanted = |state| self.states.contains(&state);
        let (available, failed, provisioning) =
            (wanted(ResourceState::Available), wanted(ResourceState::Failed), wanted(ResourceState::Provisioning));
        match (available, failed, provisioning) {
            (false, false, false) | (true, true, true) => conditions,
            (true, false, false) => conditions.and_at(AVAILABLE, now, false),
            (false, true, true) => conditions.and_at(NOT_AVAILABLE, now, false),
            (false, true, false) => conditions.and_at(FAILED, now, true),
            (false, false, true) => conditions.and_at(PROVISIONING, now, true),
            (true, true, false) => conditions.and_at(&format!("{AVAILABLE} OR ({FAILED})"), now, true),
            (true, false, true) => conditions.and_at(&format!("{AVAILABLE} OR ({PROVISIONING})"), now, true),
        }
    }
}

/// The states of `domain::state`, said of columns. What is said about `s` is in one index, `auto_certificates_by_state`.
const AVAILABLE: &str = "s.newest_not_after > $at";
const NOT_AVAILABLE: &str = "s.newest_not_after IS NULL OR s.newest_not_after <= $at";
const FAILED: &str = "(s.newest_not_after <= $at OR (s.newest_not_after IS NULL AND s.needs_person = 1)) \
    AND (a.lease_until IS NULL OR a.lease_until <= @now)";
const PROVISIONING: &str = "(s.newest_not_after IS NULL OR s.newest_not_after <= $at) \
    AND ((s.newest_not_after IS NULL AND s.needs_person = 0) OR a.lease_until > @now)";
pub(in crate::store) const LISTED: ListedTable = ListedTable {
    table: TABLE,
    present: "s.deleted_at IS NULL",
    bytes: "octet_length(r.subject_alternative_names) + COALESCE(octet_length(r.trouble), 0) \
            + COALESCE(octet_length(r.rehearsal), 0)",
};
pub(in crate::store) const TABLE: &str = "auto_certificates";
const BUMP_ROSTER_VERSION: &str = "UPDATE locks SET taken = taken + 1 WHERE id = 'auto-certificates'";
const INSERT: &str = "\
    INSERT INTO auto_certificates (id, name, provider_id, common_name, common_name_form, key_algorithm, \
    subject_alternative_names, profile, renewal_requested, runs, wakes, next_look, lease_epoch, \
    created_at, created_by, created_by_id, modified_at, modified_by, modified_by_id) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0, 0, $9, 0, $9, $10, $11, $9, $10, $11)";
const RENAME: &str = "\
    UPDATE auto_certificates SET name = $2, modified_at = $3, modified_by = $4, modified_by_id = $5 \
    WHERE id = $1 AND deleted_at IS NULL AND declared_by IS NULL";
pub(in crate::store) const DECLARE: &str =
    "UPDATE auto_certificates SET declared_key = $2, declared_by = $3 WHERE id = $1";
pub(in crate::store) const DELETE: &str = "\
    UPDATE auto_certificates SET deleted_at = $2, next_look = $2, wakes = wakes + 1, renewal_requested = 0, \
    declared_by = NULL \
    WHERE id = $1 AND deleted_at IS NULL";
/// Three look-ups, each by its index, where an OR would read all rows; the first letter of `wanted` tells which one it was.
pub(in crate::store) const MATCHING: &str = "\
    SELECT 'i' || listed.value AS wanted, a.id, a.created_at FROM @listed1 listed CROSS JOIN auto_certificates a \
    WHERE a.deleted_at IS NULL AND a.id = listed.value \
    UNION SELECT 'n' || listed.value AS wanted, a.id, a.created_at FROM @listed2 listed CROSS JOIN auto_certificates a \
    WHERE a.deleted_at IS NULL AND a.name = listed.value \
    UNION SELECT 'f' || listed.value AS wanted, a.id, a.created_at FROM @listed3 listed CROSS JOIN auto_certificates a \
    WHERE a.deleted_at IS NULL AND a.common_name_form = listed.value \
    ORDER BY 3, 2";
