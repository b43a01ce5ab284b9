package dev.attar.bench.jmh;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.attar.bench.accuracy.LogitKernel;
import dev.attar.bench.accuracy.TokenComparison;
import dev.attar.bench.accuracy.TokenScores;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import org.openjdk.jmh.annotations.Benchmark;
import org.openjdk.jmh.annotations.BenchmarkMode;
import org.openjdk.jmh.annotations.Fork;
import org.openjdk.jmh.annotations.Measurement;
import org.openjdk.jmh.annotations.Mode;
import org.openjdk.jmh.annotations.OperationsPerInvocation;
import org.openjdk.jmh.annotations.OutputTimeUnit;
import org.openjdk.jmh.annotations.Param;
import org.openjdk.jmh.annotations.Scope;
import org.openjdk.jmh.annotations.Setup;
import org.openjdk.jmh.annotations.State;
import org.openjdk.jmh.annotations.TearDown;
import org.openjdk.jmh.annotations.Warmup;

/**
 * Scoring of logits on one core, in logits per microsecond, for {@code compare} pairs of logits. The rows, 64 MiB of each model, come
 * from memory as they do in a run.
 */
@State(Scope.Thread)
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 3, time = 1500, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 5, time = 1000, timeUnit = TimeUnit.MILLISECONDS)
@Fork(
  value = 1,
  jvmArgs = { "--add-modules=jdk.incubator.vector", "--enable-native-access=ALL-UNNAMED", "-Dattar.simd=vector" }
)
public class LogitBenchmark {

  // Rows are whole, so up to 0.4 % fewer are scored.
  private static final int LOGITS = 1 << 24;

  @Param({ "4096", "32000", "151936" })
  private int vocabulary;

  @Param({ "vector", "scalar" })
  private String provider;

  private Arena arena;
  private LogitKernel kernel;
  private int rows;
  private MemorySegment base;
  private MemorySegment model;
  private int[] targets;
  private TokenScores scores;
  private TokenComparison comparison;

  /** Draws logits; the model's are the base's with some noise. */
  @Setup
  public void prepare() {
    kernel = provider.equals("scalar") ? LogitKernel.scalar() : LogitKernel.get();
    rows = LOGITS / vocabulary;
    arena = Arena.ofConfined();
    long count = (long) rows * vocabulary;
    base = arena.allocate(JAVA_FLOAT, count);
    model = arena.allocate(JAVA_FLOAT, count);
    Random random = new Random(1);
    for (long i = 0; i < count; i++) {
      float logit = 3 * (float) random.nextGaussian();
      base.setAtIndex(JAVA_FLOAT, i, logit);
      model.setAtIndex(JAVA_FLOAT, i, logit + 0.1f * (float) random.nextGaussian());
    }
    targets = random.ints(rows, 0, vocabulary).toArray();
    scores = new TokenScores(rows);
    comparison = new TokenComparison(rows);
  }

  /** Frees the logits. */
  @TearDown
  public void close() {
    arena.close();
  }

  /** One model's rows. */
  @Benchmark
  @OperationsPerInvocation(LOGITS)
  public TokenScores score() {
    kernel.score(model, rows, vocabulary, targets, 0, scores, 0);
    return scores;
  }

  /** Rows of both. */
  @Benchmark
  @OperationsPerInvocation(LOGITS)
  public TokenComparison compare() {
    kernel.compare(base, model, rows, vocabulary, targets, 0, comparison, 0);
    return comparison;
  }
}
