package dev.attar.compute;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/**
 * The descent of {@link Device#refine} on the CPU. A thread takes some rows of the weights; for each block of columns one matrix product
 * gives the gradient, and what changes within the block is followed exactly, so every step lowers the error or changes nothing.
 */
final class Refinement {

  private static final int L = LaneKernel.LANES;

  /** Columns whose changes are followed before the gradient is computed anew: whole blocks of the grid. */
  private static final int BLOCK = QuantizationGrid.LONGEST_BLOCK;

  private final Level3 blas;
  private final LaneKernel kernel;
  private final LaneMatrix weights;
  private final LaneMatrix gram;
  private final float ridge;
  private final QuantizationGrid form;
  private final Levels levels;
  private final LaneMatrix chosen;
  private final int passes;
  private final boolean scales;

  Refinement(
    Level3 blas,
    LaneKernel kernel,
    LaneMatrix weights,
    LaneMatrix gram,
    float ridge,
    QuantizationGrid grid,
    LaneMatrix chosen,
    int passes,
    boolean scales
  ) {
    this.blas = blas;
    this.kernel = kernel;
    this.weights = weights;
    this.gram = gram;
    this.ridge = ridge;
    this.form = grid;
    this.levels = Levels.of(grid.levels());
    this.chosen = chosen;
    this.passes = passes;
    this.scales = scales;
  }

  /** Computes {@code e gram e'} of the rows of the weights from {@code first} on. */
  void errors(int first, int rows, double[] to) {
    int n = weights.rows();
    try (Arena arena = Arena.ofConfined()) {
      LaneMatrix errors = LaneMatrix.allocate(arena, n, rows);
      LaneMatrix gradient = LaneMatrix.allocate(arena, Math.min(BLOCK, n), rows);
      new Block(0).errors(first, rows, errors);
      Arrays.fill(to, first, first + rows, 0);
      float[] error = new float[rows];
      float[] product = new float[rows];
      for (int begin = 0; begin < n; begin += BLOCK) {
        int width = Math.min(BLOCK, n - begin);
        int after = n - begin - width;
        // The matrix is symmetric: what is right of the block on the diagonal counts twice.
        blas.gemm(
          false,
          false,
          width,
          rows,
          width,
          1,
          gram.block(begin, begin),
          errors.block(begin, 0),
          0,
          gradient.block(0, 0)
        );
        if (after > 0) {
          int end = begin + width;
          blas.gemm(
            false,
            false,
            width,
            rows,
            after,
            2,
            gram.block(begin, end),
            errors.block(end, 0),
            1,
            gradient.block(0, 0)
          );
        }
        for (int i = 0; i < width; i++) {
          errors.read(begin + i, 0, rows, error, 0);
          gradient.read(i, 0, rows, product, 0);
          for (int k = 0; k < rows; k++) {
            to[first + k] += (double) error[k] * product[k];
          }
        }
      }
    }
  }

  /** Refines the rows of the weights from {@code first} on; they are columns of the matrices. Brings their errors up to date. */
  void refine(int first, int rows, double[] to) {
    int n = weights.rows();
    try (Arena arena = Arena.ofConfined()) {
      LaneMatrix errors = LaneMatrix.allocate(arena, n, rows);
      LaneMatrix gradient = LaneMatrix.allocate(arena, Math.min(BLOCK, n), rows);
      Block block = new Block(Math.min(BLOCK, n));
      block.errors(first, rows, errors);
      for (int pass = 0; pass < passes; pass++) {
        for (int begin = 0; begin < n; begin += BLOCK) {
          int width = Math.min(BLOCK, n - begin);
          blas.gemm(false, false, width, rows, n, 1, gram.block(begin, 0), errors.block(0, 0), 0, gradient.block(0, 0));
          block.enter(begin, width);
          for (int lane = 0; lane < rows; lane += L) {
            block.refine(first, lane, Math.min(L, rows - lane), errors, gradient, to);
          }
        }
      }
    }
  }

  /** A block of columns of some rows: arrays of width x lanes, and the Gram matrix among these columns. */
  private final class Block {

    final LaneGrid grid = new LaneGrid(form);
    final float[] gram;
    final float[] weight;
    final float[] level;
    final float[] value;
    final float[] scale;
    final float[] offset;

    /** The gradient {@code H e} as the product gave it, and the change of the values since then. */
    final float[] gradient;

    final float[] change;

    /** What is left of the weights after pruning; null if nothing is pruned. */
    final float[] unpruned;

    /** Per lane. */
    final float[] target = new float[L];

    final float[] newLevel = new float[L];
    final float[] newValue = new float[L];
    final float[] slope = new float[L];

    /** Of the blocks' and groups' matrices, for a group or a block at a time. */
    final float[] d = new float[L];

    final float[] dmin = new float[L];
    final float[] s = new float[L];
    final float[] m = new float[L];
    final float[] direction; // width x lanes
    final Quadratic quadratic = new Quadratic();

    int begin;
    int width;

    Block(int width) {
      gram = new float[width * width];
      int size = width * L;
      weight = new float[size];
      level = new float[size];
      value = new float[size];
      scale = new float[size];
      offset = new float[size];
      gradient = new float[size];
      change = new float[size];
      unpruned = grid.hasPruned() ? new float[size] : null;
      direction = new float[size];
    }

    void enter(int begin, int width) {
      this.begin = begin;
      this.width = width;
      for (int i = 0; i < width; i++) {
        MemorySegment row = Refinement.this.gram.at(begin + i, begin);
        MemorySegment.copy(row, LaneMatrix.FLOAT, 0, gram, i * width, width);
        gram[i * width + i] += ridge;
      }
    }

    /** What the levels leave of the weights. */
    void errors(int first, int rows, LaneMatrix errors) {
      for (int lane = 0; lane < rows; lane += L) {
        int lanes = Math.min(L, rows - lane);
        for (int column = 0; column < errors.rows(); column++) {
          weights.read(column, first + lane, lanes, target, 0);
          chosen.read(column, first + lane, lanes, newLevel, 0);
          grid.read(column, first + lane, lanes, s, m, 0);
          for (int k = 0; k < lanes; k++) {
            target[k] -= s[k] * newLevel[k] + m[k];
          }
          errors.write(column, lane, lanes, target, 0);
        }
      }
    }

    void refine(int first, int lane, int lanes, LaneMatrix errors, LaneMatrix gradients, double[] to) {
      for (int i = 0; i < width; i++) {
        int at = i * L;
        weights.read(begin + i, first + lane, lanes, weight, at);
        chosen.read(begin + i, first + lane, lanes, level, at);
        grid.read(begin + i, first + lane, lanes, scale, offset, at);
        if (unpruned != null) {
          grid.readLeft(begin + i, first + lane, lanes, unpruned, at);
        }
        gradients.read(i, lane, lanes, gradient, at);
        for (int k = 0; k < L; k++) {
          value[at + k] = scale[at + k] * level[at + k] + offset[at + k];
          // The ridge is not in the product.
          gradient[at + k] += ridge * (weight[at + k] - value[at + k]);
        }
      }
      Arrays.fill(change, 0, width * L, 0);
      descend();
      if (scales) {
        refit(first + lane, lanes);
        descend();
      }
      followErrors(first + lane, lanes, to);
      for (int i = 0; i < width; i++) {
        int at = i * L;
        for (int k = 0; k < L; k++) {
          target[k] = weight[at + k] - value[at + k];
        }
        errors.write(begin + i, lane, lanes, target, 0);
        chosen.write(begin + i, first + lane, lanes, level, at);
      }
    }

    /** With a change c of the values, the error changes by -c (g + h), where g is the gradient before and h the one after. */
    private void followErrors(int row, int lanes, double[] to) {
      Arrays.fill(newValue, 0);
      for (int i = 0; i < width; i++) {
        int at = i * L;
        slope(i);
        for (int k = 0; k < L; k++) {
          float c = change[at + k];
          float left = weight[at + k] - value[at + k];
          newValue[k] -= c * (gradient[at + k] + slope[k] - ridge * (2 * left + c));
        }
      }
      for (int k = 0; k < lanes; k++) {
        to[row + k] += newValue[k];
      }
    }

    /** The gradient of column i now, into {@link #slope}. */
    private void slope(int i) {
      Arrays.fill(slope, 0);
      kernel.addProducts(gram, i * width, change, 0, width, slope, 0);
      for (int k = 0; k < L; k++) {
        slope[k] = gradient[i * L + k] - slope[k];
      }
    }

    /** Gives each column in turn the level that is best while the others stay. */
    private void descend() {
      for (int i = 0; i < width; i++) {
        int at = i * L;
        float step = 1 / gram[i * width + i];
        if (!Float.isFinite(step)) {
          continue; // of a dead input without ridge
        }
        slope(i);
        for (int k = 0; k < L; k++) {
          target[k] = value[at + k] + step * slope[k];
        }
        kernel.round(target, 0, scale, offset, at, levels, newLevel, newValue, 0);
        if (unpruned != null) {
          LaneGrid.clearPruned(unpruned, at, newLevel, newValue, 0);
        }
        for (int k = 0; k < L; k++) {
          change[at + k] += newValue[k] - value[at + k];
          value[at + k] = newValue[k];
          level[at + k] = newLevel[k];
        }
      }
    }

    /** Fits scales to the levels: first those of the groups, whole numbers, then those of the blocks, half-precision numbers. */
    private void refit(int row, int lanes) {
      for (int from = 0; from < width; from += form.blockLength()) {
        int block = (begin + from) / form.blockLength();
        grid.readBlock(block, row, lanes, d, dmin);
        if (form.leastScale() < form.mostScale()) {
          for (int i = from; i < from + form.blockLength(); i += form.groupLength()) {
            refitGroup(i, (begin + i) / form.groupLength(), row, lanes);
          }
        }
        refitBlock(from, block, row, lanes);
      }
    }

    private void refitGroup(int from, int group, int row, int lanes) {
      int length = form.groupLength();
      grid.readGroup(group, row, lanes, s, m);
      // Changing the scale moves the values along the levels, changing the minimum moves them all alike.
      quadratic.start(form.mostMinimum() > form.leastMinimum());
      for (int i = from; i < from + length; i++) {
        slope(i);
        Arrays.fill(target, 0);
        kernel.addProducts(gram, i * width + from, level, from, length, target, 0);
        float sum = 0;
        for (int j = from; j < from + length; j++) {
          sum += gram[i * width + j];
        }
        quadratic.add(level, i * L, slope, target, sum);
      }
      boolean changed = false;
      for (int k = 0; k < L; k++) {
        changed |= k < lanes && fitGroup(k);
      }
      if (changed) {
        grid.writeGroup(group, row, lanes, s, m);
        revalue(from, length);
      }
    }

    /** Chooses s and m of one lane; true if they changed. */
    private boolean fitGroup(int k) {
      double step = d[k];
      double minimum = dmin[k];
      double bestGain = quadratic.least(k);
      float bestS = s[k];
      float bestM = m[k];
      if (step != 0) {
        double wanted = s[k] + quadratic.first(k) / step;
        for (int up = 0; up <= 1; up++) {
          float newS = (float) Math.clamp(Math.floor(wanted) + up, form.leastScale(), form.mostScale());
          double a = (newS - s[k]) * step;
          float newM = m[k];
          if (quadratic.hasSecond() && minimum != 0) {
            double wantedM = m[k] - quadratic.secondGiven(k, a) / minimum;
            newM = (float) Math.clamp(Math.rint(wantedM), form.leastMinimum(), form.mostMinimum());
          }
          double b = -(newM - m[k]) * minimum;
          double gain = quadratic.gain(k, a, b);
          if (gain > bestGain) {
            bestGain = gain;
            bestS = newS;
            bestM = newM;
          }
        }
      }
      boolean changed = bestS != s[k] || bestM != m[k];
      s[k] = bestS;
      m[k] = bestM;
      return changed;
    }

    /** Computes the values of some columns anew, after their scales changed. */
    private void revalue(int from, int length) {
      for (int k = 0; k < L; k++) {
        target[k] = d[k] * s[k];
        newValue[k] = -(dmin[k] * m[k]);
      }
      for (int i = from; i < from + length; i++) {
        for (int k = 0; k < L; k++) {
          int at = i * L + k;
          scale[at] = target[k];
          offset[at] = newValue[k];
          float changed = target[k] * level[at] + newValue[k];
          change[at] += changed - value[at];
          value[at] = changed;
        }
      }
    }

    private void refitBlock(int from, int block, int row, int lanes) {
      int length = form.blockLength();
      int groupLength = form.groupLength();
      boolean hasMinimum = form.mostMinimum() > 0;
      // Along d the values move by s * level, along dmin by -m.
      for (int i = from; i < from + length; i += groupLength) {
        grid.readGroup((begin + i) / groupLength, row, lanes, s, m);
        for (int j = i; j < i + groupLength; j++) {
          for (int k = 0; k < L; k++) {
            direction[j * L + k] = s[k] * level[j * L + k];
          }
        }
      }
      quadratic.start(hasMinimum);
      float[] minimums = hasMinimum ? minimums(from, length, row, lanes) : null;
      for (int i = from; i < from + length; i++) {
        slope(i);
        Arrays.fill(target, 0);
        kernel.addProducts(gram, i * width + from, direction, from, length, target, 0);
        if (hasMinimum) {
          Arrays.fill(newValue, 0);
          kernel.addProducts(gram, i * width + from, minimums, from, length, newValue, 0);
          quadratic.add(direction, i * L, slope, target, minimums, i * L, newValue);
        } else {
          quadratic.add(direction, i * L, slope, target, 0);
        }
      }
      boolean changed = false;
      for (int k = 0; k < L; k++) {
        changed |= k < lanes && fitBlock(k);
      }
      if (changed) {
        grid.writeBlock(block, row, lanes, d, dmin);
        for (int i = from; i < from + length; i += groupLength) {
          grid.readGroup((begin + i) / groupLength, row, lanes, s, m);
          revalue(i, groupLength);
        }
      }
    }

    private float[] minimums(int from, int length, int row, int lanes) {
      float[] minimums = new float[width * L];
      for (int i = from; i < from + length; i += form.groupLength()) {
        grid.readGroup((begin + i) / form.groupLength(), row, lanes, s, m);
        for (int j = i; j < i + form.groupLength(); j++) {
          System.arraycopy(m, 0, minimums, j * L, L);
        }
      }
      return minimums;
    }

    /** Chooses d and dmin of one lane; true if they changed. */
    private boolean fitBlock(int k) {
      double least = quadratic.least(k);
      float newD = half(d[k] + quadratic.first(k));
      double a = (double) newD - d[k];
      float newMin = dmin[k];
      if (quadratic.hasSecond()) {
        newMin = half(dmin[k] - quadratic.secondGiven(k, a));
      }
      double b = -((double) newMin - dmin[k]);
      if (!(quadratic.gain(k, a, b) > least) || !Float.isFinite(newD) || !Float.isFinite(newMin)) {
        return false;
      }
      d[k] = newD;
      dmin[k] = newMin;
      return true;
    }

    private static float half(double x) {
      return Float.float16ToFloat(Float.floatToFloat16((float) x));
    }
  }

  /**
   * How the error changes, per lane, when values move by {@code a u + b v}: it falls by {@code 2 (a u'g + b v'g) - a² u'Hu - 2ab u'Hv -
   * b² v'Hv}, where g is the gradient H e.
   */
  private static final class Quadratic {

    private final double[] ug = new double[L];
    private final double[] vg = new double[L];
    private final double[] uu = new double[L];
    private final double[] uv = new double[L];
    private final double[] vv = new double[L];
    private boolean second;

    void start(boolean second) {
      this.second = second;
      for (double[] sums : new double[][] { ug, vg, uu, uv, vv }) {
        Arrays.fill(sums, 0);
      }
    }

    boolean hasSecond() {
      return second;
    }

    /** Adds a column, where v is 1: u and (Hu) of it per lane, the gradient, and the sum of H's row. */
    void add(float[] u, int uAt, float[] g, float[] hu, float hv) {
      for (int k = 0; k < L; k++) {
        ug[k] += (double) u[uAt + k] * g[k];
        uu[k] += (double) u[uAt + k] * hu[k];
        vg[k] += g[k];
        uv[k] += hu[k];
        vv[k] += hv;
      }
    }

    /** Adds a column with a v of its own. */
    void add(float[] u, int uAt, float[] g, float[] hu, float[] v, int vAt, float[] hv) {
      for (int k = 0; k < L; k++) {
        ug[k] += (double) u[uAt + k] * g[k];
        uu[k] += (double) u[uAt + k] * hu[k];
        vg[k] += (double) v[vAt + k] * g[k];
        uv[k] += (double) v[vAt + k] * hu[k];
        vv[k] += (double) v[vAt + k] * hv[k];
      }
    }

    /** The best a, with the best b beside it. */
    double first(int k) {
      if (second && vv[k] > 0) {
        double determinant = uu[k] * vv[k] - uv[k] * uv[k];
        if (determinant > 1e-6 * uu[k] * vv[k]) {
          return (ug[k] * vv[k] - vg[k] * uv[k]) / determinant;
        }
      }
      return uu[k] > 0 ? ug[k] / uu[k] : 0;
    }

    /** The best b beside this a. */
    double secondGiven(int k, double a) {
      return vv[k] > 0 ? (vg[k] - a * uv[k]) / vv[k] : 0;
    }

    double gain(int k, double a, double b) {
      return 2 * (a * ug[k] + b * vg[k]) - a * a * uu[k] - 2 * a * b * uv[k] - b * b * vv[k];
    }

    /** The least gain that is not rounding noise. */
    double least(int k) {
      return 1e-9 * uu[k];
    }
  }
}
