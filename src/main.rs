//! The `llmproxy` binary: everything happens in [`llmproxy::cli`].

use std::process::ExitCode;

/// A request takes pieces of memory of all sizes up to 64 KiB, which glibc's allocator looks for and joins each time; see
/// `docs/decisions/0007-cost.md`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    llmproxy::cli::run()
}
