package dev.attar.compute;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.compute.QuantizationProblem.Kind;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import java.util.zip.CRC32;
import org.junit.jupiter.api.Test;

/** Both implementations, with vectors of each width that this machine has. */
class LaneKernelTest {

  private static final int L = LaneKernel.LANES;

  private final LaneKernel scalar = new ScalarLaneKernel();
  private final LaneKernel vector = new VectorLaneKernel();

  @Test
  void addsProductsInOrder() {
    Random random = new Random(1);
    float[] factor = new float[40];
    float[] x = new float[30 * L];
    for (int i = 0; i < factor.length; i++) {
      factor[i] = (float) random.nextGaussian();
    }
    for (int i = 0; i < x.length; i++) {
      x[i] = (float) random.nextGaussian();
    }
    for (int count : new int[] { 0, 1, 2, 20 }) {
      float[] expected = new float[3 * L];
      for (int lane = 0; lane < L; lane++) {
        float sum = lane;
        for (int k = 0; k < count; k++) {
          sum = Math.fma(factor[7 + k], x[(5 + k) * L + lane], sum);
        }
        expected[L + lane] = sum;
      }
      for (LaneKernel kernel : List.of(scalar, vector)) {
        float[] sums = new float[3 * L];
        for (int lane = 0; lane < L; lane++) {
          sums[L + lane] = lane;
        }
        kernel.addProducts(factor, 7, x, 5, count, sums, L);
        assertArrayEquals(expected, sums, kernel.name());
      }
    }
  }

  @Test
  void roundsToTheNearestLevel() {
    for (Kind kind : Kind.values()) {
      Levels levels = Levels.of(kind.levels);
      float[] targets = targets(kind.levels);
      for (float step : new float[] { 1, -1, 0.25f, 0 }) {
        float[] level = round(scalar, targets, step, 0.5f, levels)[0];
        for (int i = 0; i < targets.length; i++) {
          float y = step == 0 ? 0 : (targets[i] - 0.5f) / step;
          String place = kind + ", " + targets[i] + " by " + step + ": " + level[i];
          if (!Float.isNaN(y)) {
            // Just below a bound, adding half a level may reach it.
            double least = Math.abs((double) kind.nearestLevel(y) - y);
            assertTrue(kind.isLevel(level[i]), place);
            assertTrue(Math.abs((double) level[i] - y) <= least + Math.ulp(Math.abs(y) + 1), place);
          }
        }
      }
    }
  }

  @Test
  void givesTheSameBits() {
    for (Kind kind : Kind.values()) {
      Levels levels = Levels.of(kind.levels);
      float[] targets = targets(kind.levels);
      for (float step : new float[] { 1, -1, 0.3f, -1e-3f, 1e-30f, 0, -0f, Float.NaN }) {
        for (float offset : new float[] { 0, -0f, 0.5f, -0.37f }) {
          float[][] expected = round(scalar, targets, step, offset, levels);
          float[][] found = round(vector, targets, step, offset, levels);
          for (int i = 0; i < targets.length; i++) {
            String place = kind + ", " + targets[i] + " by " + step + " and " + offset;
            assertEquals(Float.floatToIntBits(expected[0][i]), Float.floatToIntBits(found[0][i]), place);
            assertEquals(Float.floatToIntBits(expected[1][i]), Float.floatToIntBits(found[1][i]), place);
          }
        }
      }
    }
  }

  /** What is near levels, bounds and zeros, what is far away, and what is no number: a multiple of the lanes. */
  private static float[] targets(float[] levels) {
    float[] targets = new float[40 * L];
    Random random = new Random(2);
    float[] special = { 0, -0f, 0.49999997f, -0.5f, 1e30f, -1e30f, Float.NaN, Float.POSITIVE_INFINITY };
    for (int i = 0; i < targets.length; i++) {
      float level = levels[random.nextInt(levels.length)] + (random.nextBoolean() ? 0.5f : 0);
      targets[i] = switch (random.nextInt(4)) {
        case 0 -> level;
        case 1 -> random.nextBoolean() ? Math.nextUp(level) : Math.nextDown(level);
        case 2 -> special[random.nextInt(special.length)];
        default -> (float) (random.nextGaussian() * 20);
      };
    }
    return targets;
  }

  /** Levels and values. */
  private static float[][] round(LaneKernel kernel, float[] targets, float step, float offset, Levels levels) {
    float[] steps = new float[2 * L];
    float[] offsets = new float[2 * L];
    for (int lane = 0; lane < L; lane++) {
      steps[L + lane] = step;
      offsets[L + lane] = offset;
    }
    float[] level = new float[targets.length];
    float[] value = new float[targets.length];
    for (int at = 0; at < targets.length; at += L) {
      kernel.round(targets, at, steps, offsets, L, levels, level, value, at);
    }
    return new float[][] { level, value };
  }

  /** The width of vectors is the process's, so each has one of its own. */
  @Test
  void givesTheSameBitsWithVectorsOfEveryWidth() throws IOException, InterruptedException {
    Set<String> checksums = new HashSet<>(List.of(checksum(scalar)));
    for (int bytes = 16; bytes <= 64; bytes *= 2) {
      Process process = new ProcessBuilder(
        Path.of(System.getProperty("java.home"), "bin", "java").toString(),
        "-XX:MaxVectorSize=" + bytes,
        "-XX:+UseSerialGC",
        "--add-modules",
        "jdk.incubator.vector",
        "-cp",
        System.getProperty("java.class.path"),
        Main.class.getName()
      )
        .redirectErrorStream(true)
        .start();
      String said = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
      assertEquals(0, process.waitFor(), said);
      String[] last = said.lines().toList().getLast().split(" ");
      assertTrue(Integer.parseInt(last[0]) <= 8 * bytes, said);
      checksums.add(last[1]);
    }
    assertEquals(1, checksums.size(), checksums.toString());
  }

  /** Prints the width of vectors in bits and the checksum of results. */
  static final class Main {

    private Main() {}

    public static void main(String[] args) {
      LaneKernel kernel = new VectorLaneKernel();
      System.out.println(kernel.name().split("-")[0] + " " + checksum(kernel));
    }
  }

  private static String checksum(LaneKernel kernel) {
    CRC32 sum = new CRC32();
    for (Kind kind : Kind.values()) {
      float[] targets = targets(kind.levels);
      float[][] rounded = round(kernel, targets, 0.3f, 0.5f, Levels.of(kind.levels));
      float[] products = new float[L];
      kernel.addProducts(rounded[1], 3, targets, 0, 40, products, 0);
      for (float[] values : List.of(rounded[0], rounded[1], products)) {
        for (float value : values) {
          int bits = Float.floatToIntBits(value);
          sum.update(new byte[] { (byte) bits, (byte) (bits >> 8), (byte) (bits >> 16), (byte) (bits >> 24) });
        }
      }
    }
    return Long.toHexString(sum.getValue());
  }
}
