package dev.attar.compute;

import java.util.Arrays;
import java.util.Comparator;
import java.util.Random;
import java.util.stream.IntStream;

/**
 * Random weights, the Gram matrix of correlated activations and a grid, and what may be computed with them in plain loops. Arrays are
 * laid out as a device's matrices are, a column per row of the weights: {@code weights[column * rows + row]}.
 */
public final class QuantizationProblem {

  static final float RIDGE_PART = 0.01f;

  private static final float[] CODEBOOK = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };

  /** The grids of GGUF's block formats. */
  public enum Kind {
    PLAIN(whole(-8, 7), 32, 32, 1, 1, 0),
    MINIMUM(whole(0, 15), 32, 32, 1, 1, 1),
    LISTED(CODEBOOK, 32, 32, 1, 1, 0),
    SIGNED_SCALES(whole(-4, 3), 16, 256, -32, 31, 0),
    SCALES_AND_MINIMUMS(whole(0, 3), 16, 256, 0, 15, 15),
    LONG_SCALES_AND_MINIMUMS(whole(0, 15), 32, 256, 0, 63, 63),
    LISTED_SCALES(CODEBOOK, 32, 256, -32, 31, 0),
    /** With half of the weights pruned. */
    PRUNED(whole(-8, 7), 32, 256, 0, 63, 0);

    public final float[] levels;
    public final int leastScale;
    public final int mostScale;
    public final int mostMinimum;
    private final int longestGroup;
    private final int longestBlock;

    Kind(float[] levels, int longestGroup, int longestBlock, int leastScale, int mostScale, int mostMinimum) {
      this.levels = levels;
      this.longestGroup = longestGroup;
      this.longestBlock = longestBlock;
      this.leastScale = leastScale;
      this.mostScale = mostScale;
      this.mostMinimum = mostMinimum;
    }

    private static float[] whole(int least, int most) {
      float[] levels = new float[most - least + 1];
      for (int i = 0; i < levels.length; i++) {
        levels[i] = least + i;
      }
      return levels;
    }

    boolean hasScales() {
      return leastScale < mostScale;
    }

    /** Minimums are fixed at 1 where scales are. */
    public int leastMinimum() {
      return hasScales() ? 0 : mostMinimum;
    }

    boolean isLevel(float level) {
      return Arrays.binarySearch(levels, level) >= 0;
    }

    float nearestLevel(double wanted) {
      double y = Math.clamp(wanted, levels[0] - 1.0, levels[levels.length - 1] + 1.0);
      float nearest = levels[0];
      for (float level : levels) {
        nearest = Math.abs(level - y) <= Math.abs(nearest - y) ? level : nearest;
      }
      return nearest;
    }
  }

  /** A grid's matrices. */
  public record Grid(
    Kind kind,
    int groupLength,
    int blockLength,
    int rows,
    float[] d,
    float[] dmin,
    float[] scale,
    float[] minimum,
    float[] pruned
  ) {
    boolean isPruned(int column, int row) {
      return pruned != null && pruned[column * rows + row] == 0;
    }

    float step(int column, int row) {
      return d[(column / blockLength) * rows + row] * scale[(column / groupLength) * rows + row];
    }

    float offset(int column, int row) {
      return -(dmin[(column / blockLength) * rows + row] * minimum[(column / groupLength) * rows + row]);
    }

    public float value(int column, int row, float level) {
      return step(column, row) * level + offset(column, row);
    }

    /** The level whose value is nearest; that nearest to 0 if all values are the same, and 0 if the weight is pruned. */
    float nearestLevel(int column, int row, double target) {
      if (isPruned(column, row)) {
        return 0;
      }
      float step = step(column, row);
      return kind.nearestLevel(step == 0 ? 0 : (target - offset(column, row)) / step);
    }
  }

  public final Kind kind;
  public final int n;
  public final int rows;
  public final float[] weights;
  public final float[] gram;
  public final Grid grid;

  public QuantizationProblem(Kind kind, int n, int rows, long seed) {
    this.kind = kind;
    this.n = n;
    this.rows = rows;
    Random random = new Random(seed);
    gram = correlated(n, random);
    weights = new float[n * rows];
    for (int i = 0; i < weights.length; i++) {
      weights[i] = (float) random.nextGaussian() * 0.05f;
    }
    grid = roundingGrid(random);
  }

  /** The Gram matrix of activations that have a few directions in common, of columns of different strength. */
  static float[] correlated(int n, Random random) {
    int tokens = 32 + n / 2;
    int directions = 4;
    double[] strength = random.doubles(n, 0.2, 2).toArray();
    double[] mix = random.doubles((long) directions * n, -1, 1).toArray();
    double[] x = new double[tokens * n];
    for (int token = 0; token < tokens; token++) {
      double[] common = random.doubles(directions, -2, 2).toArray();
      for (int i = 0; i < n; i++) {
        double value = 0.7 * random.nextGaussian();
        for (int k = 0; k < directions; k++) {
          value += common[k] * mix[k * n + i];
        }
        x[token * n + i] = strength[i] * value;
      }
    }
    double[] sums = new double[n * n];
    for (int token = 0; token < tokens; token++) {
      for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) {
          sums[i * n + j] += (x[token * n + i] * x[token * n + j]) / tokens;
        }
      }
    }
    float[] gram = new float[n * n];
    for (int i = 0; i < gram.length; i++) {
      gram[i] = (float) sums[i];
    }
    return gram;
  }

  /** Scales that just reach the largest weights; some negative ones where scales have signs, some of 0. */
  private Grid roundingGrid(Random random) {
    int common = Integer.lowestOneBit(n);
    int block = Math.min(kind.longestBlock, common);
    int group = Math.min(kind.longestGroup, common);
    int groups = n / group;
    int perBlock = block / group;
    Grid made = new Grid(
      kind,
      group,
      block,
      rows,
      new float[(n / block) * rows],
      new float[(n / block) * rows],
      new float[groups * rows],
      new float[groups * rows],
      kind == Kind.PRUNED ? mask(random) : null
    );
    float least = kind.levels[0];
    float most = kind.levels[kind.levels.length - 1];
    for (int row = 0; row < rows; row++) {
      float[] steps = new float[groups];
      float[] minimums = new float[groups];
      for (int g = 0; g < groups; g++) {
        float low = 0;
        float high = 0;
        for (int i = g * group; i < (g + 1) * group; i++) {
          low = Math.min(low, weights[i * rows + row]);
          high = Math.max(high, weights[i * rows + row]);
        }
        minimums[g] = kind.mostMinimum > 0 ? -low : 0;
        steps[g] = kind.mostMinimum > 0 ? (high - low) / most : Math.max(-low, high) / Math.max(-least, most);
      }
      for (int b = 0; b < n / block; b++) {
        float mostStep = 0;
        float mostMinimum = 0;
        for (int g = b * perBlock; g < (b + 1) * perBlock; g++) {
          mostStep = Math.max(mostStep, steps[g]);
          mostMinimum = Math.max(mostMinimum, minimums[g]);
        }
        boolean negative = kind.leastScale < 0 && random.nextInt(3) == 0;
        float d = half((negative ? -mostStep : mostStep) / kind.mostScale);
        float dmin = half(kind.mostMinimum > 0 ? mostMinimum / kind.mostMinimum : 0);
        made.d[b * rows + row] = d;
        made.dmin[b * rows + row] = dmin;
        for (int g = b * perBlock; g < (b + 1) * perBlock; g++) {
          boolean none = kind.hasScales() && random.nextInt(16) == 0;
          float scale = none ? 0 : (float) Math.rint(steps[g] / d);
          made.scale[g * rows + row] = Math.clamp(scale, kind.leastScale, kind.mostScale);
          float minimum = dmin == 0 ? 0 : (float) Math.rint(minimums[g] / dmin);
          made.minimum[g * rows + row] = Math.clamp(minimum, kind.leastMinimum(), kind.mostMinimum);
        }
      }
    }
    return made;
  }

  /** 0 for about half of the weights, what they are for the others. */
  private float[] mask(Random random) {
    float[] mask = weights.clone();
    for (int i = 0; i < mask.length; i++) {
      mask[i] = random.nextBoolean() ? 0 : mask[i];
    }
    return mask;
  }

  static float half(float x) {
    return Float.float16ToFloat(Float.floatToFloat16(x));
  }

  public float ridge() {
    double trace = 0;
    for (int i = 0; i < n; i++) {
      trace += gram[i * n + i];
    }
    return (float) ((RIDGE_PART * trace) / n);
  }

  /** The columns by decreasing mean square, those of a group one after the other. */
  public int[] order() {
    double[] sums = new double[n / grid.groupLength];
    for (int i = 0; i < n; i++) {
      sums[i / grid.groupLength] += gram[i * n + i];
    }
    return IntStream.range(0, n)
      .boxed()
      .sorted(
        Comparator.comparingDouble((Integer i) -> -sums[i / grid.groupLength])
          .thenComparing(i -> i / grid.groupLength)
          .thenComparingDouble(i -> -gram[i * n + i])
      )
      .mapToInt(Integer::intValue)
      .toArray();
  }

  /** The levels of plain rounding. */
  public float[] rounded() {
    float[] levels = new float[n * rows];
    for (int i = 0; i < n; i++) {
      for (int row = 0; row < rows; row++) {
        levels[i * rows + row] = grid.nearestLevel(i, row, weights[i * rows + row]);
      }
    }
    return levels;
  }

  /** What levels leave of a row of the weights. */
  double[] left(Grid of, float[] levels, int row) {
    double[] left = new double[n];
    for (int i = 0; i < n; i++) {
      left[i] = (double) weights[i * rows + row] - of.value(i, row, levels[i * rows + row]);
    }
    return left;
  }

  /** {@code e (gram + ridge I) e'} of each row. */
  double[] errors(Grid of, float[] levels, float ridge) {
    double[] errors = new double[rows];
    for (int row = 0; row < rows; row++) {
      double[] e = left(of, levels, row);
      for (int i = 0; i < n; i++) {
        double product = ridge * e[i];
        for (int j = 0; j < n; j++) {
          product += gram[i * n + j] * e[j];
        }
        errors[row] += e[i] * product;
      }
    }
    return errors;
  }

  /** What {@link #errors} is the difference of: how large rounding may make it. */
  double[] sizes(Grid of, float[] levels) {
    double[] sizes = new double[rows];
    for (int row = 0; row < rows; row++) {
      double[] e = left(of, levels, row);
      for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) {
          sizes[row] += Math.abs(e[i] * gram[i * n + j] * e[j]);
        }
      }
    }
    return sizes;
  }

  /**
   * The upper Cholesky factor U of the inverse of {@code gram + ridge I} in an order of columns, {@code inverse = U'U}: what GPTQ as
   * published feeds errors back by.
   */
  double[][] inverseFactor(int[] order, float ridge) {
    double[][] h = new double[n][n];
    for (int i = 0; i < n; i++) {
      for (int j = 0; j < n; j++) {
        h[i][j] = gram[order[i] * n + order[j]] + (i == j ? ridge : 0);
      }
    }
    double[][] root = cholesky(h);
    // The columns of the inverse of the root, as rows.
    double[][] columns = new double[n][n];
    for (int j = 0; j < n; j++) {
      for (int i = j; i < n; i++) {
        double sum = i == j ? 1 : 0;
        for (int k = j; k < i; k++) {
          sum -= root[i][k] * columns[j][k];
        }
        columns[j][i] = sum / root[i][i];
      }
    }
    double[][] inverse = new double[n][n];
    for (int i = 0; i < n; i++) {
      for (int j = 0; j <= i; j++) {
        for (int k = i; k < n; k++) {
          inverse[i][j] += columns[i][k] * columns[j][k];
        }
        inverse[j][i] = inverse[i][j];
      }
    }
    double[][] lower = cholesky(inverse);
    double[][] upper = new double[n][n];
    for (int i = 0; i < n; i++) {
      for (int j = i; j < n; j++) {
        upper[i][j] = lower[j][i];
      }
    }
    return upper;
  }

  private static double[][] cholesky(double[][] a) {
    int n = a.length;
    double[][] l = new double[n][n];
    for (int i = 0; i < n; i++) {
      for (int j = 0; j <= i; j++) {
        double sum = a[i][j];
        for (int k = 0; k < j; k++) {
          sum -= l[i][k] * l[j][k];
        }
        l[i][j] = i == j ? Math.sqrt(sum) : sum / l[j][j];
      }
    }
    return l;
  }
}
