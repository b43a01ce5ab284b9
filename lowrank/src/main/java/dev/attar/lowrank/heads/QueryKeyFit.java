package dev.attar.lowrank.heads;

import dev.attar.formats.Tensor;
import java.io.BufferedOutputStream;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/** Writes queries and keys of a layer with folded pairs. */
final class QueryKeyFit {

  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  private final HeadLayout.Layer layer;
  private final int size;
  private final List<Fold> folds;

  /** For each group and fold what is to be done; {@code null} for pairs that stay or go as they are. */
  private final Folding[][] foldings;

  /**
   * @param moments of the layer's groups
   * @param size of a head
   */
  QueryKeyFit(HeadLayout.Layer layer, PairMoments[] moments, int size, List<Fold> folds) {
    this.layer = layer;
    this.size = size;
    this.folds = folds;
    foldings = new Folding[moments.length][folds.size()];
    for (int group = 0; group < moments.length; group++) {
      for (int i = 0; i < folds.size(); i++) {
        Fold fold = folds.get(i);
        if (!fold.isWhole() && fold.kept() > 0) {
          foldings[group][i] = Folding.of(moments[group], fold.first(), fold.count());
        }
      }
    }
  }

  /**
   * Writes queries, multiplied by the root of how much smaller heads become: llama.cpp divides products by the root of the size.
   *
   * @param tensor weights or bias of queries
   * @param file gets little-endian float32
   */
  void queries(Tensor tensor, Path file) throws IOException {
    int left = 2 * folds.stream().mapToInt(Fold::kept).sum();
    write(tensor, layer.heads(), true, (float) Math.sqrt((double) left / size), file);
  }

  /**
   * Writes keys.
   *
   * @param tensor weights or bias of keys
   * @param file gets little-endian float32
   */
  void keys(Tensor tensor, Path file) throws IOException {
    write(tensor, layer.groups(), false, 1, file);
  }

  private void write(Tensor tensor, int heads, boolean queries, float scale, Path file) throws IOException {
    boolean vector = tensor.info().rank() == 1;
    int columns = vector ? 1 : Math.toIntExact(tensor.info().rowLength());
    float[] bias = new float[vector ? heads * size : 0];
    if (vector) {
      tensor.decodeRows(0, 1, bias, 0);
    }
    float[] rows = new float[Math.multiplyExact(size, columns)];
    try (OutputStream out = new BufferedOutputStream(Files.newOutputStream(file))) {
      for (int head = 0; head < heads; head++) {
        if (vector) {
          System.arraycopy(bias, head * size, rows, 0, size);
        } else {
          tensor.decodeRows((long) head * size, size, rows, 0);
        }
        Folding[] ofHead = foldings[queries ? layer.group(head) : head];
        for (int i = 0; i < ofHead.length; i++) {
          write(rows, columns, folds.get(i), ofHead[i], queries, scale, out);
        }
      }
    }
  }

  private static void write(
    float[] rows,
    int columns,
    Fold fold,
    Folding folding,
    boolean queries,
    float scale,
    OutputStream out
  ) throws IOException {
    for (int i = 0; i < fold.kept(); i++) {
      float[] re = new float[columns];
      float[] im = new float[columns];
      for (int j = 0; j < fold.count(); j++) {
        double a = 1;
        double b = 0;
        if (folding != null) {
          // As large in queries as in keys: their mean squares are the energy and 1.
          double balance = Math.sqrt(Math.sqrt(Math.max(folding.energies()[i], Float.MIN_NORMAL)));
          Complex factors = queries ? folding.queries() : folding.keys();
          double factor = queries ? 1 / balance : balance;
          a = factor * factors.re(j, i);
          b = factor * factors.im(j, i);
        }
        // The conjugate of the factor times the pair.
        int from = 2 * (fold.first() + j) * columns;
        for (int k = 0; k < columns; k++) {
          float x = rows[from + k];
          float y = rows[from + columns + k];
          re[k] += (float) (scale * (a * x + b * y));
          im[k] += (float) (scale * (a * y - b * x));
        }
      }
      write(re, out);
      write(im, out);
    }
  }

  private static void write(float[] row, OutputStream out) throws IOException {
    byte[] bytes = new byte[row.length * Float.BYTES];
    MemorySegment.copy(row, 0, MemorySegment.ofArray(bytes), FLOAT, 0, row.length);
    out.write(bytes);
  }
}
