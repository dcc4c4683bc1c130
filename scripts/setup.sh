#!/usr/bin/env bash
# Makes sure that everything the build needs is there. Says nothing when it is. Changes nothing but apt packages.
#   pingora-core compiles zlib-ng: a C compiler and cmake.   TLS is the system's OpenSSL: pkg-config and libssl-dev.
# With --test also what the tests run: PostgreSQL, MariaDB, Redis, promtool, valgrind. They start servers of their own, so what
# is installed here is neither started nor left to start at boot.
set -euo pipefail

packages=(build-essential cmake pkg-config libssl-dev)
readonly services=(postgresql mariadb prometheus redis-server)
test=

have() { command -v "$1" >/dev/null 2>&1; }

have_openssl() { [[ -n "${OPENSSL_DIR:-}" ]] || { have pkg-config && pkg-config --exists 'openssl >= 1.1.1'; }; }

# Debian keeps PostgreSQL's own programs out of PATH, and those of administrators out of other people's.
have_server() { have "$1" || compgen -G "/usr/lib/postgresql/*/bin/$1" >/dev/null || [[ -x "/usr/sbin/$1" ]]; }

missing() {
  have cc || echo "a C compiler (cc)"
  have cmake || echo "cmake"
  have pkg-config || echo "pkg-config"
  have_openssl || echo "the OpenSSL headers (libssl-dev)"
  [[ -n "$test" ]] || return 0
  have_server initdb && have_server postgres || echo "the PostgreSQL server"
  have psql || echo "PostgreSQL's client (psql)"
  have_server mariadbd && have mariadb-install-db || echo "the MariaDB server"
  have mariadb || echo "MariaDB's client (mariadb)"
  have redis-server && have redis-cli || echo "Redis"
  have promtool || echo "promtool (prometheus)"
  have valgrind || echo "valgrind"
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
    echo "setup: cannot build${test:+ and test}, this is missing:"
    missing | sed 's/^/  - /'
    echo "setup: on Debian or Ubuntu, as root:  apt-get update && apt-get install -y ${packages[*]}"
    [[ $# -eq 0 ]] || echo "setup: $1"
  } >&2
  exit 1
}

# Debian starts a service when its package is installed, unless this file says no.
readonly policy=/usr/sbin/policy-rc.d

# Runs "$@" without letting it start services that are not here yet.
quietly() {
  local sudo=$1 service own= done=0 new=()
  shift
  if [[ -n "$test" ]]; then
    for service in "${services[@]}"; do
      [[ -e "/lib/systemd/system/$service.service" ]] || new+=("$service")
    done
    if [[ ! -e $policy ]]; then
      own=yes
      printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
      $sudo chmod +x "$policy"
    fi
  fi
  "$@" || done=$?
  [[ -z "$own" ]] || $sudo rm -f "$policy"
  if [[ ${#new[@]} -gt 0 ]] && have systemctl; then
    $sudo systemctl disable "${new[@]}" || true # not running under systemd: nothing will start them
  fi
  return "$done"
}

install() {
  local sudo log
  have apt-get || give_up "there is no apt-get here; install the same with your system's package manager"
  sudo=$(privilege) || give_up "installing needs root or sudo, and neither is available"
  echo "setup: installing ${packages[*]} (missing: $(missing | paste -sd, | sed 's/,/, /g'))" >&2
  log=$(mktemp)
  # A fresh image has no package lists, and an old one has stale ones.
  # shellcheck disable=SC2086 # $sudo is empty for root, and must then vanish
  if ! { $sudo apt-get update && quietly "$sudo" $sudo env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    rm -f "$log"
    give_up "apt-get failed, its last words are above"
  fi
  rm -f "$log"
}

case "${1-}" in
  "") ;;
  --test)
    test=yes
    packages+=(postgresql postgresql-client mariadb-server mariadb-client prometheus redis-server valgrind)
    ;;
  *)
    echo "usage: scripts/setup.sh [--test]" >&2
    exit 64
    ;;
esac

have cargo || [[ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]] || {
  echo "setup: cargo is missing; install Rust from https://rustup.rs" >&2
  exit 1
}
[[ -z "$(missing)" ]] || install
[[ -z "$(missing)" ]] || give_up "the packages are installed but do not provide it"
