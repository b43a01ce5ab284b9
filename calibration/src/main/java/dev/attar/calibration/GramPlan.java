package dev.attar.calibration;

import dev.attar.compute.Device;
import java.io.IOException;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;

/**
 * How many Gram matrices fit into memory at once. While it is collected, a matrix is kept as the square tiles of its upper triangle;
 * besides there are rows that wait to be multiplied: {@value #ROWS} for each width, and as many for each expert, whose tokens come few
 * at a time.
 */
public final class GramPlan {

  /** Rows and columns of a tile on the processor. */
  public static final int TILE = 512;

  /** The same on a device with memory of its own, where each product has to start and to be waited for. */
  private static final int DEVICE_TILE = 2048;

  /** Rows and columns of a tile on a device. */
  public static int tile(Device device) {
    return device.hasOwnMemory() ? DEVICE_TILE : TILE;
  }

  /** Rows that are multiplied at once. */
  static final int ROWS = WindowRunner.BATCH;

  private GramPlan() {}

  /** Bytes that the tiles of a matrix take: a little over {@code 2 columns²}, if it has many. */
  static long bytes(LinearInput input, int tile) {
    return matrixBytes(input.columns(), tile);
  }

  private static long matrixBytes(int columns, int tile) {
    long bytes = 0;
    for (long left = columns; left > 0; left -= tile) {
      bytes += Float.BYTES * Math.min(left, tile) * left;
    }
    return bytes;
  }

  /**
   * Bytes that a pass takes in the worker, besides the models, if it collects but one matrix of so many columns.
   *
   * @param tile rows and columns of a tile
   */
  public static long leastBytes(int columns, int tile) {
    return matrixBytes(columns, tile) + rowBytes(columns);
  }

  /** Each row is there twice: as it is gathered, and on the device. */
  private static long rowBytes(int columns) {
    return 2L * Float.BYTES * ROWS * columns;
  }

  /**
   * Bytes that a drift takes more in a pass, at most.
   *
   * @param rows the weight's
   * @param columns the weight's
   * @param context tokens in a window, of each of which the base's result is kept
   */
  public static long driftBytes(int rows, int columns, int context) {
    // The sum, the window's results, and a batch's differences and inputs, the latter twice: as they are gathered, on the device.
    long batch = Math.min(ROWS, context);
    return Float.BYTES * ((long) rows * columns + (long) context * rows + batch * rows + 2 * batch * columns);
  }

  /** Bytes that a pass over these takes in the worker, besides the models. */
  static long bytes(List<GramRequest> pass, int tile) {
    Bytes bytes = new Bytes(tile);
    pass.forEach(bytes::add);
    return bytes.sum;
  }

  /**
   * Cuts requests into passes over the text, as few as their order allows.
   *
   * @param requests in the order of the computation, as {@link Calibrator#inputs} has them: a pass ends where its last input is known
   * @param available bytes that a pass may take
   * @param tile rows and columns of a tile
   * @throws IOException if a request alone takes more; the message names it
   */
  public static List<List<GramRequest>> passes(List<GramRequest> requests, long available, int tile)
    throws IOException {
    List<List<GramRequest>> passes = new ArrayList<>();
    Bytes bytes = new Bytes(tile);
    for (GramRequest request : requests) {
      long needed = bytes(List.of(request), tile);
      if (needed > available) {
        throw new IOException(
          "the Gram matrix of " + request + " takes " + needed + " bytes of memory, available are " + available
        );
      }
      if (passes.isEmpty() || bytes.with(request) > available) {
        passes.add(new ArrayList<>());
        bytes = new Bytes(tile);
      }
      bytes.add(request);
      passes.getLast().add(request);
    }
    return passes;
  }

  /** Whether a matrix has waiting rows of its own. */
  static boolean hasOwnRows(GramRequest request) {
    return request.input().experts() > 1;
  }

  /** The sum for a pass. */
  private static final class Bytes {

    private final Set<Integer> widths = new HashSet<>();
    private final int tile;
    private long sum;

    Bytes(int tile) {
      this.tile = tile;
    }

    long with(GramRequest request) {
      return sum + bytes(request.input(), tile) + rowBytes(request);
    }

    void add(GramRequest request) {
      sum = with(request);
      if (!hasOwnRows(request)) {
        widths.add(request.input().columns());
      }
    }

    private long rowBytes(GramRequest request) {
      int columns = request.input().columns();
      return !hasOwnRows(request) && widths.contains(columns) ? 0 : GramPlan.rowBytes(columns);
    }
  }
}
