//! The `llmproxy` binary: everything happens in [`llmproxy::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    llmproxy::cli::run()
}
