#!/usr/bin/env bash
# Speed and memory of quantization against the pinned llama.cpp, as ratios from one run on this machine:
#   encoders, one core, same data, against ggml_quantize_chunk, at full SIMD width and with AVX2;
#   the whole command on a random BF16 model of 500M parameters, against llama_model_quantize in a process of its own;
#   anonymous memory (RssAnon) of the command on that model and on one four times larger.
# usage: bench/quantize-speed.sh [encoders|command|memory]...   (default: all)
#   THREADS (2), RUNS (5) and WORK (a folder with 6 GB free) may be set.
set -euo pipefail
cd "$(dirname "$0")/.."
threads=${THREADS:-2}
runs=${RUNS:-5}
work=${WORK:-$(mktemp -d)}
mkdir -p "$work"
trap '[[ -n ${WORK:-} ]] || rm -rf "$work"' EXIT
parts=${*:-encoders command memory}

./attar --version
jdk=$(ATTAR_PRINT_JDK=1 ./attar)
JAVA_HOME=$jdk mvn -q -B package -DskipTests -pl bench -am >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
bench=("$jdk/bin/java" --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED
  -cp "bench/target/test-classes:bench/target/classes:bench/target/lib/*")

model() { # layers -> file
  local file=$work/random-$1.gguf
  [[ -f $file ]] || "${bench[@]}" dev.attar.bench.jmh.RandomModel "$file" "$1" 2>/dev/null
  echo "$file"
}

seconds() { # command... -> wall seconds
  local start end
  start=$(date +%s.%N)
  "$@" >"$work/log" 2>&1 || { cat "$work/log" >&2; return 1; }
  end=$(date +%s.%N)
  awk -v a="$start" -v b="$end" 'BEGIN { printf "%.3f\n", b - a }'
}

summary() { # file of "ours reference" lines, goal -> one line
  awk -v label="$2" -v goal="$3" '
    function median(v, n,   i, j, t) {
      for (i = 2; i <= n; i++) { t = v[i]; for (j = i - 1; j > 0 && v[j] > t; j--) v[j + 1] = v[j]; v[j + 1] = t }
      return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
    }
    { a[NR] = $1; b[NR] = $2; r[NR] = $1 / $2 }
    END {
      m = median(r, NR)
      printf "%-8s attar %6.2f s   llama.cpp %6.2f s   ratio %.2f (%.2f to %.2f, %d pairs)   goal at most %s\n",
        label, median(a, NR), median(b, NR), m, r[1], r[NR], NR, goal
    }' "$1"
}

for part in $parts; do
  case $part in
    encoders)
      for avx in 3 2; do
        echo "== encoders, one core, -XX:UseAVX=$avx: times as fast as ggml_quantize_chunk"
        "${bench[@]}" org.openjdk.jmh.Main EncodeBenchmark -jvmArgsAppend "-XX:UseAVX=$avx" \
          -rf json -rff "$work/encode-$avx.json" -o "$work/encode-$avx.log" 2>/dev/null
        "${bench[@]}" dev.attar.bench.jmh.SpeedTable "$work/encode-$avx.json" "$work/encode-$avx.svg" 2>/dev/null
      done
      ;;
    command)
      echo "== whole command, 500M parameters, $threads threads, JVM start included"
      in=$(model 16)
      # The worker of llama_model_quantize ends when its standard input does: this one stays open.
      rm -f "$work/open" && mkfifo "$work/open"
      exec 9<>"$work/open"
      for type in Q4_K_M:15:0.33 Q8_0:7:1.00; do
        IFS=: read -r name number goal <<<"$type"
        : >"$work/pairs"
        for ((i = 0; i <= runs; i++)); do
          ours=$(seconds ./attar quantize "$in" -t "$name" -o "$work/ours.gguf" --threads "$threads" --overwrite --quiet)
          theirs=$(seconds "${bench[@]}" dev.attar.llama.NativeQuantizeMain "$in" "$work/theirs.gguf" "$number" "$threads" <&9)
          ((i == 0)) || echo "$ours $theirs" >>"$work/pairs" # the first pair warms the page cache
        done
        summary "$work/pairs" "$name" "$goal"
      done
      ;;
    memory)
      echo "== anonymous memory (RssAnon), $threads threads, highest of samples every 50 ms; goal under 600 MB"
      for layers in 16 76; do
        in=$(model "$layers")
        for name in Q4_K_M Q8_0; do
          ./attar quantize "$in" -t "$name" -o "$work/ours.gguf" --threads "$threads" --overwrite --quiet &
          pid=$!
          peak=0
          while kill -0 $pid 2>/dev/null; do
            now=$(awk '/RssAnon/ { print $2 }' "/proc/$pid/status" 2>/dev/null || true)
            ((${now:-0} > peak)) && peak=$now
            sleep 0.05
          done
          wait $pid
          printf '%3d layers %-7s %4d MB\n' "$layers" "$name" $((peak / 1000))
        done
      done
      ;;
    *) echo "unknown part '$part', expected encoders, command or memory" >&2; exit 2 ;;
  esac
done
