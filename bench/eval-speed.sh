#!/usr/bin/env bash
# Time of evaluating two models in lockstep (perplexity and KL divergence, each model in a process of its own) against
# llama.cpp's bare decoding of the same windows, as a ratio from one run on this machine: on the sample checkpoint and on a model of
# 500M parameters with random weights, BF16 against Q4_K_M.
# usage: bench/eval-speed.sh [sample|large]...   (default: both)
#   THREADS (2), PAIRS (7) and WORK (a folder with 2 GB free) may be set.
set -euo pipefail
cd "$(dirname "$0")/.."
threads=${THREADS:-2}
pairs=${PAIRS:-7}
work=${WORK:-$(mktemp -d)}
mkdir -p "$work"
trap '[[ -n ${WORK:-} ]] || rm -rf "$work"' EXIT
parts=${*:-sample large}

./attar --version
jdk=$(ATTAR_PRINT_JDK=1 ./attar)
JAVA_HOME=$jdk mvn -q -B package -DskipTests -pl bench -am >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
bench=("$jdk/bin/java" --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED
  -cp "bench/target/test-classes:bench/target/classes:bench/target/lib/*")

for part in $parts; do
  case $part in
    sample)
      name='sample, 3.4M, 64 windows' windows=64 base=$work/sample.gguf
      ./attar convert samples/sample -o "$base" --overwrite --quiet
      ;;
    large)
      name='random, 500M, 4 windows' windows=4 base=$work/random-16.gguf
      [[ -f $base ]] || "${bench[@]}" dev.attar.bench.jmh.RandomModel "$base" 16 2>/dev/null
      ;;
    *) echo "unknown part '$part', expected sample or large" >&2; exit 2 ;;
  esac
  ./attar quantize "$base" -t Q4_K_M -o "$work/variant.gguf" --overwrite --quiet
  "${bench[@]}" dev.attar.bench.EvalSpeed "$name" "$base" "$work/variant.gguf" "$windows" "$threads" "$pairs" 2>/dev/null
done
