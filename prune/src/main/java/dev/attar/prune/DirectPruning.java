package dev.attar.prune;

import dev.attar.calibration.linear.BandReader;
import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import dev.attar.compute.Workers;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockEncoder;
import dev.attar.formats.block.BlockEncoders;
import dev.attar.formats.imatrix.ImportanceMatrix;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.Function;

/**
 * Prunes a model's matrices one after the other by magnitude or by Wanda, for which no more has to be known of their inputs than norms.
 * Memory is a few bands of rows; a whole matrix where weights are chosen from all of it.
 */
public final class DirectPruning {

  /** Told how far it is. */
  @FunctionalInterface
  public interface Progress {
    /** Weights done so far, of all that there are. */
    void at(long done, long total);
  }

  private final Model model;
  private final WeightPruner pruner;
  private final ImportanceMatrix importance;
  private final Device device;
  private final Workers workers;

  private DirectPruning(Model model, WeightPruner pruner, ImportanceMatrix importance, Device device, Workers workers) {
    this.model = model;
    this.pruner = pruner;
    this.importance = importance;
    this.device = device;
    this.workers = workers;
  }

  /**
   * Prunes a model.
   *
   * @param pruner how; not by SparseGPT
   * @param importance the mean squares of what enters the matrices, for Wanda; otherwise {@code null}
   * @param types what each tensor is written as: a plain type
   * @param folder where the files go
   * @return for each pruned tensor a file of its encoded rows, by name
   * @throws IOException if a file cannot be read or written, a weight is not finite, or a matrix has no importance
   */
  public static Map<String, Path> run(
    Model model,
    WeightPruner pruner,
    ImportanceMatrix importance,
    Function<TensorInfo, TensorType> types,
    Device device,
    int threads,
    Path folder,
    Progress progress
  ) throws IOException, InterruptedException {
    if (pruner.method().solves()) {
      throw new IllegalArgumentException("SparseGPT needs Gram matrices");
    }
    try (Workers workers = new Workers(threads)) {
      return new DirectPruning(model, pruner, importance, device, workers).run(types, folder, progress);
    }
  }

  private Map<String, Path> run(Function<TensorInfo, TensorType> types, Path folder, Progress progress)
    throws IOException, InterruptedException {
    List<? extends Tensor> pruned = model
      .tensors()
      .stream()
      .filter(tensor -> pruner.prunes(tensor.info()))
      .toList();
    long total = pruned
      .stream()
      .mapToLong(tensor -> tensor.info().elements())
      .sum();
    long done = 0;
    Map<String, Path> files = new LinkedHashMap<>();
    for (Tensor tensor : pruned) {
      Path file = folder.resolve(files.size() + ".tensor");
      try (OutputStream out = Files.newOutputStream(file)) {
        done = prune(tensor, types.apply(tensor.info()), out, done, total, progress);
      }
      files.put(tensor.info().name(), file);
    }
    return files;
  }

  private long prune(Tensor tensor, TensorType type, OutputStream out, long before, long total, Progress progress)
    throws IOException, InterruptedException {
    TensorInfo info = tensor.info();
    int columns = Math.toIntExact(info.rowLength());
    long plane = info.dimension(1);
    float[] squares = squares(info);
    BlockEncoder encoder = BlockEncoders.of(type).orElseThrow(() ->
      new IllegalArgumentException(type + " is not plain")
    );
    long done = before;
    try (BandReader bands = reader(plane, columns)) {
      for (long first = 0; first < info.rows(); first += plane) {
        long of = first;
        bands.add((from, rows, values) -> tensor.decodeRows(of + from, rows, values, 0), plane, columns);
      }
      for (long row = 0; row < info.rows(); ) {
        if (Thread.interrupted()) {
          throw new InterruptedException();
        }
        progress.at(done, total);
        try (BandReader.Band band = bands.next()) {
          int expert = Math.toIntExact(row / plane);
          float[] norms = squares == null ? null : norms(squares, expert, columns);
          out.write(encode(band, norms, encoder));
          row += band.rows();
          done += (long) band.rows() * columns;
        }
      }
    }
    progress.at(done, total);
    return done;
  }

  private BandReader reader(long plane, int columns) {
    return pruner.needsAllRows()
      ? new BandReader(device, Math.multiplyExact(Math.toIntExact(plane), columns))
      : new BandReader(device);
  }

  private byte[] encode(BandReader.Band band, float[] norms, BlockEncoder encoder) {
    int columns = band.weights().rows();
    float[] values = new float[Math.multiplyExact(band.rows(), columns)];
    try (Scope scope = device.scope()) {
      Matrix left = scope.matrix(columns, band.rows());
      pruner.prune(device, norms, band.weights(), left);
      Matrix rows = scope.matrix(band.rows(), columns);
      device.transpose(left, rows);
      device.download(rows, MemorySegment.ofArray(values));
    }
    int rowBytes = Math.toIntExact(encoder.type().rowBytes(columns));
    byte[] encoded = new byte[Math.multiplyExact(rowBytes, band.rows())];
    workers.share(0, band.rows(), 1, (from, to) ->
      encoder.encode(values, from * columns, columns, to - from, null, 0, encoded, from * rowBytes)
    );
    return encoded;
  }

  /** The mean squares of what enters a tensor; {@code null} if they do not count. */
  private float[] squares(TensorInfo info) throws IOException {
    if (!pruner.method().needsText()) {
      return null;
    }
    Optional<float[]> found = importance.weights(info.name());
    long expected = info.rowLength() * (info.rows() / info.dimension(1));
    if (found.isEmpty() || found.get().length != expected) {
      throw new IOException(
        importance.path() +
          ": " +
          info.name() +
          ": " +
          (found.isEmpty() ? "nothing" : found.get().length + " values") +
          ", expected the mean squares of " +
          expected +
          " columns"
      );
    }
    return found.get();
  }

  private static float[] norms(float[] squares, int expert, int columns) {
    float[] own = new float[columns];
    System.arraycopy(squares, expert * columns, own, 0, columns);
    return WeightPruner.norms(own);
  }
}
