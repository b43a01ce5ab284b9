#!/usr/bin/env bash
# Time of GPTQ on one layer whose Gram matrix is there, for each effort: seconds, the share of the threads' time in OpenBLAS, and what
# is left of the error of importance-weighted rounding. The first time of each is not counted.
# usage: bench/gptq-speed.sh [ROWSxCOLUMNS]...   (default: 2048x2048 2048x8192; 256x512 shows in seconds that it works)
#   TYPE (Q4_K), THREADS (2), RUNS (3) and EFFORTS ("0 1 2 3") may be set.
set -euo pipefail
cd "$(dirname "$0")/.."
type=${TYPE:-Q4_K}
threads=${THREADS:-2}
runs=${RUNS:-3}
read -ra efforts <<<"${EFFORTS:-0 1 2 3}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
shapes=${*:-2048x2048 2048x8192}
for shape in $shapes; do
  [[ $shape =~ ^[1-9][0-9]*x[1-9][0-9]*$ ]] || { echo "unknown shape '$shape', expected ROWSxCOLUMNS" >&2; exit 2; }
done

./attar --version
jdk=$(ATTAR_PRINT_JDK=1 ./attar)
JAVA_HOME=$jdk mvn -q -B package -DskipTests -pl bench -am >"$log" 2>&1 || { tail -n 20 "$log" >&2; exit 1; }

for shape in $shapes; do
  "$jdk/bin/java" --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
    -cp "bench/target/test-classes:bench/target/classes:bench/target/lib/*" \
    dev.attar.quant.gptq.GptqSpeed "${shape%x*}" "${shape#*x}" "$type" "$threads" "$runs" "${efforts[@]}" 2>"$log" || { cat "$log" >&2; exit 1; }
done
