#!/usr/bin/env bash
# Tokens per second of training in single precision: forward, cross-entropy, backward, norm of the gradient and AdamW, on random tokens.
# The first two steps are not counted.
# usage: bench/train-speed.sh [MODEL]   (default: samples/sample)
#   THREADS (2), BATCH (16) sequences of a step, MICRO (4) of them computed together, CONTEXT (512) tokens each, STEPS (5) and
#   RECOMPUTE (false) may be set.
set -euo pipefail
cd "$(dirname "$0")/.."
model=${1:-samples/sample}
log=$(mktemp)
trap 'rm -f "$log"' EXIT

./attar --version
jdk=$(ATTAR_PRINT_JDK=1 ./attar)
JAVA_HOME=$jdk mvn -q -B package -DskipTests -pl bench -am >"$log" 2>&1 || { tail -n 20 "$log" >&2; exit 1; }

"$jdk/bin/java" --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
  -cp "bench/target/test-classes:bench/target/classes:bench/target/lib/*" \
  dev.attar.distill.TrainSpeed "$model" "${THREADS:-2}" "${BATCH:-16}" "${MICRO:-4}" "${CONTEXT:-512}" "${STEPS:-5}" \
  "${RECOMPUTE:-false}" 2>"$log" || { cat "$log" >&2; exit 1; }
