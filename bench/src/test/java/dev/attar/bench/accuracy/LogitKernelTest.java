package dev.attar.bench.accuracy;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.formats.block.Simd;
import java.io.File;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.net.URISyntaxException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.Collectors;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** All kernels, scalar and of each width of vectors. */
class LogitKernelTest {

  private static final float INFINITY = Float.POSITIVE_INFINITY;

  /** Nats. A float32 exponential is right to 1.3e-7. */
  private static final double CLOSE = 2e-7;

  static List<Scorer> kernels() {
    return Kernels.all();
  }

  // Golden values: scipy 1.17.1, float64.

  @ParameterizedTest
  @MethodSource("kernels")
  void agreesWithScipyOnFiveTokens(Scorer kernel) {
    float[] base = { 1, 2, 3, -1, 0.5f };
    float[] model = { 1.5f, 2, 2.5f, -3, 0.25f };
    Scorer.Score score = kernel.score(base, model, 1);
    assertEquals(1.234239265107119, score.nll(), CLOSE);
    assertEquals(1.234239265107119, score.nllAlone(), CLOSE);
    assertEquals(1.4722606813865564, score.baseNll(), CLOSE);
    assertEquals(0.06721692044294818, score.divergence(), CLOSE);
    assertTrue(score.sameTop());
  }

  @ParameterizedTest
  @MethodSource("kernels")
  void agreesWithScipyOnAThousandTokens(Scorer kernel) {
    float[] base = new float[1000];
    float[] model = new float[1000];
    for (int i = 0; i < 1000; i++) {
      base[i] = (float) (3 * Math.sin(i));
      model[i] = (float) (3 * Math.sin(i) + 0.5 * Math.cos(3.0 * i));
    }
    Scorer.Score score = kernel.score(base, model, 7);
    assertEquals(6.856585903969113, score.nll(), CLOSE);
    assertEquals(6.521313977237508, score.baseNll(), CLOSE);
    assertEquals(-0.00041923286073010076, score.deltaP(), 1e-9);
    assertEquals(0.06133018717959335, score.divergence(), CLOSE);
    assertFalse(score.sameTop());
    assertEquals(8.053681059685054, kernel.score(base, model, 0).nll(), CLOSE);
    assertEquals(8.134638233986202, kernel.score(base, model, 999).nll(), CLOSE);
  }

  @ParameterizedTest
  @MethodSource("kernels")
  void agreesWithTheDefinitionAtEverySize(Scorer kernel) {
    SplittableRandom random = new SplittableRandom(1);
    for (int size : sizes(kernel.lanes())) {
      for (float spread : new float[] { 0.1f, 3, 30 }) {
        float[] base = normal(random, size, spread);
        checkAgainstDefinition(kernel, base, noisy(random, base, 0.3f), random.nextInt(size));
        checkAgainstDefinition(kernel, base, normal(random, size, spread), random.nextInt(size));
      }
    }
  }

  @ParameterizedTest
  @MethodSource("kernels")
  void seesSmallDivergences(Scorer kernel) {
    SplittableRandom random = new SplittableRandom(2);
    for (float noise : new float[] { 1e-5f, 1e-4f, 1e-3f, 1e-2f }) {
      for (int size : new int[] { 37, 4096, 32_000 }) {
        float[] base = normal(random, size, 3);
        float[] model = noisy(random, base, noise);
        double expected = Definition.divergence(base, model);
        assertEquals(expected, kernel.score(base, model, 0).divergence(), 1e-7, size + " with " + noise);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("kernels")
  void equalRowsDivergeByExactlyZero(Scorer kernel) {
    SplittableRandom random = new SplittableRandom(3);
    for (int size : sizes(kernel.lanes())) {
      float[] row = normal(random, size, 20);
      row[size / 2] = size > 1 ? -INFINITY : 0;
      Scorer.Score score = kernel.score(row, row.clone(), random.nextInt(size));
      assertEquals(0.0, score.divergence());
      assertEquals(score.baseNll(), score.nll());
      assertEquals(0.0, score.deltaP());
      assertTrue(score.sameTop());
    }
  }

  @ParameterizedTest
  @MethodSource("kernels")
  void bearsExtremes(Scorer kernel) {
    for (int size : new int[] { 2, 16, 35, 100 }) {
      float[] equal = new float[size];
      float[] huge = filled(size, 0);
      huge[size - 1] = 1e4f;
      float[] deep = filled(size, -1e4f);
      deep[0] = 0;
      float[] edge = filled(size, -88);
      edge[size / 2] = 88;
      float[] within = filled(size, -86);
      within[size / 2] = 0;
      float[] greatest = filled(size, -Float.MAX_VALUE);
      greatest[0] = Float.MAX_VALUE;
      float[] denormal = filled(size, Float.MIN_VALUE);
      List<float[]> rows = List.of(equal, huge, deep, edge, within, greatest, denormal);
      for (float[] base : rows) {
        for (float[] model : rows) {
          for (int target : new int[] { 0, size / 2, size - 1 }) {
            checkAgainstDefinition(kernel, base, model, target);
          }
        }
      }
      assertEquals(Math.log(size), kernel.score(equal, equal, 0).nll(), CLOSE);
      assertEquals(1e4, kernel.score(equal, huge, 0).nll(), 1e-9);
      assertEquals(0, kernel.score(equal, huge, size - 1).nll());
    }
  }

  @ParameterizedTest
  @MethodSource("kernels")
  void impossibleTokens(Scorer kernel) {
    for (int size : new int[] { 3, 16, 35 }) {
      for (int masked : new int[] { 0, size / 2, size - 1 }) {
        float[] base = normal(new SplittableRandom(4), size, 1);
        float[] model = noisy(new SplittableRandom(5), base, 0.1f);
        float[] maskedBase = base.clone();
        maskedBase[masked] = -INFINITY;
        float[] maskedModel = model.clone();
        maskedModel[masked] = -INFINITY;

        checkAgainstDefinition(kernel, maskedBase, model, masked);
        checkAgainstDefinition(kernel, maskedBase, maskedModel, masked);
        assertEquals(INFINITY, kernel.score(maskedBase, model, masked).baseNll());
        Scorer.Score score = kernel.score(base, maskedModel, masked);
        assertEquals(INFINITY, score.divergence());
        assertEquals(INFINITY, score.nll());
        assertEquals(INFINITY, score.nllAlone());
        assertEquals(-Math.exp(-score.baseNll()), score.deltaP(), 1e-12);
      }
    }
  }

  @ParameterizedTest
  @MethodSource("kernels")
  void whatIsNoNumberShows(Scorer kernel) {
    float[] payloads = { Float.NaN, Float.intBitsToFloat(0x7fc000ff), Float.intBitsToFloat(0xffc12345) };
    for (int size : new int[] { 1, 16, 35 }) {
      float[] good = normal(new SplittableRandom(6), size, 1);
      for (int at : new int[] { 0, size / 2, size - 1 }) {
        for (float nan : payloads) {
          float[] bad = good.clone();
          bad[at] = nan;
          checkInvalid(kernel, good, bad);
        }
        float[] infinite = good.clone();
        infinite[at] = INFINITY;
        checkInvalid(kernel, good, infinite);
      }
      checkInvalid(kernel, good, filled(size, -INFINITY));
      checkInvalid(kernel, good, filled(size, Float.NaN));
    }
  }

  private static void checkInvalid(Scorer kernel, float[] good, float[] bad) {
    assertTrue(Double.isNaN(kernel.score(good, bad, 0).nllAlone()));
    for (Scorer.Score score : List.of(kernel.score(good, bad, 0), kernel.score(bad, good, 0))) {
      assertTrue(Double.isNaN(score.nll()));
      assertTrue(Double.isNaN(score.baseNll()));
      assertTrue(Double.isNaN(score.divergence()));
      assertTrue(Double.isNaN(score.deltaP()));
      assertFalse(score.sameTop());
    }
  }

  @ParameterizedTest
  @MethodSource("kernels")
  void theFirstOfEqualTokensIsTheTop(Scorer kernel) {
    for (int size : sizes(kernel.lanes()).subList(0, 2 * kernel.lanes() + 3)) {
      for (int top = 0; top < size; top++) {
        float[] only = new float[size];
        only[top] = 1;
        float[] tied = only.clone();
        Arrays.fill(tied, top, size, 1);
        assertTrue(kernel.score(only, tied, 0).sameTop(), top + " of " + size);
        if (top > 0) {
          tied[top - 1] = 1;
          assertFalse(kernel.score(only, tied, 0).sameTop(), top + " of " + size);
        }
      }
    }
  }

  @ParameterizedTest
  @MethodSource("kernels")
  void divergenceIsNeverNegative(Scorer kernel) {
    SplittableRandom random = new SplittableRandom(7);
    for (int i = 0; i < 500; i++) {
      float[] base = normal(random, 1 + random.nextInt(100), 5);
      float[] model = noisy(random, base, 1e-6f);
      double divergence = kernel.score(base, model, 0).divergence();
      assertTrue(divergence >= 0 && divergence < 1e-6, () -> "divergence " + divergence);
    }
  }

  @Test
  void whatDoesNotFitIsRefused() {
    MemorySegment six = Arena.ofAuto().allocate(ValueLayout.JAVA_FLOAT, 6);
    MemorySegment seven = Arena.ofAuto().allocate(ValueLayout.JAVA_FLOAT, 7);
    LogitKernel kernel = LogitKernel.get();
    kernel.score(six, 2, 3, new int[] { 0, 2 }, 0, new TokenScores(2), 0);
    kernel.score(six, 0, 3, new int[0], 0, new TokenScores(0), 0);
    refused(() -> kernel.score(six, 3, 3, new int[3], 0, new TokenScores(3), 0));
    refused(() -> kernel.score(six, 1, Integer.MAX_VALUE, new int[3], 0, new TokenScores(3), 0));
    refused(() -> kernel.score(six, 1, 0, new int[3], 0, new TokenScores(3), 0));
    refused(() -> kernel.score(six, -1, 3, new int[3], 0, new TokenScores(3), 0));
    refused(() -> kernel.score(six, 2, 3, new int[3], 2, new TokenScores(3), 0));
    refused(() -> kernel.score(six, 2, 3, new int[3], 0, new TokenScores(3), 2));
    refused(() -> kernel.score(six, 2, 3, new int[] { 0, 3 }, 0, new TokenScores(2), 0));
    refused(() -> kernel.score(six, 2, 3, new int[] { -1, 0 }, 0, new TokenScores(2), 0));
    refused(() -> kernel.compare(six, seven, 1, 7, new int[1], 0, new TokenComparison(1), 0));
    refused(() -> kernel.compare(seven, six, 1, 7, new int[1], 0, new TokenComparison(1), 0));
  }

  private static void refused(Runnable call) {
    assertThrows(IndexOutOfBoundsException.class, call::run);
  }

  @Test
  void aForcedKernelIsTheOneThatRuns() {
    List<String> descriptions = kernels().stream().map(Scorer::description).toList();
    assertEquals("scalar", descriptions.getFirst());
    assertTrue(descriptions.size() > 1, Simd.description());
    for (int i = 1; i < descriptions.size(); i++) {
      int bits = 64 << i;
      assertEquals("vectors of " + bits + " bits, forced by attar.simd=vector" + bits, descriptions.get(i));
    }
    assertEquals(Simd.description(), LogitKernel.get().toString());
    Throwable error = assertThrows(LinkageError.class, () -> Kernels.load("quick"))
      .getCause()
      .getCause();
    assertEquals(IllegalStateException.class, error.getClass());
  }

  /** Without the module of the Vector API the kernel's classes must still load. */
  @Test
  void worksWithoutTheVectorApi() throws IOException, InterruptedException, URISyntaxException {
    StringBuilder classPath = new StringBuilder();
    for (Class<?> type : List.of(LogitKernel.class, Simd.class, KernelScorer.class)) {
      Path path = Path.of(type.getProtectionDomain().getCodeSource().getLocation().toURI());
      classPath.append(path).append(File.pathSeparatorChar);
    }
    Process process = new ProcessBuilder(
      Path.of(System.getProperty("java.home"), "bin", "java").toString(),
      "-cp",
      classPath.toString(),
      PrintScore.class.getName()
    )
      .redirectErrorStream(true)
      .start();
    String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8).strip();
    assertEquals(0, process.waitFor(), output);
    assertEquals("scalar " + Math.log(2), output);
  }

  /** Says which kernel runs, and the score of one of two equally likely tokens. */
  static final class PrintScore {

    /**
     * @param args none
     */
    public static void main(String[] args) {
      KernelScorer kernel = new KernelScorer();
      System.out.println(kernel.description() + " " + kernel.score(new float[2], new float[2], 0).nll());
    }
  }

  private static void checkAgainstDefinition(Scorer kernel, float[] base, float[] model, int target) {
    Scorer.Score score = kernel.score(base, model, target);
    double nll = Definition.nll(model, target);
    double baseNll = Definition.nll(base, target);
    double divergence = Definition.divergence(base, model);
    String place = "vocabulary " + base.length + ", target " + target;
    assertEquals(nll, score.nll(), CLOSE, place);
    assertEquals(score.nll(), score.nllAlone(), CLOSE, place);
    assertEquals(baseNll, score.baseNll(), CLOSE, place);
    // Terms of the sum are rounded to float32.
    assertEquals(divergence, score.divergence(), CLOSE * Math.max(1, divergence), place);
    assertEquals(Math.exp(-nll) - Math.exp(-baseNll), score.deltaP(), CLOSE, place);
    assertEquals(Definition.top(base) == Definition.top(model), score.sameTop(), place);
  }

  /** Textbook formulas in float64: probabilities first, then Σ p (log p - log q). */
  private static final class Definition {

    static int top(float[] row) {
      int top = row.length - 1;
      for (int i = row.length - 1; i >= 0; i--) {
        top = row[i] >= row[top] ? i : top;
      }
      return top;
    }

    static double[] logProbabilities(float[] row) {
      double max = row[top(row)];
      double[] shifted = new double[row.length];
      Arrays.setAll(shifted, i -> row[i] - max);
      // From the smallest, so that they add up to something before the largest comes.
      double logSum = Math.log(Arrays.stream(shifted).sorted().map(Math::exp).sum());
      return Arrays.stream(shifted)
        .map(x -> x - logSum)
        .toArray();
    }

    static double nll(float[] row, int target) {
      return -logProbabilities(row)[target];
    }

    static double divergence(float[] base, float[] model) {
      double[] p = logProbabilities(base);
      double[] q = logProbabilities(model);
      double max = base[top(base)];
      double[] terms = new double[p.length];
      // Float32 ends at e^-87.
      Arrays.setAll(terms, i -> base[i] - max < -87 ? 0 : Math.exp(p[i]) * (p[i] - q[i]));
      return Arrays.stream(terms).sum();
    }
  }

  /** Around the lanes, and vocabularies of models. */
  private static List<Integer> sizes(int lanes) {
    return Stream.concat(
      Stream.iterate(1, n -> n + 1).limit(2L * lanes + 3),
      Stream.of(100, 4096, 32_000, 151_936)
    ).collect(Collectors.toList());
  }

  private static float[] filled(int size, float value) {
    float[] row = new float[size];
    Arrays.fill(row, value);
    return row;
  }

  private static float[] normal(SplittableRandom random, int size, float spread) {
    return noisy(random, new float[size], spread);
  }

  private static float[] noisy(SplittableRandom random, float[] row, float spread) {
    float[] noisy = row.clone();
    for (int i = 0; i < row.length; i++) {
      noisy[i] += (float) (spread * random.nextGaussian());
    }
    return noisy;
  }
}
