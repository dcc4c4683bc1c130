# What the `run` scripts share; each one sources it. A peer is one directory here, and its `run` understands:
#   run version                        prints one line, or exits 77 when the peer is not installed
#   run serve LISTEN ENGINE CPUS DIR   becomes the proxy: listens on 127.0.0.1:LISTEN, forwards to 127.0.0.1:ENGINE,
#                                      works with CPUS workers, keeps its configuration and logs in DIR. SIGTERM ends it.
#   run headers ENGINE                 prints the request headers that the peer needs, one per line
# shellcheck shell=bash

# shellcheck disable=SC2034 # the scripts that source this use it
here="$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)"
# Where scripts/bench-peers.sh puts what no package of the system provides.
# shellcheck disable=SC2034
peers="${LLMPROXY_BENCH_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/llmproxy-bench}"

# Nothing between here and the engine: some of the peers would heed these.
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY

# find_program PLACE NAME: prints the program's path, from PLACE (a directory) or else from PATH; 77 when there is none.
find_program() {
  local found
  if [[ -n "$1" && -x "$1/$2" ]]; then
    found="$1/$2"
  else
    # Debian keeps the programs of administrators out of other people's PATH.
    found="$(PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin" type -P "$2")" || exit 77
  fi
  printf '%s\n' "$found"
}

# python_package PROGRAM PACKAGE: prints the package's version as its metadata says it, with the Python that PROGRAM runs on.
# (Asking the program itself may take it ten seconds.)
python_package() {
  "$(sed -n '1s/^#! *//p' "$1")" -c 'import sys; from importlib.metadata import version; print(sys.argv[1], version(sys.argv[1]))' "$2"
}

# As many open files as this process may have: two connections for each stream, and each proxy has but a few processes.
# Sets `nofile`, at most a million (some systems allow a billion, and some proxies allocate for each).
raise_open_files() {
  nofile="$(ulimit -Hn)"
  [[ "$nofile" != unlimited && "$nofile" -le 1048576 ]] || nofile=1048576
  ulimit -Sn "$nofile"
}

# render TEMPLATE FILE NAME=VALUE...: writes TEMPLATE to FILE with every @NAME@ replaced.
render() {
  local template="$1" file="$2" pair value
  local -a edits=()
  shift 2
  for pair in "$@"; do
    value="$(printf '%s' "${pair#*=}" | sed 's/[&|\\]/\\&/g')"
    edits+=(-e "s|@${pair%%=*}@|$value|g")
  done
  sed "${edits[@]}" "$template" >"$file"
}

# until_told COMMAND...: becomes COMMAND, for a proxy that would wait for its streams to end when it gets SIGTERM (or for longer
# than a benchmark likes). After 2 seconds, what is left of it and of its children is killed.
until_told() { exec timeout --kill-after=2 0 "$@"; }

usage() {
  echo "usage: run version | run serve LISTEN ENGINE CPUS DIR | run headers ENGINE" >&2
  exit 2
}
