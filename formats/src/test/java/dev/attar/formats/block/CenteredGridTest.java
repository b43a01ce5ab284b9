package dev.attar.formats.block;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.formats.TensorType;
import java.util.EnumSet;
import java.util.Random;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/** Grids on which pruned weights stay exactly 0, and the encoder to them. */
class CenteredGridTest {

  private static final int LENGTH = 512;
  private static final int ROWS = 16;

  static Set<TensorType> types() {
    return EnumSet.of(
      TensorType.Q4_0,
      TensorType.Q4_1,
      TensorType.Q5_0,
      TensorType.Q5_1,
      TensorType.Q8_0,
      TensorType.Q2_K,
      TensorType.Q3_K,
      TensorType.Q4_K,
      TensorType.Q5_K,
      TensorType.Q6_K
    );
  }

  static Set<TensorType> centered() {
    return EnumSet.of(TensorType.Q4_1, TensorType.Q5_1, TensorType.Q2_K, TensorType.Q4_K, TensorType.Q5_K);
  }

  @Test
  void otherTypesHaveNoExactZero() {
    for (TensorType type : TensorType.values()) {
      assertEquals(types().contains(type), BlockGrid.withExactZero(type).isPresent(), type::name);
      assertEquals(types().contains(type), BlockEncoders.withExactZero(type).isPresent(), type::name);
    }
  }

  /** Rows of which about half are 0. */
  private static float[] pruned(long seed, double size) {
    Random random = new Random(seed);
    float[] x = new float[ROWS * LENGTH];
    for (int i = 0; i < x.length; i++) {
      x[i] = random.nextBoolean() ? 0 : (float) (random.nextGaussian() * size * (1 + ((i / 32) % 5)));
    }
    return x;
  }

  private static float[] importance() {
    Random random = new Random(5);
    float[] importance = new float[LENGTH];
    for (int i = 0; i < importance.length; i++) {
      importance[i] = random.nextFloat() * random.nextFloat() + 0.01f;
    }
    return importance;
  }

  private static byte[] encode(BlockEncoder encoder, float[] x, float[] importance) {
    byte[] out = new byte[Math.toIntExact(encoder.type().rowBytes(LENGTH)) * ROWS];
    encoder.encode(x, 0, LENGTH, ROWS, importance, 0, out, 0);
    return out;
  }

  private static float[] decode(TensorType type, byte[] bytes) {
    float[] values = new float[ROWS * LENGTH];
    BlockDecoders.of(type).decode(bytes, 0, values, 0, values.length);
    return values;
  }

  private static double error(float[] x, float[] found, float[] importance) {
    double error = 0;
    for (int i = 0; i < x.length; i++) {
      double e = (double) x[i] - found[i];
      error += importance[i % LENGTH] * e * e;
    }
    return error;
  }

  @ParameterizedTest
  @MethodSource("types")
  void zerosStayExactlyZero(TensorType type) {
    BlockEncoder encoder = BlockEncoders.withExactZero(type).orElseThrow();
    for (double size : new double[] { 1e-7, 0.02, 1, 1000 }) {
      for (float[] importance : new float[][] { null, importance() }) {
        float[] x = pruned(type.ordinal(), size);
        float[] found = decode(type, encode(encoder, x, importance));
        for (int i = 0; i < x.length; i++) {
          assertTrue(Float.isFinite(found[i]));
          if (x[i] == 0) {
            assertEquals(0f, found[i] + 0f, type + ", value " + i);
          }
        }
      }
    }
  }

  /** Of weights around 0 of which half are pruned, what minimums are good for is little; 0 on the grid makes up for much of it. */
  @ParameterizedTest
  @MethodSource("centered")
  void theErrorIsNotMuchLarger(TensorType type) {
    float[] x = pruned(1, 0.02);
    float[] importance = importance();
    double free = error(x, decode(type, encode(BlockEncoders.scalar(type).orElseThrow(), x, importance)), importance);
    BlockEncoder encoder = BlockEncoders.withExactZero(type).orElseThrow();
    double centered = error(x, decode(type, encode(encoder, x, importance)), importance);
    assertTrue(centered < 1.6 * free, type + ": " + centered + ", with free minimums " + free);
  }

  @ParameterizedTest
  @MethodSource("centered")
  void whatIsReadIsWhatIsDecoded(TensorType type) {
    BlockGrid grid = BlockGrid.withExactZero(type).orElseThrow();
    byte[] encoded = encode(BlockEncoders.withExactZero(type).orElseThrow(), pruned(2, 0.5), importance());
    float[] decoded = decode(type, encoded);
    BlockGrid.Scales scales = grid.newScales();
    byte[] codes = new byte[type.blockLength()];
    byte[] again = new byte[type.blockBytes()];
    for (int block = 0; block < encoded.length / type.blockBytes(); block++) {
      int at = block * type.blockBytes();
      grid.readScales(encoded, at, scales);
      grid.readCodes(encoded, at, codes, 0);
      for (int i = 0; i < codes.length; i++) {
        int group = i / grid.groupLength();
        float value = scales.step(group) * grid.levels()[codes[i] & 0xFF] + scales.offset(group);
        assertEquals(decoded[block * codes.length + i] + 0f, value + 0f, type + ", block " + block + ", weight " + i);
      }
      grid.writeScales(scales, again, 0);
      grid.writeCodes(codes, 0, again, 0);
      for (int i = 0; i < again.length; i++) {
        assertEquals(encoded[at + i], again[i]);
      }
    }
  }

  /** The search takes the best of its candidates: no step nearby of a single group is much better. */
  @ParameterizedTest
  @MethodSource("centered")
  void scalesAreNearTheBest(TensorType type) {
    BlockGrid grid = BlockGrid.withExactZero(type).orElseThrow();
    int half = grid.levels().length / 2;
    float[] x = pruned(3, 0.02);
    float[] importance = importance();
    float[] found = decode(type, encode(BlockEncoders.withExactZero(type).orElseThrow(), x, importance));
    double least = 0;
    int length = grid.groupLength();
    for (int from = 0; from < x.length; from += length) {
      double best = Double.POSITIVE_INFINITY;
      for (int t = -200; t <= 200; t++) {
        double step = (0.5 * t) / (200 * half);
        double error = 0;
        for (int i = from; i < from + length; i++) {
          double level = step == 0 ? 0 : Math.clamp(Math.rint(x[i] / step), -half, half - 1);
          error += importance[i % LENGTH] * Math.pow(x[i] - step * level, 2);
        }
        best = Math.min(best, error);
      }
      least += best;
    }
    double error = error(x, found, importance);
    assertTrue(error < 1.35 * least, type + ": " + error + ", the best steps of all groups alone " + least);
  }

  @Test
  void stepsWithoutAMinimumAreRefused() {
    for (TensorType type : centered()) {
      BlockGrid grid = BlockGrid.withExactZero(type).orElseThrow();
      BlockGrid.Scales scales = grid.newScales();
      scales.d = 65504;
      assertThrows(IllegalArgumentException.class, () -> grid.writeScales(scales, new byte[type.blockBytes()], 0));
    }
  }
}
