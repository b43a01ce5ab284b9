package dev.attar.llama;

import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Objects;
import java.util.Optional;

/**
 * A tensor of a graph: an operation and its result, or one of an operation's sources. It can be used during the call of
 * {@link NodeObserver} that gave it; afterwards its methods, and access to its data, throw {@code IllegalStateException}.
 * {@link NodeObserver#computed} may share it with other threads.
 */
public final class Node {

  /** The operations that are told apart. */
  public enum Op {
    /** source(0) plus source(1), of which each dimension is as long as the other's or is repeated to be so. */
    ADD(2),
    /** source(0) times source(1): each of n vectors of source(1), {k, n}, by each of m rows of source(0), {k, m}; {m, n}. */
    MUL_MAT(29),
    /**
     * The same with experts: source(0), {k, m, experts}; source(1), {k, 1 or used, n}; source(2), {used, n}, the numbers of the
     * experts as int32; {m, used, n}.
     */
    MUL_MAT_ID(30),
    /** The rows of source(0) that source(1) numbers as int32. */
    GET_ROWS(40),
    /** Any other operation, or none. */
    OTHER(-1);

    private final int number;

    Op(int number) {
      this.number = number;
    }

    /** Its number in the pinned release. */
    int number() {
      return number;
    }
  }

  private final LlamaModel model;
  private final GgmlTensors tensors;
  private final MemorySegment struct;
  private final Arena arena;

  /**
   * A view of a tensor.
   *
   * @param tensor its address
   * @param arena bounds the time of its use
   */
  Node(LlamaModel model, GgmlTensors tensors, MemorySegment tensor, Arena arena) {
    this.model = model;
    this.tensors = tensors;
    this.arena = arena;
    struct = tensor.reinterpret(GgmlTensors.LAYOUT.byteSize(), arena, null);
  }

  /** What distinguishes it from the other tensors of its graph; a weight's never changes. */
  public long address() {
    return struct.address();
  }

  /** Its name in the graph, for example {@code Qcur-0}; a weight's is that in the file, for example {@code blk.0.attn_q.weight}. */
  public String name() {
    return tensors.name(struct);
  }

  /** What it is the result of. */
  public Op op() {
    int number = tensors.op(struct);
    for (Op op : Op.values()) {
      if (op.number == number) {
        return op;
      }
    }
    return Op.OTHER;
  }

  /** ggml number of the type of its values. */
  public int type() {
    return tensors.type(struct);
  }

  /**
   * Number of elements along a dimension.
   *
   * @param dimension 0 to 3; along 0 lie the values of a row
   */
  public long ne(int dimension) {
    return tensors.ne(struct, Objects.checkIndex(dimension, GgmlTensors.DIMENSIONS));
  }

  /**
   * Bytes from one element, along dimension 0 from one block, to the next.
   *
   * @param dimension 0 to 3
   */
  public long nb(int dimension) {
    return tensors.nb(struct, Objects.checkIndex(dimension, GgmlTensors.DIMENSIONS));
  }

  /**
   * What the operation reads.
   *
   * @param index 0 to 9
   */
  public Optional<Node> source(int index) {
    MemorySegment source = tensors.source(struct, Objects.checkIndex(index, GgmlTensors.SOURCES));
    return source.equals(MemorySegment.NULL) ? Optional.empty() : Optional.of(new Node(model, tensors, source, arena));
  }

  /** Bytes from the first value to the last. */
  public long bytes() {
    return tensors.bytes(struct);
  }

  /** Whether {@link #data} can be used: the data lies in the processor's memory in the form that the type says. */
  public boolean isHost() {
    MemorySegment buffer = tensors.buffer(struct);
    return !buffer.equals(MemorySegment.NULL) && tensors.isHost(buffer);
  }

  /**
   * The data as it lies in memory, {@link #bytes()} long, read-only: values are found by {@link #nb}.
   *
   * @throws IllegalStateException if it is not in the processor's memory, or nowhere yet
   */
  public MemorySegment data() {
    requireAllocated();
    if (!isHost()) {
      throw new IllegalStateException(name() + " is not in the processor's memory");
    }
    return tensors.data(struct).reinterpret(bytes(), arena, null).asReadOnly();
  }

  /**
   * Copies the data, wherever it lies.
   *
   * @param to native memory, {@link #bytes()} long
   * @throws IllegalArgumentException if {@code to} is not that
   * @throws IllegalStateException if the data is nowhere yet, or is a weight that the model may keep in another form than the file's:
   *     see {@link LlamaModel.Options#mmap}
   */
  public void read(MemorySegment to) {
    requireAllocated();
    if (to.byteSize() != bytes()) {
      throw new IllegalArgumentException(name() + ": room for " + to.byteSize() + " bytes, expected " + bytes());
    }
    if (isWeight() && !isHost()) {
      model.requirePlainWeights(name());
    }
    tensors.get(struct, to, 0);
  }

  private boolean isWeight() {
    MemorySegment buffer = tensors.buffer(struct);
    return !buffer.equals(MemorySegment.NULL) && tensors.holdsWeights(buffer);
  }

  /** The model's tensor, if it is one. */
  public Optional<WeightTensor> weight() {
    return isWeight()
      ? Optional.of(new WeightTensor(model, tensors, MemorySegment.ofAddress(address())))
      : Optional.empty();
  }

  private void requireAllocated() {
    if (tensors.buffer(struct).equals(MemorySegment.NULL) || tensors.data(struct).equals(MemorySegment.NULL)) {
      throw new IllegalStateException(name() + " has no memory");
    }
  }

  @Override
  public String toString() {
    return name() + " {" + ne(0) + ", " + ne(1) + ", " + ne(2) + ", " + ne(3) + "}";
  }
}
