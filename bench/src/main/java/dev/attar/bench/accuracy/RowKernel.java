package dev.attar.bench.accuracy;

import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.Objects;

/** What kernels have in common: all but the loops over the vocabulary. */
abstract class RowKernel implements LogitKernel {

  static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;

  /** Differences to the largest logit below this count as minus infinity: the exponential leaves float32's normal range. */
  static final float LOWEST = -87;

  /** A row of logits, and what is found out about it. */
  static final class Row {

    final MemorySegment logits;

    /** Where the row begins in the segment, in bytes. */
    long offset;

    /** The largest logit, NaN ignored; minus infinity if there is none. */
    float max;

    /** Index of the first logit that is {@link #max}. */
    int top;

    /** Sum of exp(logit - max) over the row. */
    double sum;

    Row(MemorySegment logits) {
      this.logits = logits;
    }

    void moveTo(long newOffset) {
      offset = newOffset;
      max = Float.NEGATIVE_INFINITY;
      top = 0;
      sum = 0;
    }

    float get(int i) {
      return logits.get(FLOAT, offset + 4L * i);
    }

    boolean isValid() {
      return Float.isFinite(max) && !Double.isNaN(sum);
    }

    /** Negative log-likelihood of a token. */
    double nll(int token) {
      return Math.log(sum) + ((double) max - get(token));
    }
  }

  /** Finds {@link Row#max} and {@link Row#top}. */
  abstract void findTop(Row row, int vocabulary);

  /** Finds {@link Row#sum}, given the row's maximum, which is finite. */
  abstract void findSum(Row row, int vocabulary);

  /**
   * Finds the {@link Row#sum} of both rows, given their maxima, which are finite.
   *
   * @return Σ exp(b - max b) ((b - max b) - (m - max m)) over the values b of the base and m of the model
   */
  abstract double findSums(Row base, Row model, int vocabulary);

  @Override
  public final void score(
    MemorySegment logits,
    int rows,
    int vocabulary,
    int[] targets,
    int firstTarget,
    TokenScores out,
    int firstOut
  ) {
    check(logits, rows, vocabulary);
    check(targets, firstTarget, rows, vocabulary);
    Objects.checkFromIndexSize(firstOut, rows, out.count());
    Row row = new Row(logits);
    for (int i = 0; i < rows; i++) {
      row.moveTo(4L * i * vocabulary);
      findTop(row, vocabulary);
      if (Float.isFinite(row.max)) {
        findSum(row, vocabulary);
      }
      out.nll[firstOut + i] = row.isValid() ? row.nll(targets[firstTarget + i]) : Double.NaN;
    }
  }

  @Override
  public final void compare(
    MemorySegment base,
    MemorySegment model,
    int rows,
    int vocabulary,
    int[] targets,
    int firstTarget,
    TokenComparison out,
    int firstOut
  ) {
    check(base, rows, vocabulary);
    check(model, rows, vocabulary);
    check(targets, firstTarget, rows, vocabulary);
    Objects.checkFromIndexSize(firstOut, rows, out.count());
    Row baseRow = new Row(base);
    Row modelRow = new Row(model);
    for (int i = 0; i < rows; i++) {
      baseRow.moveTo(4L * i * vocabulary);
      modelRow.moveTo(4L * i * vocabulary);
      compare(baseRow, modelRow, vocabulary, targets[firstTarget + i], out, firstOut + i);
    }
  }

  private void compare(Row base, Row model, int vocabulary, int target, TokenComparison out, int at) {
    findTop(base, vocabulary);
    findTop(model, vocabulary);
    double cross = Double.NaN;
    if (Float.isFinite(base.max) && Float.isFinite(model.max)) {
      cross = findSums(base, model, vocabulary);
    }
    if (!base.isValid() || !model.isValid()) {
      out.nll[at] = Double.NaN;
      out.baseNll[at] = Double.NaN;
      out.divergence[at] = Double.NaN;
      out.deltaP[at] = Double.NaN;
      out.sameTop[at] = false;
      return;
    }
    double nll = model.nll(target);
    double baseNll = base.nll(target);
    out.nll[at] = nll;
    out.baseNll[at] = baseNll;
    // The divergence is Σ p (log p - log q), with log p = (b - max b) - log Σb for the base and log q alike for the model.
    out.divergence[at] = Math.max(0, cross / base.sum + (Math.log(model.sum) - Math.log(base.sum)));
    out.deltaP[at] = Math.exp(-nll) - Math.exp(-baseNll);
    out.sameTop[at] = base.top == model.top;
  }

  private static void check(MemorySegment logits, int rows, int vocabulary) {
    if (rows < 0 || vocabulary < 1) {
      throw new IndexOutOfBoundsException(rows + " rows of " + vocabulary + " logits");
    }
    if (rows > logits.byteSize() / 4 / vocabulary) {
      throw new IndexOutOfBoundsException(
        rows + " rows of " + vocabulary + " float32 logits in " + logits.byteSize() + " bytes"
      );
    }
  }

  private static void check(int[] targets, int first, int count, int vocabulary) {
    Objects.checkFromIndexSize(first, count, targets.length);
    for (int i = first; i < first + count; i++) {
      Objects.checkIndex(targets[i], vocabulary);
    }
  }
}
