package dev.attar.bench.jmh;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockEncoder;
import dev.attar.formats.block.BlockEncoders;
import dev.attar.llama.Ggml;
import java.io.IOException;
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
import org.openjdk.jmh.annotations.Warmup;

/**
 * Encoding of normally distributed rows on one core, in values per microsecond: the encoder in Java, and {@code ggml_quantize_chunk}
 * on the same values.
 */
@State(Scope.Thread)
@BenchmarkMode(Mode.Throughput)
@OutputTimeUnit(TimeUnit.MICROSECONDS)
@Warmup(iterations = 2, time = 1500, timeUnit = TimeUnit.MILLISECONDS)
@Measurement(iterations = 5, time = 600, timeUnit = TimeUnit.MILLISECONDS)
@Fork(
  value = 1,
  jvmArgs = {
    "--add-modules=jdk.incubator.vector",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
    "-Dattar.simd=vector"
  }
)
public class EncodeBenchmark {

  private static final int ROW_LENGTH = 2048;

  // As many values as a run encodes at once. With far fewer, the branches of ggml's searches are learnt by heart.
  private static final int ROWS = 128;
  private static final int VALUES = ROW_LENGTH * ROWS;

  @Param(
    {
      "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "IQ4_NL", "IQ4_XS", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"
    }
  )
  private TensorType type;

  /** Whether columns have weights. */
  @Param({ "false", "true" })
  private boolean importance;

  private BlockEncoder encoder;
  private float[] x;
  private float[] weights;
  private byte[] out;

  private Ggml ggml;
  private MemorySegment nativeX;
  private MemorySegment nativeWeights;
  private MemorySegment nativeOut;

  /** Draws the values. */
  @Setup
  public void prepare() throws IOException {
    encoder = BlockEncoders.of(type).orElseThrow();
    Random random = new Random(1);
    x = new float[VALUES];
    for (int i = 0; i < VALUES; i++) {
      x[i] = 0.02f * (float) random.nextGaussian();
    }
    out = new byte[(int) type.rowBytes(ROW_LENGTH) * ROWS];
    ggml = Ggml.load();
    Arena arena = Arena.ofAuto();
    nativeX = arena.allocateFrom(JAVA_FLOAT, x);
    nativeOut = arena.allocate(out.length, 64);
    nativeWeights = null;
    if (importance) {
      weights = new float[ROW_LENGTH];
      for (int i = 0; i < ROW_LENGTH; i++) {
        weights[i] = (float) Math.pow(random.nextGaussian(), 2);
      }
      nativeWeights = arena.allocateFrom(JAVA_FLOAT, weights);
    }
  }

  /** This project's encoder. */
  @Benchmark
  @OperationsPerInvocation(VALUES)
  public byte[] attar() {
    encoder.encode(x, 0, ROW_LENGTH, ROWS, weights, 0, out, 0);
    return out;
  }

  /** The library's. */
  @Benchmark
  @OperationsPerInvocation(VALUES)
  public MemorySegment ggml() {
    ggml.quantize(type.id(), nativeX, ROW_LENGTH, ROWS, nativeWeights, nativeOut);
    return nativeOut;
  }
}
