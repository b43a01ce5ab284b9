package dev.attar.formats.adapter;

import dev.attar.formats.FormatException;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.gguf.GgufModel;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Reads adapters as llama.cpp does ({@code llama-adapter.cpp}): factors are called {@code NAME.lora_a} and {@code NAME.lora_b}. */
final class GgufAdapter {

  private static final String A = ".lora_a";
  private static final String B = ".lora_b";
  private static final String ALPHA = "adapter.lora.alpha";

  /** Of adapters that work from certain tokens on only. */
  private static final String INVOCATION = "adapter.alora.invocation_tokens";

  private GgufAdapter() {}

  static LoraAdapter open(Path path, Model base) throws IOException {
    GgufModel file = GgufModel.open(path);
    try {
      return read(file, base);
    } catch (IOException | RuntimeException e) {
      file.close();
      throw e;
    }
  }

  private static LoraAdapter read(GgufModel file, Model base) throws IOException {
    Path path = file.source();
    Metadata metadata = file.metadata();
    requireKey(file, "general.type", "adapter");
    requireKey(file, "adapter.type", "lora");
    String architecture = base.metadata().architecture();
    if (!metadata.architecture().equals(architecture)) {
      throw new FormatException(
        path,
        "general.architecture",
        metadata.architecture().isEmpty() ? "nothing" : metadata.architecture(),
        architecture + " as " + base.source() + " has it"
      );
    }
    if (metadata.get(INVOCATION).isPresent()) {
      throw new FormatException(path, "key " + INVOCATION, "an activated LoRA", "one that works on all tokens");
    }
    float alpha = alpha(path, metadata);
    Factors factors = new Factors(path, base);
    List<String> ignored = new ArrayList<>();
    for (Map.Entry<String, Tensor[]> entry : pairs(file, factors, ignored).entrySet()) {
      String name = entry.getKey();
      Tensor a = entry.getValue()[0];
      Tensor b = entry.getValue()[1];
      if (a == null || b == null) {
        throw factors.error(name + (a == null ? B : A), " is without its partner " + (a == null ? A : B));
      }
      TensorInfo target = factors.target(name, a.info().name());
      float scale = alpha == 0 ? 1 : alpha / b.info().rowLength();
      if (name.equals(Factors.EMBEDDING)) {
        // Here rows of A are tokens, and B is what turns them into embeddings.
        factors.add(target, factors.transposed(b), a, scale);
      } else {
        factors.add(target, a, b, scale);
      }
    }
    return new LoraAdapter(path, file.files(), factors.inOrder(), ignored, file::close);
  }

  private static void requireKey(GgufModel file, String key, String expected) throws FormatException {
    String found = file.metadata().get(key).map(MetadataValue::toString).orElse("nothing");
    if (!found.equals(expected)) {
      throw new FormatException(file.source(), "key " + key, found, expected + ", a LoRA adapter");
    }
  }

  private static float alpha(Path path, Metadata metadata) throws FormatException {
    MetadataValue value = metadata.get(ALPHA).orElse(null);
    if (value == null) {
      return 0;
    }
    if (!(value.value() instanceof Float alpha) || !Float.isFinite(alpha)) {
      throw new FormatException(path, "key " + ALPHA, value.type() + " " + value, "a finite number of type FLOAT32");
    }
    return alpha;
  }

  /** A and B of each tensor, {@code null} where one is missing. */
  private static Map<String, Tensor[]> pairs(GgufModel file, Factors factors, List<String> ignored)
    throws FormatException {
    Map<String, Tensor[]> pairs = new LinkedHashMap<>();
    for (Tensor tensor : file.tensors()) {
      String name = tensor.info().name();
      if (name.endsWith(A) || name.endsWith(B)) {
        String target = name.substring(0, name.length() - A.length());
        pairs.computeIfAbsent(target, _ -> new Tensor[2])[name.endsWith(A) ? 0 : 1] = tensor;
      } else if (name.endsWith("_norm.weight")) {
        ignored.add(name);
      } else {
        throw factors.error(name, " is no factor of LoRA, expected a name that ends in " + A + " or " + B);
      }
    }
    return pairs;
  }
}
