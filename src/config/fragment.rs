//! `conf.d`: further files beside the settings file, in the order of their names, for what is declared.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::Url;

use crate::config::declared::{AutoCertificateEntry, ProviderEntry};
use crate::config::delivery::DeliveryEntry;
use crate::config::{Config, ConfigError, parse, read_text};
use crate::domain::declared::DeclaredKey;

/// What a file in `conf.d` may hold.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ConfigFragment {
    #[serde(rename = "provider")]
    providers: Vec<ProviderEntry>,
    #[serde(rename = "auto_certificate")]
    auto_certificates: Vec<AutoCertificateEntry>,
    #[serde(rename = "delivery")]
    pub(super) deliveries: Vec<DeliveryEntry>,
}

/// What lies in the folder `conf.d` beside a settings file.
#[derive(Debug, Default)]
struct FragmentFolder {
    /// The files to read, in order.
    files: Vec<PathBuf>,
    /// Links that lead nowhere.
    dangling_links: Vec<PathBuf>,
    /// Files that are not read although they look like settings: their names end otherwise.
    misnamed: Vec<PathBuf>,
}

/// What the settings could not be read from, or was passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SkippedFragments {
    /// Links in `conf.d` that lead nowhere. What their files declare is unknown.
    pub dangling_links: Vec<PathBuf>,
    /// Files in `conf.d` that are not read because of their names.
    pub misnamed: Vec<PathBuf>,
    /// Declared auto-certificates whose provider is in no file that could be read.
    pub left_out_keys: Vec<DeclaredKey>,
    /// Files whose text has a password or token in it.
    pub files_with_secrets: Vec<PathBuf>,
}

impl Config {
    /// Adds what the files in the folder `conf.d` beside the settings file declare.
    pub(super) fn read_fragments(&mut self, settings: &Path) -> Result<(), ConfigError> {
        let FragmentFolder { files, dangling_links: dangling, misnamed: unread } =
            FragmentFolder::read_beside(settings)?;
        let mut origins = KeyOrigins::default();
        origins.record(settings, ConfigFragment::keys(&self.providers, &self.auto_certificates, &self.deliveries))?;
        let mut with_secrets = Vec::new();
        if self.store.has_password() || has_secrets(&self.deliveries) {
            with_secrets.push(settings.to_owned());
        }
        for path in files {
            let fragment: ConfigFragment = parse(&read_text(&path)?, &path)?;
            origins.record(
                &path,
                ConfigFragment::keys(&fragment.providers, &fragment.auto_certificates, &fragment.deliveries),
            )?;
            if has_secrets(&fragment.deliveries) {
                with_secrets.push(path);
            }
            self.providers.extend(fragment.providers);
            self.auto_certificates.extend(fragment.auto_certificates);
            self.deliveries.extend(fragment.deliveries);
        }
        self.skipped_fragments = SkippedFragments {
            dangling_links: dangling,
            misnamed: unread,
            left_out_keys: Vec::new(),
            files_with_secrets: with_secrets,
        };
        if !self.is_complete() {
            self.leave_out_unresolved();
        }
        Ok(())
    }

    /// Where a file is missing, what refers to a provider that is in no other file is not refused, but left as it is stored.
    fn leave_out_unresolved(&mut self) {
        let providers: HashSet<DeclaredKey> = self.providers.iter().map(|entry| entry.key.clone()).collect();
        for provider in &mut self.providers {
            provider.fallback.retain(|key| providers.contains(key));
            provider.staging = provider.staging.take().filter(|key| providers.contains(key));
        }
        let known: HashSet<&DeclaredKey> = providers.iter().collect();
        let (resolved, unresolved): (Vec<_>, Vec<_>) = std::mem::take(&mut self.auto_certificates)
            .into_iter()
            .partition(|entry| entry.resolve_provider(&known).is_ok());
        self.auto_certificates = resolved;
        self.skipped_fragments.left_out_keys = unresolved.into_iter().map(|entry| entry.key).collect();
    }
}

/// Whether a URL to which a reload is sent may be secret.
fn has_secrets(deliveries: &[DeliveryEntry]) -> bool {
    let urls = deliveries.iter().filter_map(|entry| entry.reload.as_ref()?.url.as_deref());
    urls.filter_map(|url| Url::parse(url).ok()).any(|url| url.password().is_some() || url.query().is_some())
}

impl ConfigFragment {
    fn keys(
        providers: &[ProviderEntry],
        auto_certificates: &[AutoCertificateEntry],
        deliveries: &[DeliveryEntry],
    ) -> Vec<(&'static str, DeclaredKey)> {
        let providers = providers.iter().map(|entry| ("provider", entry.key.clone()));
        let auto_certificates = auto_certificates.iter().map(|entry| ("auto_certificate", entry.key.clone()));
        let deliveries = deliveries.iter().map(|entry| ("delivery", entry.key.clone()));
        providers.chain(auto_certificates).chain(deliveries).collect()
    }
}

/// In which file each key stands, so that a second one can be told with both files.
#[derive(Debug, Default)]
struct KeyOrigins(HashMap<(&'static str, DeclaredKey), PathBuf>);

impl KeyOrigins {
    /// Takes note of the keys of a file.
    ///
    /// # Errors
    /// [`ConfigError::Duplicate`] where a key is there already.
    fn record(&mut self, file: &Path, keys: Vec<(&'static str, DeclaredKey)>) -> Result<(), ConfigError> {
        for (kind, key) in keys {
            if let Some(first) = self.0.insert((kind, key.clone()), file.to_owned()) {
                return Err(ConfigError::Duplicate { kind, key, first, second: file.to_owned() });
            }
        }
        Ok(())
    }
}

impl FragmentFolder {
    /// Looks into the folder; it is empty where there is none. Hidden files and what editors and package managers leave
    /// behind count for nothing, so that a Kubernetes volume with its `..data` link serves, too.
    ///
    /// # Errors
    /// Where the folder cannot be read, or holds under the name of a settings file something that is no file.
    fn read_beside(settings: &Path) -> Result<Self, ConfigError> {
        let folder = settings.with_file_name(FRAGMENT_FOLDER);
        let unreadable = |path: &Path, source| ConfigError::Unreadable { path: path.to_owned(), source };
        match folder.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(unreadable(&folder, source)),
            Ok(_) if !folder.try_exists().map_err(|source| unreadable(&folder, source))? => {
                return Ok(Self { dangling_links: vec![folder], ..Self::default() });
            }
            Ok(_) => {}
        }
        let mut found = Self::default();
        for (kind, path) in list_by_kind(&folder)? {
            match kind {
                NameKind::Settings => {
                    let place = if is_file(&path)? { &mut found.files } else { &mut found.dangling_links };
                    place.push(path);
                }
                NameKind::Other if found.misnamed.len() < MAX_UNREAD => found.misnamed.push(path),
                NameKind::Other | NameKind::Leftover => {}
            }
        }
        Ok(found)
    }
}

/// The paths in the folder `conf.d` beside a settings file that have names of settings, whatever stands there.
pub(super) fn fragment_paths(settings: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let folder = settings.with_file_name(FRAGMENT_FOLDER);
    let found = if folder.exists() { list_by_kind(&folder)? } else { Vec::new() };
    Ok(found.into_iter().filter(|(kind, _)| *kind == NameKind::Settings).map(|(_, path)| path).collect())
}

fn list_by_kind(folder: &Path) -> Result<Vec<(NameKind, PathBuf)>, ConfigError> {
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|source| ConfigError::Unreadable { path: folder.to_owned(), source })?;
    let mut names: Vec<_> = entries.into_iter().map(|entry| entry.file_name()).collect();
    names.sort();
    Ok(names.into_iter().map(|name| (NameKind::from_name(&name.to_string_lossy()), folder.join(name))).collect())
}

/// What the name of a file in `conf.d` says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NameKind {
    Settings,
    /// Hidden, or left behind by an editor or a package manager.
    Leftover,
    /// Perhaps it was meant to be read.
    Other,
}

impl NameKind {
    fn from_name(name: &str) -> Self {
        let lower = name.to_lowercase();
        if name.starts_with(['.', '#']) || LEFTOVER_SUFFIXES.iter().any(|ending| lower.ends_with(ending)) {
            Self::Leftover
        } else {
            let extension = Path::new(name).extension().unwrap_or_default();
            let resembles = |other| extension.eq_ignore_ascii_case(other);
            match () {
                () if extension == "toml" => Self::Settings,
                () if resembles("toml") || resembles("conf") => Self::Other,
                () => Self::Leftover,
            }
        }
    }
}

/// Whether there is a file to read: `false` for a link that leads nowhere.
fn is_file(path: &Path) -> Result<bool, ConfigError> {
    match path.metadata() {
        // `ln -s /dev/null` masks a file, as it does for systemd.
        Ok(metadata) if metadata.is_file() || is_null(path) => Ok(true),
        Ok(metadata) => {
            let kind = if metadata.is_dir() { "a folder" } else { "no regular file" };
            Err(ConfigError::NoFile { path: path.to_owned(), kind })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
    }
}

pub(super) fn is_null(path: &Path) -> bool {
    path.canonicalize().is_ok_and(|target| target == Path::new("/dev/null"))
}

const FRAGMENT_FOLDER: &str = "conf.d";
const LEFTOVER_SUFFIXES: [&str; 16] = [
    "~",
    ".bak",
    ".swp",
    ".swo",
    ".orig",
    ".rej",
    ".tmp",
    ".dpkg-old",
    ".dpkg-new",
    ".dpkg-dist",
    ".dpkg-tmp",
    ".rpmsave",
    ".rpmnew",
    ".rpmorig",
    ".ucf-dist",
    "#",
];
const MAX_UNREAD: usize = 20;

#[cfg(test)]
mod tests {
    use std::fs::{create_dir, create_dir_all, read_dir, remove_file, rename, write};
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    const PROVIDER: &str = "[[provider]]\nkey = 'le'\nemail = 'a@example.com'\nserver = 'https://ca.example/dir'\n";

    fn delivery(key: &str) -> String {
        format!("[[delivery]]\nkey = '{key}'\nhook.command = ['/bin/true']\n")
    }

    fn auto_certificate(key: &str, provider: &str) -> String {
        format!("[[auto_certificate]]\nkey = '{key}'\nprovider = '{provider}'\ncommon_name = '{key}.example.com'\n")
    }

    /// A folder with settings and an empty `conf.d`.
    fn folder(settings: &str) -> (TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (file, fragments) = (folder.path().join("autocertd.toml"), folder.path().join(FRAGMENT_FOLDER));
        write(&file, settings).unwrap();
        create_dir(&fragments).unwrap();
        (folder, file, fragments)
    }

    fn keys(config: &Config) -> Vec<&str> {
        config.deliveries.iter().map(|entry| entry.key.as_str()).collect()
    }

    #[test]
    fn hidden_files_and_leftovers_are_no_settings() {
        let (_folder, settings, fragments) = folder("");
        write(fragments.join("10-shop.toml"), format!("\u{feff}{}", delivery("shop")).replace('\n', "\r\n")).unwrap();
        for name in [
            ".hidden.toml",
            ".10-shop.toml.swp",
            ".#10-shop.toml",
            "#10-shop.toml#",
            "10-shop.toml~",
            "10-shop.toml.bak",
            "10-shop.toml.dpkg-old",
            "10-shop.toml.dpkg-new",
            "10-shop.toml.dpkg-dist",
            "10-shop.toml.rpmsave",
            "10-shop.toml.rpmnew",
            "10-shop.toml.orig",
            "4913",
            "README",
        ] {
            write(fragments.join(name), "this is not TOML").unwrap();
        }
        // Emacs locks with a link to nowhere, and a link to /dev/null masks a file.
        symlink("me@host.1234:5678", fragments.join(".#20-mail.toml")).unwrap();
        symlink("/dev/null", fragments.join("30-masked.toml")).unwrap();
        let config = Config::load(Some(&settings)).unwrap();
        assert_eq!((keys(&config), config.is_complete()), (vec!["shop"], true));
        assert!(config.warnings().iter().all(|caution| !caution.contains("conf.d")), "{:?}", config.warnings());

        for name in ["40-UPPER.TOML", "50-other.conf"] {
            write(fragments.join(name), delivery("other")).unwrap();
        }
        let config = Config::load(Some(&settings)).unwrap();
        let told = config.warnings().concat();
        assert!(
            keys(&config) == ["shop"] && told.contains("40-UPPER.TOML") && told.contains("50-other.conf"),
            "{told}"
        );
    }

    #[test]
    fn a_config_map_of_kubernetes_is_read_and_exchanged() {
        let (_folder, settings, fragments) = folder("");
        for (version, key) in [("..2026_01", "first"), ("..2026_02", "second")] {
            create_dir_all(fragments.join(version)).unwrap();
            write(fragments.join(version).join("web.toml"), delivery(key)).unwrap();
        }
        symlink("..2026_01", fragments.join("..data")).unwrap();
        symlink("..data/web.toml", fragments.join("web.toml")).unwrap();
        assert_eq!(keys(&Config::load(Some(&settings)).unwrap()), ["first"]);
        symlink("..2026_02", fragments.join("..data_tmp")).unwrap();
        rename(fragments.join("..data_tmp"), fragments.join("..data")).unwrap();
        assert_eq!(keys(&Config::load(Some(&settings)).unwrap()), ["second"]);
    }

    #[test]
    fn a_dangling_link_is_named_and_stops_only_what_needs_it() {
        let own = format!("{}{}[declared]\nprune = true\n", delivery("web"), auto_certificate("lost", "zerossl"));
        let (_folder, settings, fragments) = folder(&own);
        let fallback =
            format!("{PROVIDER}fallback = ['zerossl']\nstaging = 'zerossl'\n{}", auto_certificate("www", "le"));
        write(fragments.join("10-le.toml"), fallback).unwrap();
        let link = fragments.join("20-zerossl.toml");
        symlink("/nowhere/zerossl.toml", &link).unwrap();
        let config = Config::load(Some(&settings)).unwrap();
        let declared = config.declared().unwrap();
        assert!(!declared.complete && declared.prune && !config.is_complete());
        let wishes: Vec<&str> = declared.auto_certificates.iter().map(|wish| wish.key.as_str()).collect();
        assert_eq!((wishes, keys(&config)), (vec!["www"], vec!["web"]));
        let told = config.warnings().join("\n");
        assert!(told.contains(link.to_str().unwrap()) && told.contains("[[auto_certificate]] lost is left"), "{told}");

        // What is in force is better than a part of it.
        let running = Config { origin: Some(settings.clone()), ..Config::default() };
        let error = running.reload().unwrap_err().to_string();
        assert!(error.contains(link.to_str().unwrap()) && error.contains("a file that does not exist"), "{error}");
        remove_file(&link).unwrap();
        let error = running.reload().unwrap_err().to_string();
        assert!(error.contains("staging = \"zerossl\" is the key of no"), "{error}");
    }

    #[test]
    fn a_folder_or_the_settings_behind_a_dangling_link_are_not_taken_for_nothing() {
        let (folder, settings, fragments) = folder("");
        std::fs::remove_dir(&fragments).unwrap();
        symlink("/nowhere/conf.d", &fragments).unwrap();
        let config = Config::load(Some(&settings)).unwrap();
        assert!(!config.is_complete() && config.warnings()[0].contains(fragments.to_str().unwrap()));
        let link = folder.path().join("link.toml");
        symlink("/nowhere/autocertd.toml", &link).unwrap();
        let error = Config::load(Some(&link)).unwrap_err().to_string();
        assert!(error.contains(link.to_str().unwrap()), "{error}");
        assert!(matches!(crate::config::existing_path(&link), Err(ConfigError::DanglingLink { .. })));
    }

    #[test]
    fn what_is_no_file_and_what_is_there_twice_is_told_with_each_path() {
        let (_folder, settings, fragments) = folder(&format!("{}{}", delivery("a"), delivery("a")));
        let refused = || Config::load(Some(&settings)).unwrap_err().to_string();
        assert!(refused().ends_with(&format!("both in {}; give each its own", settings.display())), "{}", refused());
        write(&settings, PROVIDER).unwrap();
        let (first, second) = (fragments.join("10-a.toml"), fragments.join("20-b.toml"));
        write(&first, PROVIDER).unwrap();
        let words = format!("one in {} and one in {}", settings.display(), first.display());
        assert!(refused().contains("[[provider]] le") && refused().contains(&words), "{}", refused());
        write(&first, auto_certificate("www", "le")).unwrap();
        write(&second, auto_certificate("www", "le")).unwrap();
        let words = format!("one in {} and one in {}", first.display(), second.display());
        assert!(refused().contains("[[auto_certificate]] www") && refused().contains(&words), "{}", refused());
        remove_file(&second).unwrap();
        create_dir(&second).unwrap();
        assert!(refused().contains(second.to_str().unwrap()) && refused().contains("is a folder"), "{}", refused());
        std::fs::remove_dir(&second).unwrap();
        symlink("/dev/zero", &second).unwrap();
        assert!(refused().contains("is no regular file"), "{}", refused());
        remove_file(&second).unwrap();
        symlink("20-b.toml", &second).unwrap();
        assert!(refused().contains(second.to_str().unwrap()), "{}", refused());
        assert_eq!(read_dir(&fragments).unwrap().count(), 2);
    }
}
