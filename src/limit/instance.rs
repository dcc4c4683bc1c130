//! Which gateway this is, among those that share a store.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use uuid::Uuid;

/// Returns the name of the gateway whose state is in `data_dir`: a UUID that it keeps for ever. One
/// that has none yet gets one.
///
/// # Errors
/// When the file `instance_id` there cannot be read or written, or holds something else.
pub fn instance_id(data_dir: &Path) -> io::Result<String> {
    if let Some(id) = known_instance_id(data_dir)? {
        return Ok(id);
    }
    // As the ledger makes it: what is in there is for nobody else.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)?;
    let new = data_dir.join(format!("{FILE}.{}.tmp", Uuid::new_v4()));
    let linked = write(&new).and_then(|()| fs::hard_link(&new, data_dir.join(FILE)));
    drop(fs::remove_file(&new));
    match linked {
        // Another process was faster.
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    known_instance_id(data_dir)?.ok_or_else(|| ErrorKind::NotFound.into())
}

/// As [`instance_id`], `None` for a gateway that has none yet.
///
/// # Errors
/// As there.
pub fn known_instance_id(data_dir: &Path) -> io::Result<Option<String>> {
    let path = data_dir.join(FILE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io::Error::new(error.kind(), at(&path, error))),
    };
    match Uuid::try_parse(text.trim()) {
        Ok(id) => Ok(Some(id.to_string())),
        Err(_) => {
            let wrong = "holds no UUID; remove it, and the gateway gets a new name";
            Err(io::Error::new(ErrorKind::InvalidData, at(&path, wrong)))
        }
    }
}

/// Put in place whole: a gateway that is killed meanwhile must not have half a name.
fn write(path: &PathBuf) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    writeln!(file, "{}", Uuid::new_v4())?;
    file.sync_all()
}

fn at(path: &Path, what: impl std::fmt::Display) -> String {
    format!("{}: {what}", path.display())
}

const FILE: &str = "instance_id";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("data");
        assert_eq!(known_instance_id(&data_dir).unwrap(), None);
        let id = instance_id(&data_dir).unwrap();
        assert_eq!(instance_id(&data_dir).unwrap(), id);
        assert_eq!(known_instance_id(&data_dir).unwrap(), Some(id.clone()));
        let text = fs::read_to_string(data_dir.join(FILE)).unwrap();
        assert_eq!(text, format!("{id}\n"));
        assert_eq!(fs::read_dir(data_dir).unwrap().count(), 1);
    }

    #[test]
    fn processes_that_begin_together_agree() {
        let dir = tempfile::tempdir().unwrap();
        let ids: std::collections::HashSet<_> = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| instance_id(dir.path()).unwrap()))
                .collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(ids.len(), 1);
    }

    #[test]
    fn a_name_that_is_none_is_told_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE), "gateway-1\n").unwrap();
        let error = instance_id(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains("instance_id") && error.contains("UUID"),
            "{error}"
        );
    }
}
