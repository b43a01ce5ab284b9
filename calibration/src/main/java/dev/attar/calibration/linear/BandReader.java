package dev.attar.calibration.linear;

import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.ArrayDeque;
import java.util.Queue;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/**
 * Brings matrices of weights to a device, in bands of rows, in the order in which they are worked on. Where the device has memory of
 * its own, the next band is read and travels while one is worked on.
 */
public final class BandReader implements AutoCloseable {

  /** Values in a band on the processor: 32 MiB in single precision, of which there are about six. */
  private static final int PROCESSOR_BAND = 1 << 23;

  /** The most values in a band on another device, which works on all rows at once: most matrices in one. */
  private static final int LARGEST_BAND = 1 << 26;

  /** The fewest values in a band there, where memory is short. */
  public static final int SMALLEST_BAND = 1 << 20;

  /** What a band takes of such a device's memory: two copies of it and of the next one, and what is computed from it. */
  public static final long BYTES_PER_VALUE = 8L * Float.BYTES;

  /** Values that are in the process's memory at a time on their way to a device: 16 MiB in single precision. */
  private static final int PIECE = 1 << 22;

  /** Bands hold multiples of this many rows, so that they do not show in the result. */
  public static final int ROWS = 256;

  /** Rows of a matrix. */
  @FunctionalInterface
  public interface RowSource {
    /** Writes {@code rows} rows from {@code first} on to the start of the array. */
    void read(long first, int rows, float[] to) throws IOException;
  }

  /**
   * Some rows of a matrix, until it is closed.
   *
   * @param first the number of the first row
   * @param values the rows; {@code null} if the device has memory of its own
   * @param weights the same on the device, (columns, rows)
   */
  public record Band(long first, int rows, float[] values, Matrix weights, Scope scope) implements AutoCloseable {
    @Override
    public void close() {
      scope.close();
    }
  }

  /** A band that is to be read. */
  private record Place(RowSource source, int columns, long first, int rows) {}

  private final Device device;
  private final int bandValues;
  private final Queue<Place> places = new ArrayDeque<>();
  private final ExecutorService reader;
  private Future<Band> ahead;

  /** For a device, with bands of a size that fits it. */
  public BandReader(Device device) {
    this(device, device.hasOwnMemory() ? bandValues(device.freeMemory()) : PROCESSOR_BAND);
  }

  /** So many that bands take a third of a device's free memory. */
  private static int bandValues(long freeBytes) {
    return (int) Math.clamp(freeBytes / 3 / BYTES_PER_VALUE, SMALLEST_BAND, LARGEST_BAND);
  }

  /** With bands of about so many values. */
  public BandReader(Device device, int bandValues) {
    this.device = device;
    this.bandValues = bandValues;
    reader = device.hasOwnMemory()
      ? Executors.newSingleThreadExecutor(Thread.ofPlatform().daemon().name("attar-bands").factory())
      : null;
  }

  /** Adds a matrix, whose bands come after those of the matrices before. */
  public void add(RowSource source, long rows, int columns) {
    int most = Math.max(ROWS, (bandValues / columns / ROWS) * ROWS);
    for (long first = 0; first < rows; first += most) {
      places.add(new Place(source, columns, first, (int) Math.min(most, rows - first)));
    }
  }

  /** The next band; it is the caller's to close. */
  public Band next() throws IOException {
    Band band = ahead == null ? read(places.remove()) : await();
    ahead = null;
    if (reader != null && !places.isEmpty()) {
      Place next = places.remove();
      ahead = reader.submit(() -> read(next));
    }
    return band;
  }

  /** Waits for the band that is being read, however often this thread is interrupted: that ends soon. */
  private Band await() throws IOException {
    boolean interrupted = false;
    try {
      while (true) {
        try {
          return ahead.get();
        } catch (InterruptedException _) {
          interrupted = true;
        } catch (ExecutionException e) {
          switch (e.getCause()) {
            case IOException failure -> throw failure;
            case RuntimeException failure -> throw failure;
            case Error failure -> throw failure;
            default -> throw new IllegalStateException(e.getCause());
          }
        }
      }
    } finally {
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }

  private Band read(Place place) throws IOException {
    Scope scope = device.scope();
    try {
      float[] values = null;
      Matrix weights;
      if (device.hasOwnMemory()) {
        weights = transposed(device, scope, place.source, place.first, place.rows, place.columns);
      } else {
        values = new float[Math.multiplyExact(place.rows, place.columns)];
        place.source.read(place.first, place.rows, values);
        weights = transposed(device, scope, values, place.rows, place.columns);
      }
      return new Band(place.first, place.rows, values, weights, scope);
    } catch (IOException | RuntimeException | Error e) {
      scope.close();
      throw e;
    }
  }

  /** Rows as a matrix that has a column for each. */
  public static Matrix transposed(Device device, Scope scope, float[] values, int rows, int columns) {
    Matrix result = scope.matrix(columns, rows);
    try (Scope meanwhile = device.scope()) {
      Matrix straight = meanwhile.matrix(rows, columns);
      device.upload(MemorySegment.ofArray(values), straight);
      device.transpose(straight, result);
    }
    return result;
  }

  /** The same of rows that are read, some at a time. */
  public static Matrix transposed(Device device, Scope scope, RowSource source, long first, int rows, int columns)
    throws IOException {
    Matrix result = scope.matrix(columns, rows);
    int most = Math.clamp(PIECE / columns, 1, rows);
    float[] piece = new float[Math.multiplyExact(most, columns)];
    try (Scope meanwhile = device.scope()) {
      Matrix straight = meanwhile.matrix(rows, columns);
      for (int from = 0; from < rows; from += most) {
        int count = Math.min(most, rows - from);
        source.read(first + from, count, piece);
        device.upload(MemorySegment.ofArray(piece), straight.rows(from, count));
      }
      device.transpose(straight, result);
    }
    return result;
  }

  /** Frees a band that nobody took. */
  @Override
  public void close() {
    if (reader != null) {
      reader.shutdown();
      if (ahead != null) {
        try {
          await().close();
        } catch (IOException | RuntimeException _) {
          // Nobody wants that band any more.
        }
      }
    }
  }
}
