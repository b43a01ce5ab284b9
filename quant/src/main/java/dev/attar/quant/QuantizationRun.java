package dev.attar.quant;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import dev.attar.formats.FormatException;
import dev.attar.formats.Model;
import dev.attar.formats.OutputCheck;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockDecoders;
import dev.attar.formats.block.RowValidator;
import dev.attar.formats.gguf.GgufWriter;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.channels.ClosedByInterruptException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;

/**
 * Streams a model through a plan into a GGUF file. Every thread takes the next band of rows, whichever tensor it belongs to, decodes
 * it, encodes it and writes it to its place, so memory is a few bands per thread whatever the size of the model.
 */
public final class QuantizationRun {

  /** Values in a band: 1 MiB in single precision. A longer row is a band of its own. */
  private static final int BAND_VALUES = 1 << 18;

  private static final long PROGRESS_MILLIS = 100;

  /** Told now and then how far the run is, on the thread that started it. */
  @FunctionalInterface
  public interface Progress {
    /**
     * @param done values written so far
     * @param total values of the model
     * @param tensor the tensor begun last
     */
    void report(long done, long total, String tensor);
  }

  /** Where encoded bytes go. Called by several threads at once. */
  @FunctionalInterface
  public interface Sink {
    /**
     * @param tensor index of the tensor in the plan
     * @param offset first byte within the tensor
     * @param bytes holds the bytes
     * @param from index of the first
     * @param length how many
     */
    void write(int tensor, long offset, byte[] bytes, int from, int length) throws IOException;
  }

  private record Band(int tensor, long firstRow, int rows, float[] importance) {}

  private final QuantizationPlan plan;
  private final Map<String, MemorySegment> encoded;
  private final List<Tensor> tensors;
  private final Encoders encoders;
  private final Sink sink;

  private int nextTensor;
  private long nextRow;
  private float[] importance;
  private volatile String begun = "";
  private volatile boolean stopped;
  private final AtomicLong valuesDone = new AtomicLong();
  private final AtomicReference<Throwable> failure = new AtomicReference<>();

  private QuantizationRun(Model model, QuantizationPlan plan, Map<String, MemorySegment> encoded, Sink sink)
    throws IOException {
    Map<String, Tensor> byName = new HashMap<>();
    model.tensors().forEach(t -> byName.put(t.info().name(), t));
    this.plan = plan;
    this.encoded = Map.copyOf(encoded);
    this.sink = sink;
    this.tensors = new ArrayList<>();
    Set<TensorType> types = EnumSet.noneOf(TensorType.class);
    for (TensorPlan step : plan.tensors()) {
      Tensor tensor = byName.get(step.name());
      if (tensor == null || !tensor.info().equals(step.source())) {
        throw new IllegalArgumentException("the plan is not for this model: " + step.source());
      }
      tensors.add(tensor);
      MemorySegment bytes = encoded.get(step.name());
      if (bytes != null && bytes.byteSize() != step.bytesAfter()) {
        throw new IllegalArgumentException(
          step.name() + ": " + bytes.byteSize() + " encoded bytes, expected " + step.bytesAfter()
        );
      }
      if (!step.copies() && bytes == null) {
        types.add(step.target());
      }
    }
    this.encoders = new Encoders(types);
  }

  /**
   * Writes the model as planned. Nothing is left under the final name, nor beside it, unless all went well.
   *
   * @param model the model that the plan was made for
   * @param plan a plan without {@link QuantizationPlan#problems() problems}
   * @param out the file
   * @param overwrite whether a file that is there may be replaced
   * @param threads how many threads work, at least 1
   * @param progress told how far it is
   * @throws QuantizationException if the plan has problems, a type needs a library that is missing, or a type cannot hold a value
   * @throws FormatException if a tensor holds NaN or infinity
   * @throws IOException if a file cannot be read or written
   * @throws InterruptedException if the calling thread is interrupted
   */
  public static void run(
    Model model,
    QuantizationPlan plan,
    Path out,
    boolean overwrite,
    int threads,
    Progress progress
  ) throws IOException, InterruptedException {
    run(model, plan, Map.of(), out, overwrite, threads, OutputCheck.NONE, progress);
  }

  /**
   * Writes the model as planned, with some tensors that have been encoded already.
   *
   * @param encoded the bytes of those tensors as planned, by name; they must stay readable until this returns
   * @param check looks at the file before it gets its name
   * @see #run(Model, QuantizationPlan, Path, boolean, int, Progress)
   */
  public static void run(
    Model model,
    QuantizationPlan plan,
    Map<String, MemorySegment> encoded,
    Path out,
    boolean overwrite,
    int threads,
    OutputCheck check,
    Progress progress
  ) throws IOException, InterruptedException {
    plan.requireNoProblems();
    GgufWriter.checkOutput(out, overwrite);
    if (Thread.interrupted()) {
      throw new InterruptedException();
    }
    // The encoders come before the file: without the library that they may need, none is begun.
    AtomicReference<GgufWriter> file = new AtomicReference<>();
    QuantizationRun run = new QuantizationRun(model, plan, encoded, (tensor, offset, bytes, from, length) ->
      file.get().write(tensor, offset, bytes, from, length)
    );
    try (GgufWriter writer = GgufWriter.create(out, plan.metadata(), plan.infos(), overwrite)) {
      file.set(writer);
      run.work(threads, progress);
      writer.commit(check);
    } catch (IOException e) {
      // An interrupted thread that uses a file channel gets this instead of what it should.
      if (e.getCause() instanceof ClosedByInterruptException && Thread.interrupted()) {
        throw (InterruptedException) new InterruptedException().initCause(e);
      }
      throw e;
    }
  }

  /**
   * Encodes the model as planned into a sink.
   *
   * @see #run(Model, QuantizationPlan, Path, boolean, int, Progress)
   */
  public static void run(Model model, QuantizationPlan plan, Sink sink, int threads, Progress progress)
    throws IOException, InterruptedException {
    plan.requireNoProblems();
    new QuantizationRun(model, plan, Map.of(), sink).work(threads, progress);
  }

  private void work(int threads, Progress progress) throws IOException, InterruptedException {
    long total = plan.elements();
    CountDownLatch done = new CountDownLatch(threads);
    List<Thread> workers = new ArrayList<>();
    for (int i = 0; i < threads; i++) {
      workers.add(
        Thread.ofPlatform()
          .name("attar-quantize-" + i)
          .daemon()
          .start(() -> {
            try {
              workBands();
            } finally {
              done.countDown();
            }
          })
      );
    }
    try {
      while (!done.await(PROGRESS_MILLIS, TimeUnit.MILLISECONDS)) {
        progress.report(valuesDone.get(), total, begun);
      }
    } finally {
      // Also when interrupted, or when the callback throws: no thread may touch the files any more.
      stopped = true;
      joinAll(workers);
    }
    switch (failure.get()) {
      case null -> progress.report(total, total, begun);
      case IOException e -> throw e;
      case RuntimeException e -> throw e;
      case Error e -> throw e;
      case Throwable e -> throw new AssertionError(e);
    }
  }

  private static void joinAll(List<Thread> workers) {
    boolean interrupted = false;
    for (Thread worker : workers) {
      while (worker.isAlive()) {
        try {
          worker.join();
        } catch (InterruptedException _) {
          interrupted = true;
        }
      }
    }
    if (interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  private void workBands() {
    Worker worker = new Worker();
    try {
      for (Band band = next(); band != null; band = next()) {
        try {
          worker.process(band);
        } catch (InternalError e) {
          // What a mapped file gives when it has become shorter than it was.
          throw new IOException(plan.source() + ": " + name(band) + ": cannot be read, the file has changed", e);
        }
      }
    } catch (IOException | RuntimeException | Error e) {
      failure.compareAndSet(null, e);
      stopped = true;
    }
  }

  private static String rows(TensorPlan step, Band band) {
    return ("tensor " + step.name() + ", rows " + band.firstRow() + " to " + (band.firstRow() + band.rows() - 1));
  }

  private String name(Band band) {
    return plan.tensors().get(band.tensor()).name();
  }

  /** The next band to work on; {@code null} if there is none. Bands do not cross planes, which have their own importance. */
  private synchronized Band next() {
    while (!stopped && nextTensor < tensors.size()) {
      TensorInfo info = tensors.get(nextTensor).info();
      if (info.elements() == 0 || nextRow == info.rows()) {
        nextTensor++;
        nextRow = 0;
        continue;
      }
      if (nextRow == 0) {
        boolean weighed = plan.tensors().get(nextTensor).importance();
        importance = weighed ? plan.importance().weights(info.name()).orElseThrow() : null;
      }
      long plane = info.dimension(1);
      long rows = Math.min(Math.max(1, BAND_VALUES / info.rowLength()), plane - (nextRow % plane));
      Band band = new Band(nextTensor, nextRow, (int) rows, importance);
      nextRow += rows;
      begun = info.name();
      return band;
    }
    return null;
  }

  /** One thread's buffers, which grow to the largest band and are used again. */
  private final class Worker {

    private float[] values = {};
    private byte[] in = {};
    private byte[] out = {};

    void process(Band band) throws IOException {
      TensorPlan step = plan.tensors().get(band.tensor());
      Tensor tensor = tensors.get(band.tensor());
      long rowBytes = step.target().rowBytes(step.source().rowLength());
      int bytes = Math.toIntExact(rowBytes * band.rows());
      if (out.length < bytes) {
        out = new byte[bytes];
      }
      MemorySegment given = encoded.get(step.name());
      if (given != null) {
        MemorySegment.copy(given, JAVA_BYTE, band.firstRow() * rowBytes, out, 0, bytes);
        check(step.target(), step, band, out, bytes);
      } else if (step.copies()) {
        tensor.readRows(band.firstRow(), band.rows(), out, 0);
        check(step.target(), step, band, out, bytes);
      } else {
        decode(step, tensor, band);
        encode(step, band);
        check(step.target(), step, band, out, bytes);
      }
      sink.write(band.tensor(), band.firstRow() * rowBytes, out, 0, bytes);
      valuesDone.addAndGet(band.rows() * step.source().rowLength());
    }

    private void decode(TensorPlan step, Tensor tensor, Band band) throws IOException {
      TensorType type = step.source().type();
      int count = Math.toIntExact(step.source().rowLength() * band.rows());
      int bytes = Math.toIntExact(step.source().rowBytes() * band.rows());
      if (values.length < count) {
        values = new float[count];
      }
      if (in.length < bytes) {
        in = new byte[bytes];
      }
      tensor.readRows(band.firstRow(), band.rows(), in, 0);
      if (type.isQuantized()) {
        // A scale that no value makes use of is wrong all the same.
        check(type, step, band, in, bytes);
      }
      BlockDecoders.of(type).decode(in, 0, values, 0, count);
      int at = RowValidator.firstNonFinite(values, 0, count);
      if (at >= 0) {
        throw notFinite(step, band, at, Float.toString(values[at]));
      }
    }

    private void encode(TensorPlan step, Band band) throws QuantizationException {
      int length = Math.toIntExact(step.source().rowLength());
      long plane = band.firstRow() / step.source().dimension(1);
      int weights = band.importance() == null ? 0 : Math.toIntExact(plane * length);
      try {
        encoders.of(step.target()).encode(values, 0, length, band.rows(), band.importance(), weights, out, 0);
      } catch (IllegalArgumentException e) {
        throw new QuantizationException(plan.source() + ": " + rows(step, band) + ": " + e.getMessage(), e);
      }
    }

    /** Checks that bytes on their way hold no values or scales that are infinite or not numbers. */
    private void check(TensorType type, TensorPlan step, Band band, byte[] bytes, int length) throws FormatException {
      int block = RowValidator.firstInvalidBlock(type, bytes, 0, length / type.blockBytes());
      if (block < 0) {
        return;
      }
      int at = block * type.blockLength();
      if (type != step.source().type()) {
        throw new FormatException(plan.source(), place(step, band, at), "values too large for " + type, "smaller ones");
      }
      if (type.isQuantized()) {
        throw notFinite(step, band, at, "a block whose scale is not");
      }
      float[] value = new float[1];
      BlockDecoders.of(type).decode(bytes, block * type.blockBytes(), value, 0, 1);
      throw notFinite(step, band, at, Float.toString(value[0]));
    }

    private FormatException notFinite(TensorPlan step, Band band, int at, String found) {
      return new FormatException(plan.source(), place(step, band, at), found, "finite values");
    }

    private static String place(TensorPlan step, Band band, int at) {
      int length = (int) step.source().rowLength();
      return "tensor " + step.name() + ", row " + (band.firstRow() + at / length) + ", column " + (at % length);
    }
  }
}
