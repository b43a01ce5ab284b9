package dev.attar.calibration;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import dev.attar.llama.Node;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Arrays;

/**
 * The rows of values that enter a matrix multiplication, by the expert that meets them: a row goes to the experts that the router
 * chose for its token; where a weight has several matrices without a router, each has rows of its own. Or the rows that come out.
 */
public final class Activations {

  static final int F32 = 0; // GGML_TYPE_F32

  private final MemorySegment data;
  private final int columns;
  private final long[] rows;
  private final long[] routed;
  private final int[] starts;

  private Activations(MemorySegment data, int columns, long[] rows, long[] routed, int[] starts) {
    this.data = data;
    this.columns = columns;
    this.rows = rows;
    this.routed = routed;
    this.starts = starts;
  }

  /** Values per token of what a multiplication meets. */
  static int columns(Node product) {
    return Math.toIntExact(source(product, 0).ne(0));
  }

  /** Number of matrices in a multiplication's weight. */
  static int experts(Node product) {
    Node weight = source(product, 0);
    return Math.toIntExact(weight.ne(2) * weight.ne(3));
  }

  private static Node source(Node product, int index) {
    return product.source(index).orElseThrow(() -> new IllegalStateException(product + ": no source " + index));
  }

  /**
   * Finds the rows.
   *
   * @param product a multiplication by a weight that has been computed
   * @param arena for what must be copied from a device
   */
  static Activations of(Node product, Arena arena) {
    Node input = source(product, 1);
    int experts = experts(product);
    long[] places = places(input);
    int[] meets = product.op() == Node.Op.MUL_MAT_ID ? chosen(product, experts, arena) : own(product);
    // Those of each expert together, in their order.
    int[] starts = new int[experts + 1];
    for (int expert : meets) {
      starts[expert + 1]++;
    }
    Arrays.parallelPrefix(starts, Integer::sum);
    int[] next = Arrays.copyOf(starts, experts);
    long[] routed = new long[meets.length];
    int perRow = meets.length / places.length;
    for (int i = 0; i < meets.length; i++) {
      routed[next[meets[i]]++] = places[i / perRow];
    }
    return new Activations(data(input, arena), Math.toIntExact(input.ne(0)), places, routed, starts);
  }

  /**
   * Finds the rows of a result, all of them expert 0's.
   *
   * @param result a float32 node that has been computed
   * @param arena for what must be copied from a device
   */
  static Activations ofResult(Node result, Arena arena) {
    long[] places = places(result);
    int[] starts = { 0, places.length };
    return new Activations(data(result, arena), Math.toIntExact(result.ne(0)), places, places, starts);
  }

  /** Where each row begins, in bytes. */
  private static long[] places(Node node) {
    if (node.type() != F32 || node.nb(0) != Float.BYTES) {
      throw new IllegalStateException(node + ": a row's values are not float32 side by side");
    }
    long[] places = new long[Math.toIntExact(node.ne(1) * node.ne(2) * node.ne(3))];
    int n = 0;
    for (long k = 0; k < node.ne(3); k++) {
      for (long j = 0; j < node.ne(2); j++) {
        for (long i = 0; i < node.ne(1); i++) {
          places[n++] = i * node.nb(1) + j * node.nb(2) + k * node.nb(3);
        }
      }
    }
    return places;
  }

  /** The matrix that meets each row of an ordinary multiplication, which shares a weight's matrices out evenly. */
  private static int[] own(Node product) {
    Node weight = source(product, 0);
    Node input = source(product, 1);
    int[] meets = new int[Math.toIntExact(input.ne(1) * input.ne(2) * input.ne(3))];
    long share2 = input.ne(2) / weight.ne(2);
    long share3 = input.ne(3) / weight.ne(3);
    int n = 0;
    for (long k = 0; k < input.ne(3); k++) {
      for (long j = 0; j < input.ne(2); j++) {
        int matrix = (int) ((k / share3) * weight.ne(2) + j / share2);
        Arrays.fill(meets, n, n + (int) input.ne(1), matrix);
        n += (int) input.ne(1);
      }
    }
    return meets;
  }

  /** The experts that meet each row: as many as were chosen for a token where they share its row, one otherwise. */
  private static int[] chosen(Node product, int experts, Arena arena) {
    Node input = source(product, 1);
    Node ids = source(product, 2);
    long used = ids.ne(0);
    long tokens = ids.ne(1);
    if (input.ne(2) != tokens || input.ne(3) != 1 || (input.ne(1) != 1 && input.ne(1) != used)) {
      throw new IllegalStateException(product + ": the experts " + ids + " do not fit " + input);
    }
    MemorySegment numbers = data(ids, arena);
    int[] chosen = new int[Math.toIntExact(used * tokens)];
    int n = 0;
    for (long token = 0; token < tokens; token++) {
      for (long i = 0; i < used; i++) {
        int expert = numbers.get(JAVA_INT, i * ids.nb(0) + token * ids.nb(1));
        if (expert < 0 || expert >= experts) {
          throw new IllegalStateException(product + ": expert " + expert + " of " + experts);
        }
        chosen[n++] = expert;
      }
    }
    return chosen;
  }

  private static MemorySegment data(Node node, Arena arena) {
    if (node.isHost()) {
      return node.data();
    }
    MemorySegment copy = arena.allocate(node.bytes(), Float.BYTES);
    node.read(copy);
    return copy;
  }

  /** Values in a row. */
  public int columns() {
    return columns;
  }

  /** Number of rows that an expert meets; of all rows, each once, for {@link GramRequest#POOLED}. */
  public int count(int expert) {
    return expert == GramRequest.POOLED ? rows.length : starts[expert + 1] - starts[expert];
  }

  /** Copies one of the {@link #count} rows. */
  void copyRow(int expert, int row, float[] to) {
    MemorySegment.copy(data, JAVA_FLOAT, place(expert, row), to, 0, columns);
  }

  /** Copies one of the {@link #count} rows to memory, as float32 in the machine's byte order. */
  public void copyRow(int expert, int row, MemorySegment to, long offset) {
    MemorySegment.copy(data, place(expert, row), to, offset, (long) columns * Float.BYTES);
  }

  private long place(int expert, int row) {
    return expert == GramRequest.POOLED ? rows[row] : routed[starts[expert] + row];
  }
}
