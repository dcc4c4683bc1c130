#!/usr/bin/env bash
# Builds llmproxy and runs its demo: a gateway in front of two simulated engines. Ctrl-C ends it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin" # rustup's default place, when the shell has not picked it up yet

scripts/setup.sh

# The first debug build takes minutes, a release build twice as long, and the demo is not a benchmark.
# Who has built a release before keeps using it.
target="${CARGO_TARGET_DIR:-target}"
if [[ -x "$target/release/llmproxy" ]]; then
  cargo build --release --bin llmproxy
  exec "$target/release/llmproxy" demo "$@"
fi
[[ -x "$target/debug/llmproxy" ]] || echo "demo: building; the first build takes a few minutes" >&2
cargo build --bin llmproxy
exec "$target/debug/llmproxy" demo "$@"
