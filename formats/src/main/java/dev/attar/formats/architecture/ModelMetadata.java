package dev.attar.formats.architecture;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.attar.formats.FormatException;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.json.JsonFiles;
import dev.attar.formats.tokenizer.Tokenizer;
import java.io.IOException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Writes a checkpoint's metadata in the order of llama.cpp's converter. */
final class ModelMetadata {

  /** {@code general.quantization_version}: GGML_QNT_VERSION of llama.cpp v0.5.0. */
  private static final int QUANTIZATION_VERSION = 2;

  private ModelMetadata() {}

  static Metadata read(
    Path directory,
    CheckpointConfig config,
    Architecture architecture,
    HyperParameters h,
    List<? extends Tensor> tensors
  ) throws IOException {
    Map<String, MetadataValue> out = new LinkedHashMap<>();
    String prefix = architecture.ggufName() + ".";
    out.put("general.architecture", MetadataValue.string(architecture.ggufName()));
    out.put("general.type", MetadataValue.string("model"));
    writeSampling(directory, out);
    ModelName.of(directory, config, tensors).write(out);

    out.put(prefix + "block_count", MetadataValue.uint32(h.layers()));
    out.put(prefix + "context_length", MetadataValue.uint32(h.context()));
    out.put(prefix + "embedding_length", MetadataValue.uint32(h.embedding()));
    out.put(prefix + "feed_forward_length", MetadataValue.uint32(h.feedForward()));
    out.put(prefix + "attention.head_count", MetadataValue.uint32(h.heads()));
    out.put(prefix + "attention.head_count_kv", MetadataValue.uint32(h.keyValueHeads()));
    h.rope().write(architecture.ggufName(), out);
    out.put(prefix + "attention.layer_norm_rms_epsilon", MetadataValue.float32((float) h.rmsEpsilon()));
    if (h.experts() > 0) {
      out.put(prefix + "expert_count", MetadataValue.uint32(h.experts()));
    }
    if (h.expertsUsed() > 0) {
      out.put(prefix + "expert_used_count", MetadataValue.uint32(h.expertsUsed()));
    }
    if (h.headSizeGiven()) {
      out.put(prefix + "attention.key_length", MetadataValue.uint32(h.headSize()));
      out.put(prefix + "attention.value_length", MetadataValue.uint32(h.headSize()));
    }
    List<TensorInfo> infos = tensors.stream().map(Tensor::info).toList();
    out.put("general.file_type", MetadataValue.uint32(OutputType.AUTO.resolve(infos).fileType()));
    architecture.writeMetadata(h, out);
    out.put("general.quantization_version", MetadataValue.uint32(QUANTIZATION_VERSION));
    out.putAll(Tokenizer.read(directory, config.json(), architecture.tokenizer(), h.vocabulary()));
    return Metadata.of(out);
  }

  /** What {@code generation_config.json} recommends for sampling; a file that is not JSON says nothing. */
  private static void writeSampling(Path directory, Map<String, MetadataValue> out) throws IOException {
    ObjectNode generation;
    try {
      generation = JsonFiles.objectIfPresent(directory.resolve("generation_config.json")).orElse(null);
    } catch (FormatException _) {
      generation = null;
    }
    if (generation == null) {
      generation = JsonNodeFactory.instance.objectNode();
    }
    String prefix = "general.sampling.";
    putText(out, prefix + "sequence", generation.path("sequence"));
    putInteger(out, prefix + "top_k", generation.path("top_k"));
    putNumber(out, prefix + "top_p", generation.path("top_p"));
    putNumber(out, prefix + "min_p", generation.path("min_p"));
    putNumber(out, prefix + "xtc_probability", generation.path("xtc_probability"));
    putNumber(out, prefix + "xtc_threshold", generation.path("xtc_threshold"));
    putNumber(out, prefix + "temp", generation.path("temperature"));
    putInteger(out, prefix + "penalty_last_n", generation.path("penalty_last_n"));
    boolean own = generation.has("penalty_repeat");
    putNumber(out, prefix + "penalty_repeat", generation.path(own ? "penalty_repeat" : "repetition_penalty"));
    putInteger(out, prefix + "mirostat", generation.path("mirostat"));
    putNumber(out, prefix + "mirostat_tau", generation.path("mirostat_tau"));
    putNumber(out, prefix + "mirostat_eta", generation.path("mirostat_eta"));
  }

  private static void putText(Map<String, MetadataValue> out, String key, JsonNode value) {
    if (value.isTextual()) {
      out.put(key, MetadataValue.string(value.textValue()));
    }
  }

  private static void putInteger(Map<String, MetadataValue> out, String key, JsonNode value) {
    if (value.isIntegralNumber() && value.canConvertToInt()) {
      out.put(key, MetadataValue.int32(value.intValue()));
    }
  }

  private static void putNumber(Map<String, MetadataValue> out, String key, JsonNode value) {
    if (value.isNumber()) {
      out.put(key, MetadataValue.float32((float) value.doubleValue()));
    }
  }
}
