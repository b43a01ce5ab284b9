package dev.attar.llama;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BOOLEAN;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
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
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A struct of parameters of the pinned release: its fields in order and the defaults that the library itself fills in. Finding
 * these defaults shows that the library was built with the layout that is described here.
 */
final class ParamsType {

  private static final int FTYPE_Q8_0 = 7;
  private static final int TYPE_F16 = 1;
  private static final long EIGHT_GIB = 8L << 30;

  static final ParamsType QUANTIZE = new Builder()
    .field("nthread", 0)
    .field("ftype", FTYPE_Q8_0)
    .field("output_tensor_type", Ggml.TYPES)
    .field("token_embedding_type", Ggml.TYPES)
    .field("allow_requantize", false)
    .field("quantize_output_tensor", true)
    .field("only_copy", false)
    .field("pure", false)
    .field("keep_split", false)
    .field("dry_run", false)
    .pointer("imatrix")
    .pointer("kv_overrides")
    .pointer("tt_overrides")
    .pointer("prune_layers")
    .field("max_buf_size", EIGHT_GIB)
    .build("llama_model_quantize_params", "llama_model_quantize_default_params");

  static final ParamsType MODEL = new Builder()
    .pointer("devices")
    .pointer("tensor_buft_overrides")
    .field("n_gpu_layers", -1)
    .field("split_mode", 1)
    .field("load_mode", -1)
    .field("lazy_mode", 1)
    .field("main_gpu", 0)
    .pointer("tensor_split")
    .pointer("progress_callback")
    .pointer("progress_callback_user_data")
    .pointer("kv_overrides")
    .field("vocab_only", false)
    .field("check_tensors", false)
    .field("use_extra_bufts", true)
    .field("no_host", false)
    .field("no_alloc", false)
    .field("load_mtp", false)
    .build("llama_model_params", "llama_model_default_params");

  static final ParamsType CONTEXT = new Builder()
    .field("n_ctx", 512)
    .field("n_batch", 2048)
    .field("n_ubatch", 512)
    .field("n_seq_max", 1)
    .field("n_rs_seq", 0)
    .field("n_outputs_max", 0)
    .field("n_outputs_max_per_seq", 1)
    .field("n_threads", 4)
    .field("n_threads_batch", 4)
    .field("ctx_type", 0)
    .field("rope_scaling_type", -1)
    .field("pooling_type", -1)
    .field("attention_type", -1)
    .field("flash_attn_type", -1)
    .field("rope_freq_base", 0f)
    .field("rope_freq_scale", 0f)
    .field("yarn_ext_factor", -1f)
    .field("yarn_attn_factor", -1f)
    .field("yarn_beta_fast", -1f)
    .field("yarn_beta_slow", -1f)
    .field("yarn_orig_ctx", 0)
    .field("defrag_thold", -1f)
    .pointer("cb_eval")
    .pointer("cb_eval_user_data")
    .field("type_k", TYPE_F16)
    .field("type_v", TYPE_F16)
    .pointer("abort_callback")
    .pointer("abort_callback_data")
    .field("embeddings", false)
    .field("offload_kqv", true)
    .field("no_perf", true)
    .field("op_offload", true)
    .field("swa_full", true)
    .field("kv_unified", false)
    .pointer("samplers")
    .field("n_samplers", 0L)
    .pointer("ctx_other")
    .build("llama_context_params", "llama_context_default_params");

  private final String name;
  private final String defaultsFunction;
  private final StructLayout layout;
  private final Map<String, Object> defaults;

  private ParamsType(String name, String defaultsFunction, StructLayout layout, Map<String, Object> defaults) {
    this.name = name;
    this.defaultsFunction = defaultsFunction;
    this.layout = layout;
    this.defaults = defaults;
  }

  /** For the signature of a function that takes the struct by value. */
  StructLayout layout() {
    return layout;
  }

  /** A struct with the library's own defaults, which lives as long as the arena. */
  Params defaults(LlamaLibrary library, Arena arena) {
    MethodHandle function = library.function(defaultsFunction, FunctionDescriptor.of(layout));
    return new Params(layout, Natives.call(() -> (MemorySegment) function.invokeExact((SegmentAllocator) arena)));
  }

  /**
   * Compares the library's defaults with the pinned release's.
   *
   * @throws IOException if they differ
   */
  void check(LlamaLibrary library) throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      Params found = defaults(library, arena);
      for (Map.Entry<String, Object> field : defaults.entrySet()) {
        Object value = found.get(field.getKey());
        if (!field.getValue().equals(value)) {
          throw new IOException(
            "llama.cpp " +
              library.version() +
              ": default of " +
              name +
              "." +
              field.getKey() +
              " is " +
              value +
              ", expected " +
              field.getValue() +
              ": the library was built with another layout"
          );
        }
      }
    }
  }

  /** One struct, whose fields are known by their names. */
  static final class Params {

    private final StructLayout layout;
    private final MemorySegment struct;

    private Params(StructLayout layout, MemorySegment struct) {
      this.layout = layout;
      this.struct = struct;
    }

    /** The value of a field: an {@code Integer}, {@code Long}, {@code Float}, {@code Boolean} or {@code MemorySegment}. */
    Object get(String field) {
      return layout.varHandle(PathElement.groupElement(field)).get(struct, 0L);
    }

    Params set(String field, Object value) {
      layout.varHandle(PathElement.groupElement(field)).set(struct, 0L, value);
      return this;
    }

    MemorySegment struct() {
      return struct;
    }
  }

  /** Fields in the order of the header; the padding between them follows from their types. */
  private static final class Builder {

    private final List<MemoryLayout> members = new ArrayList<>();
    private final Map<String, Object> defaults = new LinkedHashMap<>();
    private long size;

    Builder field(String name, Object value) {
      ValueLayout type = switch (value) {
        case Integer _ -> JAVA_INT;
        case Long _ -> JAVA_LONG;
        case Float _ -> JAVA_FLOAT;
        case Boolean _ -> JAVA_BOOLEAN;
        case MemorySegment _ -> ADDRESS;
        default -> throw new IllegalArgumentException(name + ": no C type for " + value.getClass());
      };
      pad(type.byteAlignment());
      members.add(type.withName(name));
      size += type.byteSize();
      defaults.put(name, value);
      return this;
    }

    Builder pointer(String name) {
      return field(name, MemorySegment.NULL);
    }

    private void pad(long alignment) {
      long padding = Math.floorMod(-size, alignment);
      if (padding > 0) {
        members.add(MemoryLayout.paddingLayout(padding));
        size += padding;
      }
    }

    ParamsType build(String name, String defaultsFunction) {
      pad(ADDRESS.byteAlignment());
      StructLayout layout = MemoryLayout.structLayout(members.toArray(MemoryLayout[]::new));
      return new ParamsType(name, defaultsFunction, layout, defaults);
    }
  }
}
