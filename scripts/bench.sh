#!/usr/bin/env bash
# Measures this gateway beside nginx, HAProxy and what else of tests/bench/peers is installed, and writes docs/performance.md.
# Arguments go to the benchmark: scripts/bench.sh --peers nginx,llmproxy --scenarios 1k,paced --rounds 3 --dry
# scripts/bench-peers.sh installs the others. Half an hour on a machine that has nothing else to do.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

scripts/setup.sh
if ! tests/bench/peers/nginx/run version >/dev/null; then
  echo "bench: there is no nginx, with which everything is compared: scripts/bench-peers.sh installs it" >&2
  exit 1
fi
cargo bench --locked --bench gateways --no-run # builds the gateway, too
LLMPROXY_BIN="$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/release/llmproxy"
export LLMPROXY_BIN
exec cargo bench --locked --bench gateways -- "$@"
