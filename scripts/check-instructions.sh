#!/usr/bin/env bash
# Counts the instructions that the parts of a request's way take, and compares them with tests/bench/instructions.tsv.
#   scripts/check-instructions.sh            fails when one takes over 10 % more
#   scripts/check-instructions.sh --accept   writes the table anew, to be committed with the change that is to blame
# Instructions, unlike times, are the same on every machine: valgrind shows programs one and the same processor (a Haswell
# without what the host may have beyond AVX2), wherever the host has AVX2. They do change with the compiler and the C library,
# which the table names. What is counted has one thread, and seeds that do not change.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"

readonly table=tests/bench/instructions.tsv
readonly limit=10 # percent
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

accept=
case "${1-}" in
  "") ;;
  --accept) accept=yes ;;
  *)
    echo "usage: scripts/check-instructions.sh [--accept]" >&2
    exit 64
    ;;
esac

if [[ "$(uname -m)" != x86_64 ]] || ! grep -qw avx2 /proc/cpuinfo; then
  echo "instructions: the table is for x86-64 with AVX2, which this machine is not: skipped" >&2
  [[ -z "$accept" ]]
  exit
fi
scripts/setup.sh --test

# Everything that is run here, built once.
"${CARGO:-cargo}" build --locked --profile instructions --bench instructions --bench gateways --bin llmproxy \
  --message-format json-render-diagnostics >"$work/built"

# Where the program NAME is.
built() {
  sed -nE "s/.*\"name\":\"$1\".*\"executable\":\"([^\"]+)\".*/\1/p" "$work/built"
}

# Instructions a command executes outside the kernel.
instructions() {
  local out
  out=$(mktemp -p "$work")
  # An environment that is the same everywhere: it lies on the stack.
  env -i LC_ALL=C "$(command -v valgrind)" --tool=callgrind --callgrind-out-file="$out" "$@" >"$out.log" 2>&1 || {
    cat "$out.log" >&2
    return 1
  }
  sed -n 's/^totals: //p' "$out"
  rm -f "$out" "$out.log"
}

# === what is counted: functions that print a name, a tab and a number per line ===

readonly sources=(parts gateway)

# The micro-benchmarks' parts: what twice as many calls take more, so that the start of the process does not count.
parts() {
  local binary name calls
  binary=$(built instructions)
  "$binary" --list >"$work/list"
  export -f instructions part
  export work binary
  # shellcheck disable=SC2016 # for the shells that are started
  xargs -P "$(nproc)" -L 1 bash -c 'part "$@"' part <"$work/list" >"$work/unsorted"
  # In the order of the list.
  while read -r name calls; do
    awk -F'\t' -v name="$name" '$1 == name' "$work/unsorted"
  done <"$work/list"
}

part() {
  set -euo pipefail
  local name=$1 calls=$2 once twice
  once=$(instructions "$binary" "$name" "$calls")
  twice=$(instructions "$binary" "$name" $((2 * calls)))
  printf '%s\t%d\n' "$name" $(((twice - once + calls / 2) / calls))
}

# The gateway itself, everything on, behind the load generator of the benchmark: per 1 KiB request, and per event of a stream with
# its share of a request. What is counted is what happens in the task of a connection: beside it threads look at clocks and files,
# and the more often the longer a run takes.
readonly task='<llmproxy::server::connections::Connections as pingora_core::apps::ServerApp>::process_new::{{closure}}'

gateway() {
  local once twice
  once=$(serving request 200)
  twice=$(serving request 400)
  printf 'gateway/request\t%d\n' $(((twice - once) / 200))
  once=$(serving stream 10)
  twice=$(serving stream 20)
  printf 'gateway/stream_event\t%d\n' $(((twice - once) / 2000))
}

# Instructions of a gateway that starts, answers REQUESTS of LOAD, and ends.
serving() {
  local load=$1 requests=$2 out
  out=$(mktemp -d -p "$work")
  cat >"$out/llmproxy" <<END
#!/bin/sh
exec valgrind --tool=callgrind --toggle-collect='$task' --callgrind-out-file="$out/\$\$" "$(built llmproxy)" "\$@"
END
  chmod +x "$out/llmproxy"
  LLMPROXY_BIN="$out/llmproxy" "$(built gateways)" --count "$load" "$requests" >"$out/log" 2>&1 || {
    cat "$out/log" >&2
    return 1
  }
  # The other ones only told their version.
  grep -l -- '^cmd:.*--config' "$out"/[0-9]* | xargs sed -n 's/^totals: //p'
}

# === what comes of it ===

with() {
  local libc
  libc=$(getconf GNU_LIBC_VERSION 2>/dev/null || echo "another C library")
  echo "# $(rustc --version), $libc, $(valgrind --version)"
}

for source in "${sources[@]}"; do
  "$source" >>"$work/rows"
done
{
  echo "# Instructions per call, written by scripts/check-instructions.sh --accept"
  with
  cat "$work/rows"
} >"$work/table"

compare() {
  awk -F'\t' -v limit="$limit" '
    /^#/ { next }
    FNR == NR { old[$1] = $2; next }
    { seen[$1] = 1 }
    !($1 in old) { printf "%-32s %12s %12d\n", $1, "-", $2; bad[++n] = $1 " is not in the table"; next }
    {
      percent = old[$1] > 0 ? 100 * ($2 - old[$1]) / old[$1] : 0
      printf "%-32s %12d %12d %+7.1f %%\n", $1, old[$1], $2, percent
      said = sprintf("%s takes %d instructions, and took %d: %+.1f %%", $1, $2, old[$1], percent)
      if (percent > limit) bad[++n] = said
      if (percent < -limit) good[++m] = said
    }
    END {
      for (name in old) if (!(name in seen)) bad[++n] = name " is in the table, but was not counted"
      for (i = 1; i <= m; i++) print "instructions: " good[i] > "/dev/stderr"
      if (m) print "instructions: hold on to that: scripts/check-instructions.sh --accept, and commit the table" > "/dev/stderr"
      for (i = 1; i <= n; i++) print "instructions: " bad[i] > "/dev/stderr"
      exit n > 0
    }' "$table" "$work/table"
}

if [[ -n "$accept" ]]; then
  [[ ! -f "$table" ]] || compare 2>/dev/null || true
  cp "$work/table" "$table"
  echo "instructions: $table is written anew"
elif [[ ! -f "$table" ]]; then
  echo "instructions: there is no $table; scripts/check-instructions.sh --accept writes it" >&2
  exit 1
elif ! compare; then
  if ! grep -qxF "$(with)" "$table"; then
    echo "instructions: the table was made with other tools:" >&2
    sed -n '2s/^#/instructions: then:/p' "$table" >&2
    with | sed 's/^#/instructions: now: /' >&2
  fi
  echo "instructions: if it must be so: scripts/check-instructions.sh --accept, and commit $table with the reason" >&2
  exit 1
fi
