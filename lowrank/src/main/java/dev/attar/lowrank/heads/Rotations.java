package dev.attar.lowrank.heads;

import java.util.Arrays;
import java.util.stream.IntStream;

/**
 * How rotary pairs turn over the distances of query and key that a model was made for, each octave counting alike.
 *
 * @param turns e^(i distance frequency), (distances, pairs)
 */
record Rotations(Complex turns) {
  /** Distances in an octave. */
  private static final double PER_OCTAVE = 3;

  /**
   * @param frequencies of the pairs, radians per position
   * @param longest the longest distance, at least 1
   */
  static Rotations of(double[] frequencies, double longest) {
    double[] distances = IntStream.rangeClosed(-1, (int) (PER_OCTAVE * (Math.log(longest) / Math.log(2))))
      .mapToDouble(i -> i < 0 ? 0 : Math.pow(2, i / PER_OCTAVE))
      .toArray();
    Complex turns = new Complex(distances.length, frequencies.length);
    for (int i = 0; i < distances.length; i++) {
      for (int j = 0; j < frequencies.length; j++) {
        double angle = distances[i] * frequencies[j];
        turns.set(i, j, Math.cos(angle), Math.sin(angle));
      }
    }
    return new Rotations(turns);
  }

  int distances() {
    return turns.rows;
  }

  int pairs() {
    return turns.columns;
  }

  /** How much each pair turns: the standard deviation of its turns over the distances, 0 to 1. */
  double[] spread() {
    double[] spread = new double[pairs()];
    Arrays.setAll(spread, pair -> {
      double re = 0;
      double im = 0;
      for (int i = 0; i < distances(); i++) {
        re += turns.re(i, pair) / distances();
        im += turns.im(i, pair) / distances();
      }
      return Math.sqrt(Math.max(0, 1 - re * re - im * im));
    });
    return spread;
  }

  /** The real part of a number that is turned as one pair forth and as another one back, its mean over the distances. */
  double mean(double re, double im, int forth, int back) {
    double sum = 0;
    for (int i = 0; i < distances(); i++) {
      double a = turns.re(i, forth);
      double b = turns.im(i, forth);
      double c = turns.re(i, back);
      double d = turns.im(i, back);
      sum += re * (a * c + b * d) - im * (b * c - a * d);
    }
    return sum / distances();
  }
}
