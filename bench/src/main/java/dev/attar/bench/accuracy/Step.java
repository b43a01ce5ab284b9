package dev.attar.bench.accuracy;

import java.io.DataInput;
import java.io.DataOutput;
import java.io.IOException;

/**
 * Tokens that a model decodes in one call: some whole windows, or a part of a long one.
 *
 * @param first whether this begins its windows: what the model remembers of earlier ones is cleared
 * @param tokens the tokens
 * @param positions position of each in its window; where it is 0 a model that wants a BOS token sees that instead
 * @param sequences number of each token's window within the step, from 0
 * @param targets the token that follows, where the prediction is scored; {@link #NOT_SCORED} elsewhere
 */
public record Step(boolean first, int[] tokens, int[] positions, int[] sequences, int[] targets) {
  /** In place of a target. */
  public static final int NOT_SCORED = -1;

  public Step {
    int n = tokens.length;
    if (positions.length != n || sequences.length != n || targets.length != n) {
      throw new IllegalArgumentException("arrays of different lengths");
    }
  }

  /** The targets of the tokens that are scored, in order. */
  public int[] scored() {
    int n = 0;
    for (int target : targets) {
      n += target == NOT_SCORED ? 0 : 1;
    }
    int[] scored = new int[n];
    int at = 0;
    for (int target : targets) {
      if (target != NOT_SCORED) {
        scored[at++] = target;
      }
    }
    return scored;
  }

  /** Writes the step for {@link #read}. */
  public void write(DataOutput out) throws IOException {
    out.writeBoolean(first);
    out.writeInt(tokens.length);
    for (int[] values : new int[][] { tokens, positions, sequences, targets }) {
      for (int value : values) {
        out.writeInt(value);
      }
    }
  }

  /**
   * Reads a step.
   *
   * @param most the most tokens that it may have
   * @throws IOException if it has more, or ends too early
   */
  public static Step read(DataInput in, int most) throws IOException {
    boolean first = in.readBoolean();
    int n = in.readInt();
    if (n < 0 || n > most) {
      throw new IOException("a step of " + n + " tokens, expected at most " + most);
    }
    return new Step(first, readInts(in, n), readInts(in, n), readInts(in, n), readInts(in, n));
  }

  private static int[] readInts(DataInput in, int n) throws IOException {
    int[] values = new int[n];
    for (int i = 0; i < n; i++) {
      values[i] = in.readInt();
    }
    return values;
  }

  @Override
  public boolean equals(Object other) {
    return this == other;
  }

  @Override
  public int hashCode() {
    return System.identityHashCode(this);
  }

  @Override
  public String toString() {
    return tokens.length + " tokens from position " + (tokens.length == 0 ? 0 : positions[0]);
  }
}
