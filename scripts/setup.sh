#!/usr/bin/env bash
# Makes sure that everything the build needs is there. Says nothing when it is. Changes nothing but apt packages.
#   pingora-core compiles zlib-ng: a C compiler and cmake.   TLS is the system's OpenSSL: pkg-config and libssl-dev.
set -euo pipefail

readonly packages=(build-essential cmake pkg-config libssl-dev)

have() { command -v "$1" >/dev/null 2>&1; }

have_openssl() { [[ -n "${OPENSSL_DIR:-}" ]] || { have pkg-config && pkg-config --exists 'openssl >= 1.1.1'; }; }

missing() {
  have cc || echo "a C compiler (cc)"
  have cmake || echo "cmake"
  have pkg-config || echo "pkg-config"
  have_openssl || echo "the OpenSSL headers (libssl-dev)"
}

# Prints the command prefix that may install packages; fails when there is none.
privilege() {
  if [[ $EUID -eq 0 ]]; then
    echo ""
  elif have sudo && { sudo -n true 2>/dev/null || [[ -t 0 ]]; }; then
    echo "sudo"
  else
    return 1
  fi
}

give_up() {
  {
    echo "setup: cannot build, this is missing:"
    missing | sed 's/^/  - /'
    echo "setup: on Debian or Ubuntu, as root:  apt-get update && apt-get install -y ${packages[*]}"
    [[ $# -eq 0 ]] || echo "setup: $1"
  } >&2
  exit 1
}

install() {
  local sudo log
  have apt-get || give_up "there is no apt-get here; install the same with your system's package manager"
  sudo=$(privilege) || give_up "installing needs root or sudo, and neither is available"
  echo "setup: installing ${packages[*]} (missing: $(missing | paste -sd, | sed 's/,/, /g'))" >&2
  log=$(mktemp)
  # A fresh image has no package lists, and an old one has stale ones.
  # shellcheck disable=SC2086 # $sudo is empty for root, and must then vanish
  if ! { $sudo apt-get update && $sudo env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    give_up "apt-get failed, its last words are above"
  fi
  rm -f "$log"
}

have cargo || [[ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]] || {
  echo "setup: cargo is missing; install Rust from https://rustup.rs" >&2
  exit 1
}
[[ -z "$(missing)" ]] || install
[[ -z "$(missing)" ]] || give_up "the packages are installed but do not provide it"
