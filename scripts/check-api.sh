#!/usr/bin/env bash
# Holds the admin API against its own OpenAPI document: starts a gateway in a temporary directory and lets a schema tester send it
# what the document allows and what it does not. Fails on server errors, statuses and bodies the document does not have, and data
# that is accepted against it. Says when it was skipped because the tester cannot be installed.
#   scripts/check-api.sh [BINARY]     SEED=N repeats what another seed has found
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

readonly tester=schemathesis==4.32.5
readonly token=token-of-check-api
readonly password=password-of-check-api

work=$(mktemp -d)
server=""
cleanup() {
  [[ -z "$server" ]] || kill -KILL "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

skip() {
  echo "check-api: $*: skipped"
  exit 0
}
fail() {
  echo "check-api: $*" >&2
  echo "--- log of the gateway ---" >&2
  tail -n 40 "$work/log" >&2
  exit 1
}

command -v python3 >/dev/null || skip "python3 is not installed"
python3 -m venv "$work/venv" >/dev/null 2>&1 || skip "python3 cannot make a virtual environment (python3-venv)"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check "$tester" >"$work/pip.log" 2>&1 ||
  skip "pip cannot install $tester"

if [[ $# -gt 0 ]]; then
  binary=$(realpath "$1")
else
  cargo build --quiet --locked --bin llmproxy
  binary="$(cd "${CARGO_TARGET_DIR:-target}" && pwd)/debug/llmproxy"
fi

cat >"$work/llmproxy.yaml" <<YAML
listen: "127.0.0.1:0"
admin: {listen: "127.0.0.1:0", token: $token, password: $password}
auth: {enabled: true}
backends: [{name: nobody, url: "http://127.0.0.1:9"}]
data_dir: $work/data
models:
  base: {routes: [{backend: nobody, model: real}], parameters: {temperature: {default: 0.5}}}
  derived: {extends: base, target_model: other, fallbacks: [base]}
  "any-*": {routes: [{backend: nobody}], frontend: [/any]}
  "off": {enabled: false, extends: base}
  safe: {protected: true, routes: [{backend: nobody}]}
YAML
(cd "$work" && exec "$binary" --config llmproxy.yaml) >"$work/log" 2>&1 &
server=$!

admin_address() { grep -oE 'admin listening on [0-9.:]+' "$work/log" | grep -oE '[0-9.]+:[0-9]+$'; }
deadline=$((SECONDS + 20))
until address=$(admin_address); do
  kill -0 "$server" 2>/dev/null && ((SECONDS < deadline)) || fail "the gateway did not start"
  sleep 0.1
done

# Left out is only whether everything is accepted that the schemas allow: that two fields exclude each other, or that a full sync
# with an empty list has to be confirmed, is no matter of schemas.
(cd "$work" && venv/bin/schemathesis --no-color run "http://$address/api/v1/openapi.json" \
  --header "Authorization: Bearer $token" --header "X-Admin-Password: $password" --checks all --exclude-checks positive_data_acceptance \
  --max-examples 20 --max-time 25 --seed "${SEED:-1}" --request-timeout 10 --continue-on-failure --warnings off) >"$work/report" 2>&1 || {
  cat "$work/report" >&2
  fail "the API is not as its document says"
}
grep -E 'passed|generated' "$work/report" || true

# Requests that are no HTTP are part of it, and the server may say so.
! grep -E 'panicked at| ERROR llmproxy' "$work/log" || fail "the gateway logged errors"
kill -TERM "$server"
code=0
wait "$server" || code=$?
server=""
[[ $code -eq 0 ]] || fail "the gateway ended with $code"
