package dev.attar.calibration;

import dev.attar.formats.TensorInfo;
import dev.attar.formats.gguf.GgufModel;
import java.lang.foreign.MemorySegment;

/**
 * How far a running model, in which weights were replaced, is from its base where a weight W (rows, columns) gives its result: {@code
 * D = (1/n) Σ (y_base − y_running) x'} over n tokens, where x is what enters the layer in the running model. Then {@code D inverse(H)},
 * with the layer's {@link Gram} matrix H of the same pass, is the change of W that undoes most of the difference in the sense of least
 * squares.
 *
 * <p>Where the layer's result is added to the residual stream, with a bias or without, y is the sum: the layer can then make up for
 * what the stream has lost before. Elsewhere y is the result, before any bias.
 *
 * <p>A mapped file.
 */
public final class Drift implements AutoCloseable {

  private final GgufModel file;
  private final long tokens;

  Drift(GgufModel file, long tokens) {
    this.file = file;
    this.tokens = tokens;
  }

  private TensorInfo info() {
    return file.tensors().getFirst().info();
  }

  /** Number of rows, those of the weight: values that it gives per token. */
  public int rows() {
    return (int) info().rows();
  }

  /** Number of columns, those of the weight: values that enter it per token. */
  public int columns() {
    return (int) info().rowLength();
  }

  /** Number n of tokens. */
  public long tokens() {
    return tokens;
  }

  /** {@code rows * columns} little-endian float32, row-major, read-only. */
  public MemorySegment values() {
    return file.tensors().getFirst().bytes();
  }

  /** Unmaps the file. */
  @Override
  public void close() {
    file.close();
  }
}
