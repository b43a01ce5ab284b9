package dev.attar.bench.accuracy;

import java.io.DataInput;
import java.io.DataOutput;
import java.io.IOException;

/** How scores cross a pipe: a count, then one array after another, big-endian. */
final class Scores {

  private Scores() {}

  static int firstNaN(double[] values) {
    for (int i = 0; i < values.length; i++) {
      if (Double.isNaN(values[i])) {
        return i;
      }
    }
    return -1;
  }

  static void write(double[] values, DataOutput out) throws IOException {
    for (double value : values) {
      out.writeDouble(value);
    }
  }

  static int readCount(DataInput in, int most) throws IOException {
    int count = in.readInt();
    if (count < 0 || count > most) {
      throw new IOException("scores of tokens: " + count + " tokens, expected at most " + most);
    }
    return count;
  }

  /** Fills an array with values that are NaN or from {@code low} to {@code high}. */
  static void read(double[] values, String name, double low, double high, DataInput in) throws IOException {
    for (int i = 0; i < values.length; i++) {
      double value = in.readDouble();
      if (value < low || value > high) {
        throw new IOException(
          "scores of tokens: token " + i + ": " + name + " is " + value + ", expected " + low + " to " + high
        );
      }
      values[i] = value;
    }
  }
}
