package dev.attar.calibration;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.attar.calibration.InputObserver.NotFiniteException;
import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import dev.attar.llama.WeightTensor;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.ArrayDeque;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Queue;

/**
 * Drifts of weights. Of each window, the base's values are kept first; then the running model's come part by part, the input of each
 * before the values that it becomes. What becomes of a drift does not depend on which others are collected with it.
 */
final class DriftSums implements AutoCloseable {

  private static final ValueLayout.OfFloat FLOAT = JAVA_FLOAT.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final int BAND_VALUES = 1 << 18;

  /** The drift of a weight, not yet divided by the number of tokens. */
  private static final class Sum {

    final Inputs inputs;
    final Matrix total;
    final Matrix differences; // those of a batch; all weights of as many rows share it
    final Queue<MemorySegment> base = new ArrayDeque<>(); // the base's values in each part of the window
    long count;

    Sum(Inputs inputs, Matrix total, Matrix differences) {
      this.inputs = inputs;
      this.total = total;
      this.differences = differences;
    }
  }

  /** What entered a layer last. */
  private static final class Inputs {

    final MemorySegment gathered;
    final Matrix batch;
    Matrix filled;

    Inputs(Matrix batch) {
      this.batch = batch;
      gathered = Arena.ofAuto().allocate((long) Float.BYTES * batch.rows() * batch.columns(), 64);
    }
  }

  private final Device device;
  private final Scope scope;
  private final Map<LinearInput, Inputs> inputs = new HashMap<>();
  private final Map<String, Sum> sums = new LinkedHashMap<>();
  private Arena window = Arena.ofConfined();

  /**
   * Zeros.
   *
   * @param met what enters each weight
   * @param weights of one matrix each
   * @param batch the most rows that come at once
   */
  DriftSums(Device device, Map<String, LinearInput> met, List<WeightTensor> weights, int batch) {
    this.device = device;
    scope = device.scope();
    Map<Integer, Matrix> differences = new HashMap<>();
    try {
      for (WeightTensor weight : weights) {
        LinearInput input = met.get(weight.name());
        int rows = Math.toIntExact(weight.ne(1));
        sums.put(
          weight.name(),
          new Sum(
            inputs.computeIfAbsent(input, _ -> new Inputs(scope.matrix(batch, input.columns()))),
            scope.matrix(rows, input.columns()),
            differences.computeIfAbsent(rows, _ -> scope.matrix(batch, rows))
          )
        );
      }
    } catch (RuntimeException e) {
      close();
      throw e;
    }
  }

  /** Precedes a window. */
  void begin() {
    sums.values().forEach(sum -> sum.base.clear());
    window.close();
    window = Arena.ofConfined();
  }

  /** Keeps the base's values. */
  void base(String weight, Activations values) throws NotFiniteException {
    Sum sum = sums.get(weight);
    int columns = sum.total.rows();
    MemorySegment kept = window.allocate((long) Float.BYTES * values.count(0) * columns, 64);
    gather(values, columns, kept);
    sum.base.add(kept);
  }

  /** Takes what enters a layer of the running model; others than the weights' are left out. */
  void input(LinearInput input, Activations activations) throws NotFiniteException {
    Inputs of = inputs.get(input);
    if (of != null) {
      gather(activations, input.columns(), of.gathered);
      of.filled = of.batch.rows(0, activations.count(0));
      device.upload(of.gathered.asSlice(0, bytes(of.filled)), of.filled);
    }
  }

  /** Takes the running model's values and adds their products. */
  void running(String weight, Activations values) throws NotFiniteException {
    Sum sum = sums.get(weight);
    int columns = sum.total.rows();
    int count = values.count(0);
    MemorySegment difference = sum.base.remove();
    if (count != sum.inputs.filled.rows() || difference.byteSize() != (long) Float.BYTES * count * columns) {
      throw new IllegalStateException(
        weight + ": " + count + " rows, other numbers entered it or came out of the base"
      );
    }
    float[] row = new float[columns];
    for (int i = 0; i < count; i++) {
      copyRow(values, i, row);
      for (int j = 0; j < columns; j++) {
        long place = (long) i * columns + j;
        difference.setAtIndex(FLOAT, place, difference.getAtIndex(FLOAT, place) - row[j]);
      }
    }
    Matrix differences = sum.differences.rows(0, count);
    device.upload(difference, differences);
    device.gemm(1, differences, true, sum.inputs.filled, false, 1, sum.total);
    sum.count += count;
  }

  private static void gather(Activations rows, int columns, MemorySegment to) throws NotFiniteException {
    float[] row = new float[columns];
    for (int i = 0; i < rows.count(0); i++) {
      copyRow(rows, i, row);
      MemorySegment.copy(row, 0, to, FLOAT, (long) i * columns * Float.BYTES, columns);
    }
  }

  private static void copyRow(Activations rows, int index, float[] to) throws NotFiniteException {
    if (rows.columns() != to.length) {
      throw new IllegalStateException("rows of " + rows.columns() + " values, expected " + to.length);
    }
    rows.copyRow(0, index, to);
    GramSums.requireFinite(to);
  }

  private static long bytes(Matrix matrix) {
    return (long) Float.BYTES * matrix.rows() * matrix.columns();
  }

  /**
   * Writes the drifts, divided by their numbers of tokens.
   *
   * @param alive called now and then
   */
  void write(GramStore store, Runnable alive) throws IOException {
    for (Map.Entry<String, Sum> entry : sums.entrySet()) {
      String weight = entry.getKey();
      Sum sum = entry.getValue();
      Matrix total = sum.total;
      store.writeDrift(weight, total.rows(), total.columns(), sum.count, part -> {
        float scale = (float) (1.0 / sum.count);
        int band = Math.max(1, BAND_VALUES / total.columns());
        for (int row = 0; row < total.rows(); row += band) {
          alive.run();
          Matrix rows = total.rows(row, Math.min(band, total.rows() - row));
          try (Arena arena = Arena.ofConfined()) {
            MemorySegment values = arena.allocate(bytes(rows), 64);
            device.download(rows, values);
            scale(weight, values, scale);
            part.accept(values);
          }
        }
      });
    }
  }

  private static void scale(String weight, MemorySegment values, float scale) throws IOException {
    for (long i = 0; i < values.byteSize() / Float.BYTES; i++) {
      float value = values.getAtIndex(FLOAT, i) * scale;
      if (!Float.isFinite(value)) {
        throw new IOException("the drift of " + weight + ": a sum of products is " + value);
      }
      values.setAtIndex(FLOAT, i, value);
    }
  }

  @Override
  public void close() {
    window.close();
    scope.close();
  }
}
