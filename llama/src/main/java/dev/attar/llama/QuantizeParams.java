package dev.attar.llama;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BOOLEAN;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemoryLayout.PathElement;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SegmentAllocator;
import java.lang.foreign.StructLayout;
import java.lang.invoke.MethodHandle;
import java.util.LinkedHashMap;
import java.util.Map;

/** {@code struct llama_model_quantize_params} of the pinned release. */
final class QuantizeParams {

  private static final StructLayout LAYOUT = MemoryLayout.structLayout(
    JAVA_INT.withName("nthread"),
    JAVA_INT.withName("ftype"),
    JAVA_INT.withName("output_tensor_type"),
    JAVA_INT.withName("token_embedding_type"),
    JAVA_BOOLEAN.withName("allow_requantize"),
    JAVA_BOOLEAN.withName("quantize_output_tensor"),
    JAVA_BOOLEAN.withName("only_copy"),
    JAVA_BOOLEAN.withName("pure"),
    JAVA_BOOLEAN.withName("keep_split"),
    JAVA_BOOLEAN.withName("dry_run"),
    MemoryLayout.paddingLayout(2),
    ADDRESS.withName("imatrix"),
    ADDRESS.withName("kv_overrides"),
    ADDRESS.withName("tt_overrides"),
    ADDRESS.withName("prune_layers"),
    JAVA_LONG.withName("max_buf_size")
  );

  private static final int FTYPE_Q8_0 = 7;
  private static final long EIGHT_GIB = 8L << 30;

  private final MemorySegment struct;

  private QuantizeParams(MemorySegment struct) {
    this.struct = struct;
  }

  /** The library's own defaults. */
  static QuantizeParams defaults(LlamaLibrary library, Arena arena) {
    MethodHandle defaults = library.function("llama_model_quantize_default_params", FunctionDescriptor.of(LAYOUT));
    return new QuantizeParams(Natives.call(() -> (MemorySegment) defaults.invokeExact((SegmentAllocator) arena)));
  }

  /**
   * Compares the library's defaults with the pinned release's, which shows whether the layout is right.
   *
   * @throws IOException if they differ
   */
  static void check(LlamaLibrary library) throws IOException {
    Map<String, Object> expected = new LinkedHashMap<>();
    expected.put("nthread", 0);
    expected.put("ftype", FTYPE_Q8_0);
    expected.put("output_tensor_type", Ggml.TYPES);
    expected.put("token_embedding_type", Ggml.TYPES);
    expected.put("allow_requantize", false);
    expected.put("quantize_output_tensor", true);
    expected.put("only_copy", false);
    expected.put("pure", false);
    expected.put("keep_split", false);
    expected.put("dry_run", false);
    expected.put("imatrix", MemorySegment.NULL);
    expected.put("kv_overrides", MemorySegment.NULL);
    expected.put("tt_overrides", MemorySegment.NULL);
    expected.put("prune_layers", MemorySegment.NULL);
    expected.put("max_buf_size", EIGHT_GIB);
    try (Arena arena = Arena.ofConfined()) {
      QuantizeParams defaults = defaults(library, arena);
      for (Map.Entry<String, Object> field : expected.entrySet()) {
        Object found = defaults.get(field.getKey());
        if (!field.getValue().equals(found)) {
          throw new IOException(
            "llama.cpp " +
              library.version() +
              ": default of llama_model_quantize_params." +
              field.getKey() +
              " is " +
              found +
              ", expected " +
              field.getValue() +
              ": the library was built with another layout"
          );
        }
      }
    }
  }

  private Object get(String field) {
    return LAYOUT.varHandle(PathElement.groupElement(field)).get(struct, 0L);
  }

  QuantizeParams set(String field, Object value) {
    LAYOUT.varHandle(PathElement.groupElement(field)).set(struct, 0L, value);
    return this;
  }

  MemorySegment struct() {
    return struct;
  }
}
