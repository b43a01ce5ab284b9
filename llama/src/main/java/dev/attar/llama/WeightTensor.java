package dev.attar.llama;

import java.lang.foreign.MemorySegment;
import java.util.Objects;

/**
 * A weight in a model's memory, which can be replaced. It lives as long as its model; after the model's {@code close}, {@link #write}
 * throws {@code IllegalStateException}.
 */
public final class WeightTensor {

  private final LlamaModel model;
  private final GgmlTensors tensors;
  private final MemorySegment struct;
  private final String name;
  private final int type;
  private final long[] ne = new long[GgmlTensors.DIMENSIONS];
  private final long bytes;

  WeightTensor(LlamaModel model, GgmlTensors tensors, MemorySegment tensor) {
    this.model = model;
    this.tensors = tensors;
    struct = tensor.reinterpret(GgmlTensors.LAYOUT.byteSize());
    name = tensors.name(struct);
    type = tensors.type(struct);
    for (int i = 0; i < ne.length; i++) {
      ne[i] = tensors.ne(struct, i);
    }
    bytes = tensors.bytes(struct);
  }

  /** Its name in the file. */
  public String name() {
    return name;
  }

  /** ggml number of the type of its values. */
  public int type() {
    return type;
  }

  /**
   * Number of elements along a dimension.
   *
   * @param dimension 0 to 3; along 0 lie the values of a row
   */
  public long ne(int dimension) {
    return ne[Objects.checkIndex(dimension, ne.length)];
  }

  /** Bytes of all values, row after row. */
  public long bytes() {
    return bytes;
  }

  /**
   * Replaces values in the model's memory, on a GPU as well. What contexts remember was computed with the old ones: see
   * {@link LlamaContext#clear}. No other thread may compute with the model meanwhile.
   *
   * @param offset where to begin, in bytes
   * @param values native memory with values of {@link #type()}
   * @throws IndexOutOfBoundsException if there is no room for so many bytes behind the offset
   * @throws IllegalStateException if the model is closed, or was loaded with {@link LlamaModel.Options#mmap}
   */
  public void write(long offset, MemorySegment values) {
    model.requireOpen();
    model.requirePlainWeights(name);
    Objects.checkFromIndexSize(offset, values.byteSize(), bytes);
    tensors.set(struct, values, offset);
  }

  /** Replaces all values: {@link #write(long, MemorySegment)} with {@link #bytes()} bytes. */
  public void write(MemorySegment values) {
    if (values.byteSize() != bytes) {
      throw new IllegalArgumentException(name + ": " + values.byteSize() + " bytes, expected " + bytes);
    }
    write(0, values);
  }

  @Override
  public String toString() {
    return name;
  }
}
