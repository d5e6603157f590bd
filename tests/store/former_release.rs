//! A database that a former release wrote: this one finds everything in it. See `tests/fixtures/release-191bd97`.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use autocertd::domain::certificate::key_algorithm::KeyAlgorithm;
use autocertd::domain::certificate::{Certificate, CertificateOrigin};
use autocertd::domain::declared::{
    DeclaredAutoCertificate, DeclaredKey, DeclaredProvider, DeclaredResources, ProviderReference,
};
use autocertd::domain::failure::disposition::Disposition;
use autocertd::domain::provider::rate_limit_ledger::{CaLimits, RateLimitBucket};
use autocertd::domain::provider::{AccountNote, ExternalAccountBinding, NewProvider, Provider};
use autocertd::domain::renewal::attempt::StageKind;
use autocertd::domain::renewal::auto_certificate::{AutoCertificate, NewAutoCertificate};
use autocertd::domain::renewal::dns_persist::PersistRecord;
use autocertd::domain::value::mac_key::MacKey;
use autocertd::domain::value::moment::Moment;
use autocertd::domain::value::name::RequestedName;
use autocertd::domain::value::resource::Actor;
use autocertd::domain::value::server_url::{PlainHttpPolicy, ServerUrl};
use autocertd::domain::value::token::TokenScope;
use autocertd::runtime::clock::ManualClock;
use autocertd::store::{KeyRing, LedgerAccount, Store, StoreSettings, StoreUrl};
use secrecy::ExposeSecret;
use sqlx::any::AnyPoolOptions;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyPool, AssertSqlSafe, SqlSafeStr};
use std::sync::Arc;
use time::Duration;

use crate::fixture::{ALL, EAB_SECRET, Fixture, on_both, randomness};

on_both! {
    everything_is_found
    its_secrets_can_be_sealed_anew
    what_it_declared_is_still_the_same
}

/// The moment after the last thing that it wrote.
pub(crate) const MADE: Moment = Moment::from_micros(1_796_078_718_500_000);
const TOKEN: &str = "autocertd_183427d101184c6690baed1e0cbd18cb_ARNLgw4Ii16iiCFSmtxg79FsSY-qU3D2cTUT2B5tCZU";
const ROWS: &str = include_str!("../fixtures/release-191bd97/rows.sql");
const TABLES: &str = include_str!("../fixtures/release-191bd97/tables.sql");

/// A copy of the database of the former release.
pub(crate) struct FormerRelease {
    pub(crate) settings: StoreSettings,
    /// A way into it beside the store.
    pub(crate) raw: AnyPool,
    pub(crate) clock: Arc<ManualClock>,
    fixture: Fixture,
}

impl FormerRelease {
    /// A copy that this release has not opened.
    pub(crate) async fn copied(house: Fixture) -> Self {
        let settings = house.another_database().await;
        let url = match &settings.url {
            StoreUrl::Sqlite(path) => format!("sqlite://{}?mode=rwc", path.display()),
            StoreUrl::Postgres(url) => url.expose_secret().to_owned(),
        };
        let raw = AnyPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
        if house.is_sqlite() {
            sqlx::raw_sql(TABLES).execute(&raw).await.unwrap();
            sqlx::raw_sql(ROWS).execute(&raw).await.unwrap();
        } else {
            make_tables(&raw).await;
            let rows =
                ROWS.replace(",X'", ",'\\x").replace("INSERT INTO locks", "DELETE FROM locks; INSERT INTO locks");
            sqlx::raw_sql(AssertSqlSafe(rows)).execute(&raw).await.unwrap();
        }
        let key = house.folder.path().join("former.key");
        std::fs::write(&key, include_str!("../fixtures/release-191bd97/master.key")).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        Self { settings, raw, clock: Arc::new(ManualClock::starting_at(MADE)), fixture: house }
    }

    pub(crate) async fn open(&self) -> Store {
        let keys = KeyRing::load(&self.fixture.folder.path().join("former.key")).unwrap();
        Store::open(&self.settings, keys, self.clock.clone(), randomness()).await.unwrap()
    }

    /// How many rows there are beside the store.
    pub(crate) async fn rows(&self, table: &str) -> usize {
        let rows = sqlx::query(AssertSqlSafe(format!("SELECT 1 FROM {table}")).into_sql_str());
        rows.fetch_all(&self.raw).await.unwrap().len()
    }
}

/// The tables of the former release on PostgreSQL, where the checksums of its migrations are other ones.
async fn make_tables(raw: &AnyPool) {
    let files = [
        ("first tables", include_str!("../../src/store/migrations/0001_first_tables.sql")),
        ("declared and delivered", include_str!("../../src/store/migrations/0002_declared_and_delivered.sql")),
        ("renewal", include_str!("../../src/store/migrations/0003_renewal.sql")),
        ("dns", include_str!("../../src/store/migrations/0004_dns.sql")),
    ];
    let migrations = (1..).zip(files).map(|(version, (description, text))| {
        let text = AssertSqlSafe(text.replace("@blob", "BYTEA")).into_sql_str();
        Migration::new(version, description.into(), MigrationType::Simple, text, false)
    });
    Migrator::with_migrations(migrations.collect()).run(raw).await.unwrap();
}

async fn everything_is_found(house: Fixture) {
    let former = FormerRelease::copied(house).await;
    let store = former.open().await;
    let providers: BTreeMap<String, Provider> =
        store.providers(ALL).await.unwrap().items.into_iter().map(|found| (found.name.to_string(), found)).collect();
    assert_eq!(providers.len(), former.rows("providers").await);
    check_providers(&store, &providers).await;
    check_accounts(&store, &providers).await;
    let wishes: BTreeMap<String, AutoCertificate> = store
        .auto_certificates(ALL, None)
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|found| (found.name.to_string(), found))
        .collect();
    assert_eq!(wishes.len() + 1, former.rows("auto_certificates").await, "all but the tombstone");
    check_deferrals(&store, &wishes, &providers).await;
    check_failure_streaks(&wishes);
    check_attempts(&store, &wishes).await;
    check_issued(&store, &wishes).await;
    check_certificates(&store, &former).await;
    check_the_rest(&store, &former).await;
    store.close().await;
}

async fn check_providers(store: &Store, providers: &BTreeMap<String, Provider>) {
    let pebble = &providers["pebble"];
    assert_eq!(pebble.external_account_key_id.as_deref(), Some("kid-1"));
    assert_eq!(pebble.profile.as_ref().map(ToString::to_string).as_deref(), Some("default"));
    assert_eq!(pebble.fallbacks, [providers["second"].id]);
    assert_eq!(store.providers_with_fallback(providers["second"].id).await.unwrap()[0].0, pebble.id);
    assert!(providers["Unreachable"].failure_streak.is_some());
    assert_eq!(providers["Pending"].failure_streak.as_ref().unwrap().last.disposition, Disposition::Operator);
    assert_eq!(store.matching_providers("second").await.unwrap().len(), 1);

    assert!(providers["Down"].down_since.is_some() && providers["Stumbled"].down_since.is_none());
    let stumbled = store.provider_load(providers["Stumbled"].id).await.unwrap().breaker.unwrap();
    assert_eq!((stumbled.failures, stumbled.open_until()), (2, None));
    let [(down, server, breaker)] = store.providers_down().await.unwrap().try_into().unwrap();
    assert_eq!((down, server.as_str()), (providers["Down"].id, "https://down.example/dir"));
    assert_eq!((breaker.failures, breaker.last.message.as_str()), (4, "503 Service Unavailable"));
    assert!(store.has_deferred_work(down).await.unwrap());
}

async fn check_accounts(store: &Store, providers: &BTreeMap<String, Provider>) {
    for (name, provider) in providers {
        let account = store.account(provider.id).await.unwrap().unwrap();
        let registered = ["pebble", "second", "By the API", "States"].contains(&name.as_str());
        assert_eq!(account.registered.is_some(), registered, "{name}");
        let external = ["pebble", "Unreachable", "States"].contains(&name.as_str());
        assert_eq!(account.external_account.is_some(), external, "{name}");
        if let Some(external) = account.external_account {
            assert_eq!(external.key_secret.expose_secret(), EAB_SECRET);
        }
        assert_eq!(account.pending.is_some(), name == "Pending", "{name}");
        assert_eq!(account.key_change.is_some(), name == "States", "{name}");
    }
    let states = store.account(providers["States"].id).await.unwrap().unwrap();
    let registered = states.registered.unwrap();
    assert_eq!(registered.url, "https://ca.example/acct/7");
    assert_eq!(registered.credentials.expose_secret(), "the credentials of States");
    assert_eq!(states.key_change.unwrap().expose_secret(), "the next key of States");
    assert!(matches!(providers["Lost"].account_note, Some(AccountNote::Lost { .. })));
    assert!(providers["Deactivated"].is_deactivated());
}

async fn check_deferrals(
    store: &Store,
    wishes: &BTreeMap<String, AutoCertificate>,
    providers: &BTreeMap<String, Provider>,
) {
    for (name, cause) in [
        ("held-orders", "orders of the account (300 in 3 h)"),
        ("held-orders-too", "orders of the account (300 in 3 h)"),
        ("kept-back-orders", "orders of the account (300 in 3 h)"),
        ("held-domain", "new certificates of states.example (300 in 3 h)"),
        ("held-name-set", "certificates for exactly a.states.example and 1 more (300 in 3 h)"),
        ("held-failures", "failed validations of held-failures.states.example (300 in 3 h)"),
        ("held-down", "the provider is down"),
    ] {
        let hold = wishes[name].standing.deferral.as_ref().unwrap();
        assert!(hold.to_string().contains(cause), "{name}: {hold}");
        assert_eq!(hold.until - MADE + Duration::milliseconds(300), Duration::HOUR + Duration::microseconds(9_504));
    }
    assert_eq!(wishes.values().filter(|wish| wish.standing.deferral.is_some()).count(), 7);
    assert_eq!(
        store.provider_load(providers["States"].id).await.unwrap().deferred_by_limit,
        3,
        "held by the limit of orders"
    );
    assert_eq!(store.provider_load(providers["Down"].id).await.unwrap().deferred_by_limit, 0);
}

fn check_failure_streaks(wishes: &BTreeMap<String, AutoCertificate>) {
    let asked = Some(MADE + Duration::minutes(90) - Duration::microseconds(290_496));
    for (name, disposition) in [
        ("troubled-retry", Disposition::RETRY),
        ("troubled-retry-after", Disposition::Retry { not_before: asked }),
        ("troubled-operator", Disposition::Operator),
        ("troubled-restart", Disposition::Restart),
        ("troubled-down", Disposition::ProviderDown { not_before: None }),
        ("troubled-down-after", Disposition::ProviderDown { not_before: asked }),
        ("troubled-tricky", Disposition::Restart),
        ("ended", Disposition::Restart),
    ] {
        assert_eq!(wishes[name].standing.failure_streak.as_ref().unwrap().last.disposition, disposition, "{name}");
    }
}

async fn check_attempts(store: &Store, wishes: &BTreeMap<String, AutoCertificate>) {
    for (name, stage) in [
        ("open-planned", StageKind::Planned),
        ("open-ordered", StageKind::Ordered),
        ("open-presented", StageKind::Presented),
        ("open-answered", StageKind::Answered),
        ("open-ready", StageKind::Ready),
        ("open-finalizing", StageKind::Finalizing),
        ("open-issued", StageKind::Issued),
    ] {
        let wish = &wishes[name];
        assert_eq!(wish.standing.open_attempt, Some(stage));
        let attempt = store.open_attempt(wish.id).await.unwrap().unwrap();
        assert_eq!((attempt.stage.kind(), attempt.names.len()), (stage, 2));
        let [record] = store.challenge_records(wish.id).await.unwrap().try_into().unwrap();
        assert!(record.is_needed && record.attempt == Some(attempt.id), "{record:?}");
    }
    assert!(wishes["ended"].standing.clean_up_at.is_some());
    assert!(wishes["asked-for"].standing.renewal_requested);
    let journal = store.journal().await.unwrap();
    assert_eq!((journal.len(), journal.iter().filter(|record| record.is_needed).count()), (10, 7));
    let strays = store.orphaned_records(MADE + Duration::HOUR).await.unwrap();
    assert_eq!(strays.iter().map(|stray| stray.content.as_str()).collect::<Vec<_>>(), ["canary"]);
}

async fn check_issued(store: &Store, wishes: &BTreeMap<String, AutoCertificate>) {
    for name in ["www", "rsa", "renamed by the API", "for gone.fixture.example", "issued-ari", "revoke-asked"] {
        let standing = &wishes[name].standing;
        let newest = standing.newest.unwrap();
        assert_eq!(newest.issuer, Some(wishes[name].provider), "{name}");
        assert!(standing.last_issued.is_some() && newest.not_after > MADE + Duration::days(3_000), "{name}");
        assert_eq!(newest.revoked, name == "revoke-asked");
        assert_eq!(store.newest_issued(wishes[name].id).await.unwrap().unwrap().id, newest.id);
    }
    let standing = &wishes["issued-ari"].standing;
    let info = standing.renewal_info.as_ref().unwrap();
    assert_eq!((info.failures, info.problem.as_deref()), (1, Some("the last question failed")));
    assert!(info.suggestion.as_ref().unwrap().explanation_url.is_some());
    assert!(wishes["www"].standing.renewal_info.is_some(), "a real CA suggested something");
    assert_eq!(standing.preflight.as_ref().unwrap().faults().count(), 1);
}

async fn check_certificates(store: &Store, former: &FormerRelease) {
    let found: Vec<Certificate> = store.certificates(ALL, None, None).await.unwrap().items;
    assert_eq!(found.len(), former.rows("certificates").await);
    let mut by_name = BTreeMap::new();
    for certificate in &found {
        let key = store.certificate_private_key(certificate.id).await.unwrap().unwrap();
        assert!(key.expose_secret().starts_with("-----BEGIN PRIVATE KEY-----"), "{}", certificate.name);
        let serial = certificate.leaf.serial_number.parse().unwrap();
        assert!(store.certificates_with_serial(&serial).await.unwrap().contains(&certificate.id));
        by_name.insert(certificate.name.to_string(), certificate);
    }
    assert_eq!(by_name["uploaded"].origin, CertificateOrigin::Uploaded);
    let revoked = |name: &str| by_name[name].revocation.clone().unwrap();
    assert!(revoked("revoke-done").done_at.is_some() && revoked("rsa 2026-11-30T22:45:15Z").done_at.is_some());
    assert!(revoked("revoke-asked").done_at.is_none() && revoked("revoke-asked").failure_streak.is_none());
    assert_eq!(revoked("revoke-troubled").failure_streak.unwrap().last.disposition, Disposition::Operator);
    let due = store.claim_due_revocations(MADE + Duration::hours(30), 10).await.unwrap();
    assert_eq!(due.len(), 2, "what the CA has not carried out");
    assert_eq!(former.rows("compromised_keys").await, 1);
}

async fn check_the_rest(store: &Store, former: &FormerRelease) {
    let (deliveries, _) = store.deliveries_after(None, "fixture", 1_000).await.unwrap();
    assert_eq!(deliveries.len(), former.rows("deliveries").await);
    let at = |target: &str| deliveries.iter().find(|row| row.target.as_str() == target).unwrap();
    assert!(at("web").standing.delivered.is_some() && at("web").standing.failure_streak.is_none());
    assert!(at("hooked").standing.failure_streak.as_ref().unwrap().last.message.contains("the hook /srv/hook failed"));

    let tokens = store.tokens().await.unwrap();
    assert_eq!(tokens.iter().map(|token| token.scope).collect::<Vec<_>>(), [TokenScope::Full, TokenScope::ReadOnly]);
    assert_eq!(store.authenticate(TOKEN).await.unwrap().unwrap().id, tokens[0].id);

    let server = ServerUrl::parse("https://ca.example/dir", PlainHttpPolicy::Refused).unwrap();
    let account = Some("https://ca.example/acct/7".to_owned());
    let books = LedgerAccount { account, server, limits: CaLimits::LETS_ENCRYPT };
    let levels = store.ledger(&books, MADE).await.unwrap().levels(MADE);
    assert_eq!(levels.len(), former.rows("ledger").await);
    assert!(levels.iter().any(|level| level.bucket == RateLimitBucket::Orders && level.used == 4), "{levels:?}");

    let stands = PersistRecord::new("stands.example", "ca.example", "https://ca.example/acct/7", true);
    assert!(store.standing(&stands).await.unwrap().unwrap().seen);
    let by_hand = PersistRecord::new("by-hand.example", "ca.example", "https://ca.example/acct/7", false);
    assert!(!store.standing(&by_hand).await.unwrap().unwrap().seen);
    assert_eq!(store.delegated_texts("x.acme.example").await.unwrap(), [stands.content]);
    assert_eq!(former.rows("standing_records").await, 2);
}

async fn its_secrets_can_be_sealed_anew(house: Fixture) {
    let former = FormerRelease::copied(house).await;
    let store = former.open().await;
    let resealed = store.rotate_master_key(|_| {}).await.unwrap();
    assert!(resealed.total > 20 && resealed.done == resealed.total, "{resealed:?}");
    store.close().await;
}

async fn what_it_declared_is_still_the_same(house: Fixture) {
    let former = FormerRelease::copied(house).await;
    let store = former.open().await;
    let key = |text: &str| text.parse::<DeclaredKey>().unwrap();
    let provider = |text: &str, server: &str, fallbacks: Vec<DeclaredKey>, first: bool| DeclaredProvider {
        key: key(text),
        provider: NewProvider {
            name: text.parse().unwrap(),
            email: "ops@example.com".parse().unwrap(),
            server: ServerUrl::parse(server, PlainHttpPolicy::Refused).unwrap(),
            external_account: first.then(|| ExternalAccountBinding {
                key_id: "kid-1".to_owned(),
                key_secret: MacKey::from_stored(EAB_SECRET),
            }),
            profile: first.then(|| "default".parse().unwrap()),
        },
        fallbacks,
        staging: None,
    };
    let wish = |text: &str, provider: &str, algorithm, further: Vec<RequestedName>| DeclaredAutoCertificate {
        key: key(text),
        name: text.parse().unwrap(),
        provider: ProviderReference::Key(key(provider)),
        common_name: format!("{text}.fixture.example").parse().unwrap(),
        key_algorithm: algorithm,
        subject_alternative_names: further,
        profile: None,
    };
    let declared = DeclaredResources {
        providers: vec![
            provider("pebble", "https://127.0.0.1:37997/dir", vec![key("second")], true),
            provider("second", "https://127.0.0.1:41341/dir", Vec::new(), false),
        ],
        auto_certificates: vec![
            wish("www", "pebble", KeyAlgorithm::Secp256r1, vec!["*.fixture.example".parse().unwrap()]),
            wish("rsa", "second", KeyAlgorithm::Rsa2048, Vec::new()),
        ],
        instance: "fixture".to_owned(),
        prune: false,
        complete: true,
    };
    let changes = store.reconcile(&declared).await.unwrap();
    assert!(changes.is_empty(), "{changes:?}");
    // It goes on writing.
    let wishes = store.auto_certificates(ALL, None).await.unwrap().items;
    let free = wishes.iter().find(|wish| wish.name.to_string() == "asked-for").unwrap();
    let again = NewAutoCertificate {
        name: "another".parse().unwrap(),
        provider: free.provider,
        common_name: "another.states.example".parse().unwrap(),
        key_algorithm: KeyAlgorithm::Secp256r1,
        subject_alternative_names: Vec::new(),
        profile: None,
    };
    store.create_auto_certificate(&again, &Actor::autocertd(), 1_000).await.unwrap();
    assert!(store.claim(free.id).await.unwrap().is_some());
    store.close().await;
}
