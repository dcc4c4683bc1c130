//! What can go wrong with the file, and what that is about.

use rusqlite::ErrorCode;

/// Why something was not done. Texts are SQLite's own and hold nothing of what is in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It may work the next time, over the same connection: the disk is full, somebody else writes.
    Passing(String),
    /// The file is not what it should be; only opening it anew may help.
    File(String),
    /// Only what was asked is at fault.
    Question(String),
}

impl Fault {
    pub(super) fn text(&self) -> &str {
        let (Self::Passing(text) | Self::File(text) | Self::Question(text)) = self;
        text
    }
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        let Some(code) = error.sqlite_error_code() else {
            return Self::Question(error.to_string());
        };
        let text = error.to_string();
        match code {
            ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
                Self::Passing("another process holds it for too long".to_owned())
            }
            ErrorCode::DiskFull => Self::Passing(text),
            ErrorCode::ConstraintViolation
            | ErrorCode::TypeMismatch
            | ErrorCode::TooBig
            | ErrorCode::ParameterOutOfRange => Self::Question(text),
            // A missing table has the code for anything.
            _ => Self::File(text),
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull => Self::Passing(error.to_string()),
            _ => Self::File(error.to_string()),
        }
    }
}
