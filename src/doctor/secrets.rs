//! Files with secrets: nobody may read them but their owner and its group.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::domain::finding::{Check, Finding, Subject};

/// What there is to say of these files. One that is not there is not this check's business.
pub fn secrets(files: &[PathBuf]) -> Vec<Finding> {
    let open: Vec<&PathBuf> = files.iter().filter(|file| is_open(file)).collect();
    if open.is_empty() {
        return vec![Finding::ok(&Subject::SetUp, Check::Secrets, "others cannot read them")];
    }
    let fault = |file: &PathBuf| {
        let detail = format!("everybody on this machine can read {}", file.display());
        Finding::fault(&Subject::SetUp, Check::Secrets, detail, format!("`chmod 600 {}`", file.display()))
    };
    open.into_iter().map(fault).collect()
}

/// Whether others may read the file, and come as far as to it.
fn is_open(file: &Path) -> bool {
    let allows =
        |path: &Path, bit: u32| std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & bit != 0);
    let Ok(file) = std::fs::canonicalize(file) else { return false };
    allows(&file, READ_BY_OTHERS) && file.ancestors().skip(1).all(|folder| allows(folder, ENTERED_BY_OTHERS))
}

const READ_BY_OTHERS: u32 = 0o004;
const ENTERED_BY_OTHERS: u32 = 0o001;

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};

    use super::*;

    #[test]
    fn a_file_is_open_where_others_come_to_it_and_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "s3cret").unwrap();
        let open = |folder_mode, file_mode| {
            set_permissions(&file, Permissions::from_mode(file_mode)).unwrap();
            set_permissions(folder.path(), Permissions::from_mode(folder_mode)).unwrap();
            is_open(&file)
        };
        assert!(open(0o755, 0o644) && !open(0o700, 0o644) && !open(0o755, 0o640));
        assert!(!is_open(Path::new("/nowhere/token")));
    }
}
