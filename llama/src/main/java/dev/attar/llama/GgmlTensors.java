package dev.attar.llama;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BOOLEAN;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemoryLayout.PathElement;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.StructLayout;
import java.lang.invoke.MethodHandle;
import java.util.List;

/**
 * ggml's tensors, whose fields have no accessor functions: the struct of the pinned release, and what ggml does with one. A tensor is
 * given as a segment of {@link #LAYOUT}'s size.
 */
final class GgmlTensors {

  static final int DIMENSIONS = 4; // GGML_MAX_DIMS
  static final int SOURCES = 10; // GGML_MAX_SRC

  private static final int NAME_BYTES = 64; // GGML_MAX_NAME
  private static final int OBJECT_BYTES = 32; // sizeof(struct ggml_object), which precedes a tensor in its context
  private static final int USAGE_WEIGHTS = 1; // GGML_BACKEND_BUFFER_USAGE_WEIGHTS

  /** {@code struct ggml_tensor}. */
  static final StructLayout LAYOUT = MemoryLayout.structLayout(
    JAVA_INT.withName("type"),
    MemoryLayout.paddingLayout(4),
    ADDRESS.withName("buffer"),
    MemoryLayout.sequenceLayout(DIMENSIONS, JAVA_LONG).withName("ne"),
    MemoryLayout.sequenceLayout(DIMENSIONS, JAVA_LONG).withName("nb"),
    JAVA_INT.withName("op"),
    MemoryLayout.sequenceLayout(16, JAVA_INT).withName("op_params"),
    JAVA_INT.withName("flags"),
    MemoryLayout.sequenceLayout(SOURCES, ADDRESS).withName("src"),
    ADDRESS.withName("view_src"),
    JAVA_LONG.withName("view_offs"),
    ADDRESS.withName("data"),
    MemoryLayout.sequenceLayout(NAME_BYTES, JAVA_BYTE).withName("name"),
    ADDRESS.withName("extra"),
    MemoryLayout.paddingLayout(8)
  );

  private static final long TYPE = offset("type");
  private static final long BUFFER = offset("buffer");
  private static final long NE = offset("ne");
  private static final long NB = offset("nb");
  private static final long OP = offset("op");
  private static final long SRC = offset("src");
  private static final long VIEW_SRC = offset("view_src");
  private static final long VIEW_OFFS = offset("view_offs");
  private static final long DATA = offset("data");
  private static final long NAME = offset("name");

  private final LlamaLibrary library;
  private final MethodHandle bytes;
  private final MethodHandle isHost;
  private final MethodHandle usage;
  private final MethodHandle get;
  private final MethodHandle set;

  /**
   * Binds the functions.
   *
   * @throws IOException if the library was built with another layout of the struct, or numbers the operations otherwise
   */
  GgmlTensors(LlamaLibrary library) throws IOException {
    this.library = library;
    bytes = library.function("ggml_nbytes", FunctionDescriptor.of(JAVA_LONG, ADDRESS));
    isHost = library.function("ggml_backend_buffer_is_host", FunctionDescriptor.of(JAVA_BOOLEAN, ADDRESS));
    usage = library.function("ggml_backend_buffer_get_usage", FunctionDescriptor.of(JAVA_INT, ADDRESS));
    FunctionDescriptor copy = FunctionDescriptor.ofVoid(ADDRESS, ADDRESS, JAVA_LONG, JAVA_LONG);
    get = library.function("ggml_backend_tensor_get", copy);
    set = library.function("ggml_backend_tensor_set", copy);
    checkOperations();
    checkLayout();
  }

  private static long offset(String field) {
    return LAYOUT.byteOffset(PathElement.groupElement(field));
  }

  int type(MemorySegment tensor) {
    return tensor.get(JAVA_INT, TYPE);
  }

  int op(MemorySegment tensor) {
    return tensor.get(JAVA_INT, OP);
  }

  long ne(MemorySegment tensor, int dimension) {
    return tensor.get(JAVA_LONG, NE + JAVA_LONG.byteSize() * dimension);
  }

  long nb(MemorySegment tensor, int dimension) {
    return tensor.get(JAVA_LONG, NB + JAVA_LONG.byteSize() * dimension);
  }

  String name(MemorySegment tensor) {
    return tensor.asSlice(NAME, NAME_BYTES).getString(0);
  }

  /** A pointer of no size; NULL if there is no such source. */
  MemorySegment source(MemorySegment tensor, int index) {
    return tensor.get(ADDRESS, SRC + ADDRESS.byteSize() * index);
  }

  /** A pointer of no size; NULL if the tensor has no memory yet. */
  MemorySegment data(MemorySegment tensor) {
    return tensor.get(ADDRESS, DATA);
  }

  /** The buffer in which the data lies, a view's as well; NULL if there is none yet. */
  MemorySegment buffer(MemorySegment tensor) {
    MemorySegment viewed = tensor.get(ADDRESS, VIEW_SRC);
    return (viewed.equals(MemorySegment.NULL) ? tensor : viewed.reinterpret(LAYOUT.byteSize())).get(ADDRESS, BUFFER);
  }

  /** Bytes from the first to the last value. */
  long bytes(MemorySegment tensor) {
    return Natives.call(() -> (long) bytes.invokeExact(tensor));
  }

  boolean isHost(MemorySegment buffer) {
    return Natives.call(() -> (boolean) isHost.invokeExact(buffer));
  }

  boolean holdsWeights(MemorySegment buffer) {
    return Natives.call(() -> (int) usage.invokeExact(buffer)) == USAGE_WEIGHTS;
  }

  /** Reads from a tensor's data, wherever it lies. */
  void get(MemorySegment tensor, MemorySegment to, long offset) {
    long size = to.byteSize();
    Natives.run(() -> {
      get.invokeExact(tensor, to, offset, size);
    });
  }

  /** Writes into a tensor's data, wherever it lies. */
  void set(MemorySegment tensor, MemorySegment from, long offset) {
    long size = from.byteSize();
    Natives.run(() -> {
      set.invokeExact(tensor, from, offset, size);
    });
  }

  private void checkOperations() throws IOException {
    MethodHandle name = library.function("ggml_op_name", FunctionDescriptor.of(ADDRESS, JAVA_INT));
    for (Node.Op op : Node.Op.values()) {
      if (op != Node.Op.OTHER) {
        int number = op.number();
        String found = Natives.string(Natives.call(() -> (MemorySegment) name.invokeExact(number)));
        require("ggml_op_name(" + number + ")", found, op.name());
      }
    }
  }

  /** Makes tensors and looks whether their fields are where they are expected. */
  private void checkLayout() throws IOException {
    MethodHandle overhead = library.function("ggml_tensor_overhead", FunctionDescriptor.of(JAVA_LONG));
    long perTensor = Natives.call(() -> (long) overhead.invokeExact());
    // Before a field is read: with a smaller struct, the last ones would lie outside.
    require("ggml_tensor_overhead", perTensor, OBJECT_BYTES + LAYOUT.byteSize());
    StructLayout paramsLayout = MemoryLayout.structLayout(
      JAVA_LONG.withName("mem_size"),
      ADDRESS.withName("mem_buffer"),
      JAVA_BOOLEAN.withName("no_alloc"),
      MemoryLayout.paddingLayout(7)
    );
    MethodHandle initialize = library.function("ggml_init", FunctionDescriptor.of(ADDRESS, paramsLayout));
    MethodHandle bufferOf = library.function(
      "ggml_backend_cpu_buffer_from_ptr",
      FunctionDescriptor.of(ADDRESS, ADDRESS, JAVA_LONG)
    );
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment params = arena.allocate(paramsLayout);
      params.set(JAVA_LONG, 0, 8 * perTensor);
      params.set(JAVA_BOOLEAN, paramsLayout.byteOffset(PathElement.groupElement("no_alloc")), true);
      MemorySegment memory = arena.allocate(64, 64);
      MemorySegment context = Natives.call(() -> (MemorySegment) initialize.invokeExact(params));
      MemorySegment buffer = Natives.call(() -> (MemorySegment) bufferOf.invokeExact(memory, memory.byteSize()));
      try {
        checkLayout(context, buffer, memory, arena);
      } finally {
        library.perform("ggml_free", context);
        library.perform("ggml_backend_buffer_free", buffer);
      }
    }
  }

  private void checkLayout(MemorySegment context, MemorySegment buffer, MemorySegment memory, Arena arena)
    throws IOException {
    MethodHandle create = library.function(
      "ggml_new_tensor_2d",
      FunctionDescriptor.of(ADDRESS, ADDRESS, JAVA_INT, JAVA_LONG, JAVA_LONG)
    );
    MethodHandle setName = library.function("ggml_set_name", FunctionDescriptor.of(ADDRESS, ADDRESS, ADDRESS));
    MethodHandle place = library.function(
      "ggml_backend_tensor_alloc",
      FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, ADDRESS)
    );
    MethodHandle multiply = library.function("ggml_mul_mat", FunctionDescriptor.of(ADDRESS, ADDRESS, ADDRESS, ADDRESS));
    MethodHandle viewOf = library.function(
      "ggml_view_1d",
      FunctionDescriptor.of(ADDRESS, ADDRESS, ADDRESS, JAVA_LONG, JAVA_LONG)
    );
    int f16 = 1;
    MemorySegment weight = tensor(() -> (MemorySegment) create.invokeExact(context, f16, 3L, 2L));
    MemorySegment input = tensor(() -> (MemorySegment) create.invokeExact(context, 0, 3L, 5L));
    MemorySegment name = arena.allocateFrom("weight");
    Natives.call(() -> (MemorySegment) setName.invokeExact(weight, name));
    Natives.call(() -> (int) place.invokeExact(buffer, weight, memory));
    MemorySegment product = tensor(() -> (MemorySegment) multiply.invokeExact(context, weight, input));
    MemorySegment view = tensor(() -> (MemorySegment) viewOf.invokeExact(context, weight, 2L, 6L));

    require("ggml_tensor.type", type(weight), f16);
    require("ggml_tensor.buffer", weight.get(ADDRESS, BUFFER), buffer);
    for (int i = 0; i < DIMENSIONS; i++) {
      require("ggml_tensor.ne", ne(weight, i), List.of(3L, 2L, 1L, 1L).get(i));
      require("ggml_tensor.nb", nb(weight, i), List.of(2L, 6L, 12L, 12L).get(i));
    }
    require("ggml_tensor.op", op(product), Node.Op.MUL_MAT.number());
    require("ggml_tensor.src", source(product, 0).address(), weight.address());
    require("ggml_tensor.src", source(product, 1).address(), input.address());
    require("ggml_tensor.src", source(product, 2), MemorySegment.NULL);
    require("ggml_tensor.view_src", view.get(ADDRESS, VIEW_SRC).address(), weight.address());
    require("ggml_tensor.view_offs", view.get(JAVA_LONG, VIEW_OFFS), 6L);
    require("ggml_tensor.data", data(weight).address(), memory.address());
    require("ggml_tensor.name", weight.asSlice(NAME, 7), name);
  }

  private static MemorySegment tensor(Natives.Call<MemorySegment> call) {
    return Natives.call(call).reinterpret(LAYOUT.byteSize());
  }

  private void require(String what, Object found, Object expected) throws IOException {
    boolean equal = found instanceof MemorySegment a && expected instanceof MemorySegment b && a.byteSize() > 0
      ? a.mismatch(b) < 0
      : found.equals(expected);
    if (!equal) {
      throw new IOException(
        "llama.cpp " +
          library.version() +
          ": " +
          what +
          " is " +
          found +
          ", expected " +
          expected +
          ": the library was built with another layout"
      );
    }
  }
}
