#!/usr/bin/env bash
# Runs every test. Arguments go to the test runner: scripts/test.sh failover
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin" # rustup's default place, when the shell has not picked it up yet

scripts/setup.sh --test

if cargo nextest --version >/dev/null 2>&1; then
  [[ $# -gt 0 ]] || cargo test --doc # nextest does not run these
  cargo nextest run "$@"
else
  cargo test "$@"
fi
