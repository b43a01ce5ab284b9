#!/usr/bin/env bash
# Times of the operations that GPTQ of one matrix asks of a device, each beside what an H100 needs for it at least (docs/gpu.md): median
# and range of RUNS runs after one that warms up. The processor has no search and no packing of its own here.
# usage: bench/gpu-speed.sh [ROWSxCOLUMNS]...   (default: the matrices of Llama 3.1 8B, 14336x4096 4096x14336)
#   DEVICE (cuda), THREADS (2) and RUNS (5) may be set. DEVICE=cpu bench/gpu-speed.sh 256x512 shows in seconds that it works.
set -euo pipefail
cd "$(dirname "$0")/.."
device=${DEVICE:-cuda}
threads=${THREADS:-2}
runs=${RUNS:-5}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
shapes=${*:-14336x4096 4096x14336}
for shape in $shapes; do
  [[ $shape =~ ^[1-9][0-9]*x[1-9][0-9]*$ ]] || { echo "unknown shape '$shape', expected ROWSxCOLUMNS" >&2; exit 2; }
done

./attar --version
jdk=$(ATTAR_PRINT_JDK=1 ./attar)
JAVA_HOME=$jdk mvn -q -B package -DskipTests -pl bench -am >"$log" 2>&1 || { tail -n 20 "$log" >&2; exit 1; }

for shape in $shapes; do
  "$jdk/bin/java" --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
    -cp "bench/target/test-classes:bench/target/classes:bench/target/lib/*" \
    dev.attar.bench.device.DeviceSpeed "$device" "${shape%x*}" "${shape#*x}" "$threads" "$runs" 2>"$log" || { grep -v '^WARNING: ' "$log" >&2; exit 1; }
done
