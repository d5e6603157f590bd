//! The marker beside the master key: which store the key is used with. A database that is gone, or another one, does not
//! pass for a first start.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::config::Config;
use crate::runtime::atomic_file::AtomicFile;
use crate::runtime::files;
use crate::store::{BackupContents, Store, StoreUrl};

/// Where the marker may be: beside the key, or where that folder is not ours to write (a credential of systemd, a mounted
/// secret) in the state directory.
pub(super) struct StoreMarker {
    beside_key: PathBuf,
    in_state: PathBuf,
}

/// The key and the database do not belong together. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum WrongStore {
    /// The file of SQLite is not there, and there was one.
    #[error(
        "the database {} is gone: {} shows that there was one; bring it back, or restore a backup (autocertd restore FILE). \
         To begin anew with nothing, remove {} first",
        database.display(), trace.display(), trace.display()
    )]
    DatabaseMissing {
        /// Where the database should be.
        database: PathBuf,
        /// What shows that there was one.
        trace: PathBuf,
    },
    /// The database has nothing in it, and the key was used with another one.
    #[error(
        "the database is empty, but {} shows that this master key was used with another one; bring that one back, or \
         restore a backup (autocertd restore FILE). To begin anew with nothing, remove {} first",
        marker.display(), marker.display()
    )]
    DatabaseEmpty {
        /// The marker.
        marker: PathBuf,
    },
    /// The database is another one.
    #[error(
        "this master key belongs to another database than the one in the settings (see {}); name the right database or \
         the right key file. If this one is right, remove {} first",
        marker.display(), marker.display()
    )]
    OtherDatabase {
        /// The marker.
        marker: PathBuf,
    },
    /// The marker cannot be read.
    #[error("the marker {} of the database cannot be read; check its owner and mode, or remove it", marker.display())]
    UnreadableMarker {
        /// The marker.
        marker: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl StoreMarker {
    pub(super) fn from_config(config: &Config) -> Self {
        let key = config.key_file();
        let mut name = key.file_name().unwrap_or_default().to_owned();
        name.push(".store");
        Self { beside_key: key.with_file_name(name), in_state: config.state_directory().join("store-identity") }
    }

    /// Refuses to make a database where there was one, before anything is made.
    pub(super) fn check_before_opening(&self, url: &StoreUrl, config: &Config) -> Result<(), WrongStore> {
        let StoreUrl::Sqlite(database) = url else { return Ok(()) };
        if database.exists() {
            return Ok(());
        }
        let first_token = config.state_directory().join(super::FIRST_TOKEN);
        let left = |suffix: &str| {
            let mut name = database.file_name().unwrap_or_default().to_owned();
            name.push(suffix);
            database.with_file_name(name)
        };
        let traces = [&self.beside_key, &self.in_state, &first_token, &left("-wal"), &left(".instances")];
        match traces.into_iter().find(|trace| trace.exists()) {
            Some(trace) => Err(WrongStore::DatabaseMissing { database: database.clone(), trace: trace.clone() }),
            None => Ok(()),
        }
    }

    /// Refuses a store that is not the one of the marker; without a marker it is the first, or an old one, and is noted.
    pub(super) async fn check(&self, store: &Store) -> anyhow::Result<()> {
        let identity = store.identity().await?;
        let Some((marker, known)) = self.read()? else {
            self.write(identity);
            return Ok(());
        };
        if known == Some(identity) {
            return Ok(());
        }
        let is_empty = store.contents().await? == BackupContents::default();
        Err(if is_empty { WrongStore::DatabaseEmpty { marker } } else { WrongStore::OtherDatabase { marker } }.into())
    }

    /// Notes that the key is used with this store from now on. A marker that cannot be kept stops nothing.
    pub(super) fn write(&self, identity: Uuid) {
        let written =
            write_marker_file(&self.beside_key, identity).or_else(|_| write_marker_file(&self.in_state, identity));
        if let Err(error) = written {
            tracing::warn!(
                "the marker {} cannot be written, so that a lost database will pass for a new one: {error}",
                self.in_state.display()
            );
        }
    }

    /// A marker that holds no identity fits no store.
    fn read(&self) -> Result<Option<(PathBuf, Option<Uuid>)>, WrongStore> {
        for marker in [&self.beside_key, &self.in_state] {
            match files::read_text_at_once(marker) {
                Ok(text) => {
                    let identity = text.lines().find_map(|line| Uuid::parse_str(line.trim()).ok());
                    return Ok(Some((marker.clone(), identity)));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(source) => return Err(WrongStore::UnreadableMarker { marker: marker.clone(), source }),
            }
        }
        Ok(None)
    }
}

fn write_marker_file(marker: &Path, identity: Uuid) -> io::Result<()> {
    let (draft, mut file) = AtomicFile::new_file(marker)?;
    writeln!(file, "{HEADER}{identity}")?;
    file.sync_all()?;
    draft.persist()
}

const HEADER: &str = "\
# The database that the master key of autocertd is used with. While this file is here, no other database is taken, and a
# lost one is not replaced by an empty one.
";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::app::{App, IfStoreMissing};
    use crate::domain::value::token::TokenScope;

    struct StorePair {
        folder: tempfile::TempDir,
        config: Config,
    }

    impl StorePair {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let config = toml::from_str(&format!("state_directory = '{}'", folder.path().display())).unwrap();
            Self { folder, config }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// Opens the store and closes it again; with a token in it, where it may be made.
        async fn start(&self, place: IfStoreMissing) -> anyhow::Result<()> {
            let app = App::open(&self.config, place).await?;
            if place == IfStoreMissing::Create {
                app.store.create_token(&"a token".parse().unwrap(), TokenScope::Full).await?;
            }
            app.store.close().await;
            Ok(())
        }

        async fn refused(&self, place: IfStoreMissing) -> WrongStore {
            let error = self.start(place).await.expect_err("it was taken");
            let chain = format!("{error:#}");
            assert!(chain.contains("remove"), "no way out: {chain}");
            error.downcast().expect("it is refused as the wrong store")
        }

        fn lose_database(&self) {
            for name in ["autocertd.db", "autocertd.db-wal", "autocertd.db-shm"] {
                _ = fs::remove_file(self.path(name));
            }
            _ = fs::remove_dir_all(self.path("autocertd.db.instances"));
        }
    }

    #[tokio::test]
    async fn a_lost_database_is_not_replaced_by_an_empty_one() {
        let house = StorePair::new();
        house.start(IfStoreMissing::Create).await.unwrap();
        house.start(IfStoreMissing::Create).await.unwrap();
        assert!(house.path("master.key.store").exists());
        house.lose_database();
        assert!(matches!(house.refused(IfStoreMissing::Create).await, WrongStore::DatabaseMissing { .. }));
        assert!(!house.path("autocertd.db").exists(), "a refused start has made a database");
        // An empty file, as a mount or a restore that broke off leaves it.
        fs::write(house.path("autocertd.db"), "").unwrap();
        assert!(matches!(house.refused(IfStoreMissing::Create).await, WrongStore::DatabaseEmpty { .. }));
        assert!(matches!(house.refused(IfStoreMissing::Fail).await, WrongStore::DatabaseEmpty { .. }));
        // A backup comes back into it, and it is the store from then on.
        house.start(IfStoreMissing::CreateForRestore).await.unwrap();
        house.start(IfStoreMissing::Create).await.unwrap();
        // Whoever wants to begin anew says so.
        house.lose_database();
        fs::remove_file(house.path("master.key.store")).unwrap();
        house.start(IfStoreMissing::Create).await.unwrap();
    }

    #[tokio::test]
    async fn a_key_that_belongs_to_another_store_is_refused() {
        let (house, other) = (StorePair::new(), StorePair::new());
        house.start(IfStoreMissing::Create).await.unwrap();
        fs::copy(house.path("master.key"), other.path("master.key")).unwrap();
        // A key that was made or given before the first start.
        other.start(IfStoreMissing::Create).await.unwrap();
        house.lose_database();
        fs::copy(other.path("autocertd.db"), house.path("autocertd.db")).unwrap();
        assert!(matches!(house.refused(IfStoreMissing::Create).await, WrongStore::OtherDatabase { .. }));
        assert!(matches!(house.refused(IfStoreMissing::CreateForRestore).await, WrongStore::OtherDatabase { .. }));
    }

    #[tokio::test]
    async fn a_store_of_an_earlier_version_gets_its_marker() {
        let house = StorePair::new();
        house.start(IfStoreMissing::Create).await.unwrap();
        fs::remove_file(house.path("master.key.store")).unwrap();
        house.start(IfStoreMissing::Fail).await.unwrap();
        assert!(house.path("master.key.store").exists());
        // Without a marker the traces beside the database tell that there was one.
        fs::remove_file(house.path("master.key.store")).unwrap();
        fs::remove_file(house.path("autocertd.db")).unwrap();
        assert!(matches!(house.refused(IfStoreMissing::Create).await, WrongStore::DatabaseMissing { .. }));
    }

    #[test]
    fn beside_a_credential_the_marker_goes_to_the_state_directory() {
        let folder = tempfile::tempdir().unwrap();
        let in_state = folder.path().join("store-identity");
        let marker = StoreMarker { beside_key: PathBuf::from("/proc/autocertd/key.store"), in_state: in_state.clone() };
        assert!(marker.read().unwrap().is_none());
        marker.write(Uuid::from_u128(7));
        let (read_from, identity) = marker.read().unwrap().unwrap();
        assert_eq!((read_from, identity), (in_state, Some(Uuid::from_u128(7))));
    }
}
