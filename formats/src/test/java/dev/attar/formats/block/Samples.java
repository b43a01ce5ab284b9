package dev.attar.formats.block;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;

/** Seeded values that encoders find easy and hard, all finite. */
final class Samples {

  private Samples() {}

  /** Fills a row. */
  @FunctionalInterface
  interface Filler {
    void fill(float[] x, int from, int to, Random random);
  }

  /** A kind of row. */
  record Kind(String name, Filler filler) {
    float[] rows(int rowLength, int rows, long seed) {
      float[] x = new float[rowLength * rows];
      Random random = new Random(seed);
      for (int r = 0; r < rows; r++) {
        filler.fill(x, r * rowLength, (r + 1) * rowLength, random);
      }
      return x;
    }

    @Override
    public String toString() {
      return name;
    }
  }

  /** Kinds of values. */
  static List<Kind> values() {
    List<Kind> kinds = new ArrayList<>();
    kinds.add(each("normal", r -> 0.02f * (float) r.nextGaussian()));
    kinds.add(each("uniform", r -> 2 * r.nextFloat() - 1));
    kinds.add(each("positive", r -> r.nextFloat() + 0.5f));
    kinds.add(each("negative", r -> -r.nextFloat() - 0.5f));
    kinds.add(each("heavy-tailed", r -> (float) (r.nextGaussian() / Math.max(1e-3, Math.abs(r.nextGaussian())))));
    kinds.add(each("zero", _ -> 0));
    kinds.add(each("signed zero", r -> r.nextBoolean() ? 0f : -0f));
    kinds.add(each("ties", r -> r.nextInt(-4, 5) * 0.25f));
    kinds.add(each("plus or minus one", r -> r.nextBoolean() ? 1 : -1));
    kinds.add(each("halves", r -> r.nextInt(-254, 255) * 0.5f));
    kinds.add(each("denormal", r -> Float.intBitsToFloat(r.nextInt(0x800000) | (r.nextBoolean() ? 0x80000000 : 0))));
    kinds.add(each("smallest", r -> r.nextInt(-3, 4) * Float.MIN_VALUE));
    kinds.add(each("barely normal", r -> (float) r.nextGaussian() * 4e-38f));
    kinds.add(each("tiny", r -> (float) r.nextGaussian() * 1e-15f));
    kinds.add(each("half's denormals", r -> (float) r.nextGaussian() * 1e-6f));
    kinds.add(each("too large for a half", r -> (float) r.nextGaussian() * 3e5f));
    kinds.add(each("huge", r -> (float) r.nextGaussian() * 1e30f));
    kinds.add(each("largest", r -> r.nextBoolean() ? Float.MAX_VALUE : -Float.MAX_VALUE * r.nextFloat()));
    kinds.add(each("root of largest", r -> (float) r.nextGaussian() * 1e19f));
    kinds.add(
      each("any bits", r -> {
        float v;
        do {
          v = Float.intBitsToFloat(r.nextInt());
        } while (!Float.isFinite(v));
        return v;
      })
    );
    kinds.add(new Kind("constant", (x, from, to, r) -> Arrays.fill(x, from, to, (float) r.nextGaussian())));
    kinds.add(
      new Kind("one outlier", (x, from, to, r) -> {
        normal(x, from, to, r);
        x[r.nextInt(from, to)] = r.nextBoolean() ? 50 : -50;
      })
    );
    kinds.add(new Kind("one value", (x, from, to, r) -> x[r.nextInt(from, to)] = (float) r.nextGaussian()));
    kinds.add(
      new Kind("blocks of every size", (x, from, to, r) -> {
        for (int i = from; i < to; i++) {
          int exponent = ((((i - from) / 32) * 37) % 250) - 125;
          x[i] = Math.scalb((float) r.nextGaussian(), exponent);
        }
      })
    );
    kinds.add(
      new Kind("some blocks zero", (x, from, to, r) -> {
        normal(x, from, to, r);
        for (int i = from; i < to; i += 32) {
          if (r.nextInt(3) == 0) {
            Arrays.fill(x, i, i + 32, 0);
          }
        }
      })
    );
    kinds.add(
      new Kind("tied maxima of both signs", (x, from, to, r) -> {
        normal(x, from, to, r);
        for (int i = from; i < to; i += 32) {
          x[i + r.nextInt(32)] = 0.5f;
          x[i + r.nextInt(32)] = -0.5f;
        }
      })
    );
    return kinds;
  }

  /** Kinds of importance. */
  static List<Kind> importances() {
    return List.of(
      each("squares", r -> (float) Math.pow(r.nextGaussian(), 2)),
      each("ones", _ -> 1),
      each("zeros", _ -> 0),
      each("some zero", r -> r.nextInt(3) == 0 ? 0 : r.nextFloat()),
      each("most zero", r -> r.nextInt(12) == 0 ? r.nextFloat() : 0),
      each("denormal", r -> r.nextInt(8) * Float.MIN_VALUE),
      each("far apart", r -> (float) Math.exp(20 * r.nextGaussian())),
      each("huge", r -> r.nextFloat() * 3e38f)
    );
  }

  private interface Draw {
    float next(Random random);
  }

  private static Kind each(String name, Draw draw) {
    return new Kind(name, (x, from, to, r) -> {
      for (int i = from; i < to; i++) {
        x[i] = draw.next(r);
      }
    });
  }

  private static void normal(float[] x, int from, int to, Random r) {
    for (int i = from; i < to; i++) {
      x[i] = 0.02f * (float) r.nextGaussian();
    }
  }
}
