package dev.attar.bench.accuracy;

/** The kernel without SIMD, in float64. Its loops also finish rows that do not fill the last vector. */
final class ScalarLogitKernel extends RowKernel {

  @Override
  void findTop(Row row, int vocabulary) {
    findTop(row, 0, vocabulary);
  }

  @Override
  void findSum(Row row, int vocabulary) {
    row.sum = sum(row, 0, vocabulary);
  }

  @Override
  double findSums(Row base, Row model, int vocabulary) {
    findSum(base, vocabulary);
    findSum(model, vocabulary);
    return cross(base, model, 0, vocabulary);
  }

  /** Goes on with values {@code from} to {@code to} of a row. */
  static void findTop(Row row, int from, int to) {
    float max = row.max;
    int top = row.top;
    for (int i = from; i < to; i++) {
      float value = row.get(i);
      if (value > max) {
        max = value;
        top = i;
      }
    }
    row.max = max;
    row.top = top;
  }

  /** What values {@code from} to {@code to} add to {@link Row#sum}. */
  static double sum(Row row, int from, int to) {
    double sum = 0;
    for (int i = from; i < to; i++) {
      sum += exp((double) row.get(i) - row.max);
    }
    return sum;
  }

  /** What values {@code from} to {@code to} add to the sum that {@link #findSums} returns. */
  static double cross(Row base, Row model, int from, int to) {
    double cross = 0;
    for (int i = from; i < to; i++) {
      double b = (double) base.get(i) - base.max;
      double m = (double) model.get(i) - model.max;
      double e = exp(b);
      if (e != 0) {
        cross += e * (b - m);
      }
    }
    return cross;
  }

  private static double exp(double x) {
    return x < LOWEST ? 0 : Math.exp(x);
  }

  @Override
  public String toString() {
    return "scalar";
  }
}
