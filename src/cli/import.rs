//! `llmproxy import`: the configuration of another gateway as ours.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::builder::PossibleValuesParser;

use super::{Failure, complain, print};
use crate::import::{self, System};

#[derive(clap::Args)]
pub(super) struct Options {
    /// The configuration of the other gateway; `-` is standard input.
    file: PathBuf,
    /// Whose it is; by default that is recognised.
    #[arg(long, value_name = "SYSTEM", value_parser = PossibleValuesParser::new(System::ALL.map(System::as_str)))]
    from: Option<String>,
    /// Where the new file is written; by default it is printed.
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Replace OUT if it is there.
    #[arg(long, requires = "output")]
    force: bool,
}

pub(super) fn import(options: &Options) -> Result<(), Failure> {
    let (file, text) = read(&options.file, &mut io::stdin().lock());
    let text = text.map_err(|error| Failure::BadConfig(format!("{file}: cannot read: {error}")))?;
    let from = options.from.as_deref().and_then(System::named);
    let imported =
        import::import(&text, from).map_err(|error| Failure::BadConfig(error.of_file(&file)))?;
    match &options.output {
        Some(out) => write(out, options.force, &imported.yaml)?,
        None => print(&imported.yaml)?,
    }
    for note in &imported.notes {
        complain(&format!("note: {note}"));
    }
    Ok(())
}

/// Returns what `file` is called, and its text; `-` stands for `input`.
fn read(file: &Path, input: &mut dyn Read) -> (String, io::Result<String>) {
    match file.as_os_str() == "-" {
        true => ("standard input".to_owned(), io::read_to_string(input)),
        false => (file.display().to_string(), fs::read_to_string(file)),
    }
}

/// Writes a file that only its owner reads: keys stand in it.
fn write(out: &Path, force: bool, text: &str) -> Result<(), Failure> {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    match force {
        true => options.create(true).truncate(true),
        false => options.create_new(true),
    };
    let written = options
        .open(out)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| {
        let out = out.display();
        match error.kind() {
            io::ErrorKind::AlreadyExists => {
                Failure::BadConfig(format!("{out}: is there already; --force replaces it"))
            }
            _ => Failure::BadConfig(format!("{out}: cannot write: {error}")),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dash_is_standard_input() {
        let (name, text) = read(Path::new("-"), &mut &b"a: 1"[..]);
        assert_eq!((&*name, &*text.unwrap()), ("standard input", "a: 1"));
        let (name, text) = read(Path::new("./-"), &mut &b"a: 1"[..]);
        assert_eq!(name, "./-");
        assert!(text.is_err());
    }
}
