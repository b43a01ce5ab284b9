package dev.attar.quant.gptq;

/**
 * Mean squared error of some of a layer's outputs on the calibration text, summed over them: {@code trace(E H E')} with the error E of
 * these rows of the weights and the Gram matrix H.
 *
 * @param rounding of importance-weighted rounding
 * @param result of what was chosen in the end
 */
record MatrixError(double rounding, double result) {
  static final MatrixError ZERO = new MatrixError(0, 0);

  /** The sums over rows. */
  static MatrixError sum(double[] rounding, double[] result) {
    double before = 0;
    double after = 0;
    for (int i = 0; i < result.length; i++) {
      before += rounding[i];
      after += result[i];
    }
    return new MatrixError(before, after);
  }

  MatrixError plus(MatrixError other) {
    return new MatrixError(rounding + other.rounding, result + other.result);
  }

  /** What is left of rounding's error; 1 if there is none. */
  double ratio() {
    return rounding > 0 ? result / rounding : 1;
  }
}
