package dev.attar.calibration;

import dev.attar.calibration.InputObserver.NotFiniteException;
import dev.attar.compute.Device;
import dev.attar.compute.Scope;
import java.io.IOException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Gram matrices of what enters linear layers. What becomes of one does not depend on which others are collected with it: rows are
 * multiplied in batches that only they fill.
 */
final class GramSums implements InputObserver.Sink, AutoCloseable {

  /** A matrix that grows. */
  private static final class Sum {

    final GramRequest request;
    final TiledGram gram;
    final RowBatch rows;
    long count;

    Sum(GramRequest request, TiledGram gram, RowBatch rows) {
      this.request = request;
      this.gram = gram;
      this.rows = rows;
    }

    void multiply() {
      gram.add(rows);
      rows.clear();
    }
  }

  private final Scope scope;
  private final Map<LinearInput, List<Sum>> sums = new LinkedHashMap<>();

  GramSums(Device device, List<GramRequest> requests) {
    scope = device.scope();
    Map<Integer, RowBatch> shared = new HashMap<>();
    try {
      for (GramRequest request : requests) {
        int columns = request.input().columns();
        RowBatch rows = GramPlan.hasOwnRows(request)
          ? new RowBatch(device, scope, columns)
          : shared.computeIfAbsent(columns, _ -> new RowBatch(device, scope, columns));
        sums
          .computeIfAbsent(request.input(), _ -> new ArrayList<>())
          .add(new Sum(request, new TiledGram(device, scope, columns), rows));
      }
    } catch (RuntimeException e) {
      scope.close();
      throw e;
    }
  }

  /** Inputs that are met. */
  List<LinearInput> inputs() {
    return List.copyOf(sums.keySet());
  }

  @Override
  public void accept(LinearInput input, Activations activations) throws NotFiniteException {
    float[] row = new float[input.columns()];
    for (Sum sum : sums.getOrDefault(input, List.of())) {
      int expert = sum.request.expert();
      int count = activations.count(expert);
      for (int i = 0; i < count; i++) {
        activations.copyRow(expert, i, row);
        requireFinite(row);
        sum.rows.append(row);
        if (sum.rows.isFull()) {
          sum.multiply();
        }
      }
      sum.count += count;
      if (!GramPlan.hasOwnRows(sum.request)) {
        sum.multiply();
      }
    }
  }

  static void requireFinite(float[] row) throws NotFiniteException {
    int largest = 0;
    for (float x : row) {
      largest = Math.max(largest, Float.floatToRawIntBits(x) & Integer.MAX_VALUE);
    }
    if (largest >= Float.floatToRawIntBits(Float.POSITIVE_INFINITY)) {
      for (int i = 0; i < row.length; i++) {
        if (!Float.isFinite(row[i])) {
          throw new NotFiniteException("column " + i, row[i]);
        }
      }
    }
  }

  /**
   * Writes the matrices, divided by their numbers of rows.
   *
   * @param alive called now and then
   */
  void write(GramStore store, Runnable alive) throws IOException {
    for (List<Sum> ofInput : sums.values()) {
      for (Sum sum : ofInput) {
        sum.multiply();
        store.write(sum.request, sum.count, part -> {
          float scale = sum.count == 0 ? 0 : (float) (1.0 / sum.count);
          try {
            sum.gram.forEachPart(scale, values -> {
              alive.run();
              part.accept(values);
            });
          } catch (ArithmeticException e) {
            throw new IOException("the Gram matrix of " + sum.request + ": " + e.getMessage(), e);
          }
        });
      }
    }
  }

  @Override
  public void close() {
    scope.close();
  }
}
