//! Secrets that others on this machine can read or change: files with secrets, settings with a password in them, the state
//! directory, and folders into which private keys are delivered.

use std::fmt;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use nix::unistd::geteuid;

use crate::config::store::StoreUrl;
use crate::config::{Config, secret};

/// A path that is open to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// The path.
    pub path: PathBuf,
    /// Who can do what with it, in words.
    pub fault: String,
    /// What ends that, in words.
    pub remedy: String,
    /// Whether a secret is open to others now, or can be exchanged by them.
    pub is_severe: bool,
}

impl fmt::Display for Exposure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.fault, self.remedy)
    }
}

/// What of these settings is open to others, each path once. What is not there, or cannot be looked at, is not this check's
/// business.
pub fn find_exposures(config: &Config) -> Vec<Exposure> {
    let mut files = secret::secret_files(config);
    files.sort();
    files.dedup();
    let secrets = files.iter().filter_map(|file| check_file(file, "a secret"));
    let settings =
        config.skipped_fragments.files_with_secrets.iter().filter_map(|file| check_file(file, "a password or token"));
    let state = state_folders(config);
    let state = state.iter().filter_map(|folder| check_state_folder(folder));
    let mut folders: Vec<&PathBuf> =
        config.deliveries.iter().filter_map(|entry| Some(&entry.files.as_ref()?.directory)).collect();
    folders.sort();
    folders.dedup();
    let delivered = folders.into_iter().filter_map(|folder| check_delivery_folder(folder));
    secrets.chain(settings).chain(state).chain(delivered).chain(check_key_modes(config)).collect()
}

fn check_file(file: &Path, what: &str) -> Option<Exposure> {
    let (path, metadata) = reachable(file)?;
    if is_mounted_secret(&path) {
        return None;
    }
    let shown = file.display();
    let act = match metadata.mode() {
        mode if mode & OTHERS_WRITE != 0 => "change",
        mode if mode & OTHERS_READ != 0 => "read",
        _ => return None,
    };
    Some(Exposure {
        path: file.to_owned(),
        fault: format!("everybody on this machine can {act} {shown}, which holds {what}"),
        remedy: format!("`chmod 600 {shown}`"),
        is_severe: true,
    })
}

/// The state directory, and the folder of a SQLite file elsewhere.
fn state_folders(config: &Config) -> Vec<PathBuf> {
    let state = config.state_directory();
    let database = match config.store.settings(&state).map(|settings| settings.url) {
        Ok(StoreUrl::Sqlite(path)) => path.parent().map(Path::to_owned),
        Ok(StoreUrl::Postgres(_)) | Err(_) => None,
    };
    let elsewhere = database.filter(|folder| *folder != state && !folder.as_os_str().is_empty());
    std::iter::once(state).chain(elsewhere).collect()
}

/// The sealed database and the key file lie there. Whoever can write into it can put others in their place.
fn check_state_folder(folder: &Path) -> Option<Exposure> {
    let (_, metadata) = reachable(folder)?;
    if !metadata.is_dir() || is_volume_of_pod(&metadata) {
        return None;
    }
    let mode = metadata.mode();
    let group_is_ours = metadata.uid() != geteuid().as_raw();
    let (who, act) = match mode {
        mode if mode & OTHERS_WRITE != 0 => ("everybody on this machine", CHANGE),
        // Where another owns it, such as a volume of Kubernetes with an fsGroup, we come in by that group ourselves.
        mode if mode & GROUP_WRITE != 0 && !group_is_ours => ("its group", CHANGE),
        mode if mode & (OTHERS_READ | OTHERS_EXECUTE) != 0 => ("everybody on this machine", "look into"),
        _ => return None,
    };
    let shown = folder.display();
    Some(Exposure {
        path: folder.to_owned(),
        fault: format!("{who} can {act} the state directory {shown}, where the database or the master key is"),
        remedy: format!("`chmod 700 {shown}`"),
        is_severe: act == CHANGE,
    })
}

/// Web servers may come into such a folder, so that only a change of it counts.
fn check_delivery_folder(folder: &Path) -> Option<Exposure> {
    let (_, metadata) = reachable(folder)?;
    let open = metadata.is_dir() && metadata.mode() & OTHERS_WRITE != 0 && !is_volume_of_pod(&metadata);
    let shown = folder.display();
    open.then(|| Exposure {
        path: folder.to_owned(),
        fault: format!("everybody on this machine can change what is in {shown}, where private keys are delivered"),
        remedy: format!("`chmod o-w {shown}`"),
        is_severe: true,
    })
}

/// Deliveries whose settings let everybody read private keys.
fn check_key_modes(config: &Config) -> impl Iterator<Item = Exposure> {
    config.deliveries.iter().filter_map(|entry| {
        let files = entry.files.as_ref()?;
        let mode = files.key_mode.filter(|mode| mode.0 & (OTHERS_READ | OTHERS_WRITE) != 0)?;
        Some(Exposure {
            path: files.directory.clone(),
            fault: format!(
                "[[delivery]] {}: with files.key_mode = \"{:04o}\" everybody on this machine can read the private keys in {}",
                entry.key,
                mode.0,
                files.directory.display()
            ),
            remedy: "name a group and leave key_mode out, or take away the rights of others".to_owned(),
            is_severe: true,
        })
    })
}

/// The file itself and what is known of it, where others come as far as to it.
fn reachable(path: &Path) -> Option<(PathBuf, Metadata)> {
    let path = path.canonicalize().ok()?;
    let metadata = path.metadata().ok()?;
    let enters = |folder: &Path| folder.metadata().is_ok_and(|metadata| metadata.mode() & OTHERS_EXECUTE != 0);
    path.ancestors().skip(1).all(enters).then_some((path, metadata))
}

/// Whether it was mounted for this service: a credential of systemd, a secret of a container, or one of Kubernetes, whose
/// files lie in a folder such as `..2026_01_31_12_00_00.123`. The modes there are not the operator's to choose, and nobody
/// else sees the mount.
fn is_mounted_secret(path: &Path) -> bool {
    let of_kubernetes =
        |part: Component<'_>| matches!(part, Component::Normal(name) if name.as_encoded_bytes().starts_with(b".."));
    SECRET_MOUNTS.iter().any(|mount| path.starts_with(mount)) || path.components().any(of_kubernetes)
}

/// An `emptyDir` is root's and open to the whole pod, which is this program and what was put beside it on purpose.
fn is_volume_of_pod(metadata: &Metadata) -> bool {
    metadata.uid() == 0 && !geteuid().is_root() && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

const SECRET_MOUNTS: [&str; 2] = ["/run/credentials", "/run/secrets"];
const CHANGE: &str = "change what is in";
const GROUP_WRITE: u32 = 0o020;
const OTHERS_READ: u32 = 0o004;
const OTHERS_WRITE: u32 = 0o002;
const OTHERS_EXECUTE: u32 = 0o001;

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, create_dir, create_dir_all, set_permissions, write};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn chmod(path: &Path, mode: u32) {
        set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_is_open_where_others_come_to_it_and_may_read_or_change_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        write(&file, "s3cret").unwrap();
        let told = |folder_mode, file_mode| {
            chmod(&file, file_mode);
            chmod(folder.path(), folder_mode);
            check_file(&file, "a secret").map(|exposure| exposure.to_string())
        };
        assert!(told(0o755, 0o644).unwrap().starts_with("everybody on this machine can read "));
        assert!(told(0o755, 0o666).unwrap().starts_with("everybody on this machine can change "));
        assert!(told(0o700, 0o644).is_none() && told(0o755, 0o640).is_none());
        assert!(check_file(Path::new("/nowhere/token"), "a secret").is_none());
    }

    #[test]
    fn a_mounted_secret_of_kubernetes_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        chmod(folder.path(), 0o755);
        let version = folder.path().join("..2026_01_31_12_00_00.123");
        create_dir(&version).unwrap();
        chmod(&version, 0o755);
        write(version.join("token"), "s3cret").unwrap();
        chmod(&version.join("token"), 0o444);
        symlink("..2026_01_31_12_00_00.123", folder.path().join("..data")).unwrap();
        symlink("..data/token", folder.path().join("token")).unwrap();
        assert_eq!(check_file(&folder.path().join("token"), "a secret"), None);
        assert!(is_mounted_secret(Path::new("/run/credentials/autocertd.service/ionos-token")));
        assert!(!is_mounted_secret(Path::new("/etc/autocertd/token")));
    }

    #[test]
    fn settings_folders_and_modes_that_are_open_are_told_once_each() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        create_dir_all(at("conf.d")).unwrap();
        for name in ["state", "keys"] {
            create_dir(at(name)).unwrap();
        }
        write(at("key"), "x").unwrap();
        let root = folder.path().display();
        let settings = format!(
            "state_directory = '{root}/state'\n[store]\nurl = 'postgres://me:hunter2@db.example/certs'\n\
             [dns.ionos]\ntoken_file = '{root}/key'\n\
             [[delivery]]\nkey = 'web'\nfiles = {{ directory = '{root}/keys', key_mode = '0644', pkcs12_password_file = '{root}/key' }}\n"
        );
        write(at("autocertd.toml"), settings).unwrap();
        let fragment = "[[delivery]]\nkey = 'post'\nreload = { url = 'http://127.0.0.1/reload?token=abc' }\n";
        write(at("conf.d/a.toml"), fragment).unwrap();
        write(at("conf.d/b.toml"), "[[delivery]]\nkey = 'b'\nreload = { url = 'http://127.0.0.1/reload' }\n").unwrap();
        let modes = |folder_mode, file_mode| {
            for name in ["conf.d", "state", "keys", "."] {
                chmod(&at(name), folder_mode);
            }
            for name in ["autocertd.toml", "conf.d/a.toml", "conf.d/b.toml", "key"] {
                chmod(&at(name), file_mode);
            }
            let config = Config::load(Some(&at("autocertd.toml"))).unwrap();
            find_exposures(&config).into_iter().map(|exposure| exposure.path).collect::<Vec<_>>()
        };
        let all = ["key", "autocertd.toml", "conf.d/a.toml", "state", "keys", "keys"].map(at);
        assert_eq!(modes(0o777, 0o644), all);
        assert_eq!(modes(0o755, 0o640), [at("state"), at("keys")]);
        chmod(&at("state"), 0o770);
        let config = Config::load(Some(&at("autocertd.toml"))).unwrap();
        assert!(find_exposures(&config)[0].fault.starts_with("its group can change what is in the state directory"));
        chmod(&at("state"), 0o700);
        assert_eq!(find_exposures(&config).len(), 1, "the mode of the keys alone");
    }
}
