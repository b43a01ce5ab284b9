#!/usr/bin/env bash
# Anonymous memory (RssAnon) of quantizing a random model of 500M parameters by GPTQ, all processes together, and whether the result
# depends on --max-memory.
# usage: bench/gptq-memory.sh [SIZE]...   (default: 3G 1300M; each is compared with a run that may take 64G)
#   THREADS (2), TOKENS (4096) and WORK (a folder with 3 GB free) may be set. Linux only.
set -euo pipefail
cd "$(dirname "$0")/.."
threads=${THREADS:-2}
tokens=${TOKENS:-4096}
work=${WORK:-$(mktemp -d)}
mkdir -p "$work"
trap '[[ -n ${WORK:-} ]] || rm -rf "$work"' EXIT

./attar --version
jdk=$(ATTAR_PRINT_JDK=1 ./attar)
JAVA_HOME=$jdk mvn -q -B package -DskipTests -pl bench -am >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
in=$work/random-20.gguf
if [[ ! -f $in ]]; then
  ./attar convert samples/sample -o "$work/sample.gguf" --overwrite --quiet
  "$jdk/bin/java" --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
    -cp "bench/target/test-classes:bench/target/classes:bench/target/lib/*" \
    dev.attar.bench.jmh.RandomModel "$in" 20 "$work/sample.gguf" 2>/dev/null
fi

anonymous() { # process -> kB of it and of what it has started
  local sum child
  sum=$(awk '/RssAnon/ { print $2 }' "/proc/$1/status" 2>/dev/null || true)
  for child in $(cat "/proc/$1"/task/*/children 2>/dev/null || true); do
    sum=$((${sum:-0} + $(anonymous "$child")))
  done
  echo "${sum:-0}"
}

quantize() { # --max-memory -> file
  local out=$work/$1.gguf peak=0 now pid start=$SECONDS
  ./attar quantize "$in" -t Q4_K_M --method gptq --no-sequential --calibration samples/calibration.txt \
    --calibration-tokens "$tokens" --max-memory "$1" --threads "$threads" -o "$out" --overwrite --quiet &
  pid=$!
  while kill -0 $pid 2>/dev/null; do
    now=$(anonymous $pid)
    ((now > peak)) && peak=$now
    sleep 0.05
  done
  wait $pid
  printf -- '--max-memory %-6s peak %4d MB, %d s\n' "$1" $((peak / 1000)) $((SECONDS - start))
}

quantize 64G
for limit in "${@:-3G 1300M}"; do
  for size in $limit; do
    quantize "$size"
    cmp "$work/64G.gguf" "$work/$size.gguf" && echo "  the same file"
  done
done
