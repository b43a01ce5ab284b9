package dev.attar.formats.adapter;

import dev.attar.formats.FormatException;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.architecture.CheckpointNames;
import dev.attar.formats.safetensors.SafetensorsFile;
import dev.attar.formats.safetensors.StoredTensor;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Reads adapters as PEFT writes them: {@code base_model.model.MODULE.lora_A.weight} is A of shape (rank, in) in PyTorch's order, {@code
 * lora_B} is B of shape (out, rank). An embedding's are called {@code lora_embedding_A} (rank, vocabulary) and {@code lora_embedding_B}
 * (width, rank), and the product is transposed.
 */
final class PeftAdapter {

  private static final String CONFIG = "adapter_config.json";
  private static final String WEIGHTS = "adapter_model.safetensors";

  private static final Pattern FACTOR = Pattern.compile(
    "base_model\\.model\\.(?<module>.+)\\.(lora_(?<factor>[AB])(\\.default)?\\.weight|lora_embedding_(?<embedding>[AB])(\\.default)?)"
  );

  private final Path file;
  private final PeftConfig config;
  private final Model base;
  private final CheckpointNames names;
  private final Factors factors;
  private final Map<String, Pair> pairs = new LinkedHashMap<>();

  /** The factors of one tensor of the base, one of each for each expert; {@code null} where one has not been found. */
  private record Pair(TensorInfo target, int heads, String[] modules, StoredTensor[] a, StoredTensor[] b) {}

  private PeftAdapter(Path file, PeftConfig config, Model base) throws FormatException {
    this.file = file;
    this.config = config;
    this.base = base;
    names = CheckpointNames.of(base);
    factors = new Factors(file, base);
  }

  static LoraAdapter open(Path path, Model base) throws IOException {
    boolean isFolder = Files.isDirectory(path);
    Path folder = isFolder ? path : path.toAbsolutePath().getParent();
    Path settings = folder.resolve(CONFIG);
    Path weights = isFolder ? path.resolve(WEIGHTS) : path;
    for (Path needed : List.of(settings, weights)) {
      if (!Files.isRegularFile(needed)) {
        throw new FormatException(
          folder,
          needed.getFileName().toString(),
          "nothing",
          "a PEFT adapter, " + CONFIG + " and " + WEIGHTS
        );
      }
    }
    PeftConfig config = PeftConfig.read(settings);
    SafetensorsFile file = SafetensorsFile.open(weights);
    try {
      PeftAdapter adapter = new PeftAdapter(weights, config, base);
      for (StoredTensor tensor : file.tensors()) {
        adapter.collect(tensor);
      }
      for (Pair pair : adapter.pairs.values()) {
        adapter.add(pair);
      }
      return new LoraAdapter(path, List.of(settings, weights), adapter.factors.inOrder(), List.of(), file::close);
    } catch (IOException | RuntimeException e) {
      file.close();
      throw e;
    }
  }

  private void collect(StoredTensor tensor) throws FormatException {
    String name = tensor.name();
    if (name.endsWith(".base_layer.weight")) {
      return; // The base's own, which PEFT stores with the factors of an embedding.
    }
    Matcher match = FACTOR.matcher(name);
    if (name.contains("lora_magnitude_vector")) {
      throw factors.error(name, " is of DoRA, which cannot be merged");
    }
    if (!match.matches()) {
      throw factors.error(name, " is no factor of LoRA and cannot be merged");
    }
    String module = match.group("module");
    boolean isEmbedding = match.group("embedding") != null;
    boolean isA = (isEmbedding ? match.group("embedding") : match.group("factor")).equals("A");
    CheckpointNames.Place place = names.place(module + ".weight").orElse(null);
    if (place == null) {
      throw factors.error(name, ": checkpoints of " + architecture() + " have no " + module + ".weight");
    }
    TensorInfo target = factors.target(place.name(), name);
    if (isEmbedding != target.name().equals(Factors.EMBEDDING)) {
      throw factors.error(
        name,
        ": " +
          target.name() +
          " has factors lora_" +
          (isEmbedding ? "A and lora_B" : "embedding_A and lora_embedding_B")
      );
    }
    int experts = place.stacked() ? (int) Math.min(target.dimension(2), Integer.MAX_VALUE) : 1;
    if (place.expert() >= experts) {
      throw factors.error(
        name,
        ": expert " + place.expert() + ", expected below " + experts + " as " + base.source() + " has it"
      );
    }
    Pair pair = pairs.computeIfAbsent(target.name(), _ ->
      new Pair(target, place.heads(), new String[experts], new StoredTensor[experts], new StoredTensor[experts])
    );
    StoredTensor[] parts = isA ? pair.a : pair.b;
    if (parts[place.expert()] != null) {
      throw factors.error(name, " is " + parts[place.expert()].name() + " once more");
    }
    if (tensor.shape().length != 2 || Arrays.stream(tensor.shape()).anyMatch(n -> n < 1) || !tensor.type().isFloat()) {
      throw factors.error(
        name,
        ": " + tensor.type() + " of shape " + tensor.shapeText() + ", expected a matrix of real numbers"
      );
    }
    long rank = tensor.shape()[isA ? 0 : 1];
    if (rank != config.rank(module)) {
      throw factors.error(name, ": rank " + rank + ", expected " + config.rank(module) + " as " + CONFIG + " says");
    }
    parts[place.expert()] = tensor;
    pair.modules[place.expert()] = module;
  }

  private String architecture() {
    return base.metadata().architecture() + ", the architecture of " + base.source() + ",";
  }

  private void add(Pair pair) throws IOException {
    requireWhole(pair);
    float scale = config.scale(pair.modules[0]);
    for (String module : pair.modules) {
      if (config.scale(module) != scale) {
        throw factors.error(
          pair.a[0].name(),
          ": alpha differs from that of " + module + ", expected the same for all experts"
        );
      }
    }
    Tensor a = tensor(pair.a, 0);
    if (pair.target.name().equals(Factors.EMBEDDING)) {
      factors.add(pair.target, factors.transposed(tensor(pair.b, 0)), factors.transposed(a), scale);
      return;
    }
    long rows = pair.b[0].shape()[0];
    // Rows of another number are refused below. Heads of an odd size are not those of the base.
    if (pair.heads > 0 && rows == pair.target.dimension(1) && rows % (2L * pair.heads) != 0) {
      throw factors.error(
        pair.b[0].name(),
        ": " + rows + " rows, expected " + pair.heads + " heads of an even size as " + base.source() + " has it"
      );
    }
    boolean fits = pair.heads > 0 && rows % (2L * pair.heads) == 0;
    factors.add(pair.target, a, tensor(pair.b, fits ? pair.heads : 0), scale);
  }

  /** Checks that no factor is missing, and that those of all experts are alike. */
  private void requireWhole(Pair pair) throws FormatException {
    for (int expert = 0; expert < pair.a.length; expert++) {
      StoredTensor a = pair.a[expert];
      StoredTensor b = pair.b[expert];
      if (a == null && b == null) {
        throw new FormatException(file, "factors of expert " + expert + " of " + pair.target.name() + " are missing");
      }
      if (a == null || b == null) {
        throw factors.error((a == null ? b : a).name(), " is without its partner");
      }
      requireAlike(a, pair.a[0]);
      requireAlike(b, pair.b[0]);
    }
  }

  private void requireAlike(StoredTensor part, StoredTensor first) throws FormatException {
    if (part.type() != first.type() || !Arrays.equals(part.shape(), first.shape())) {
      throw factors.error(
        part.name(),
        ": " +
          part.type() +
          " of shape " +
          part.shapeText() +
          ", expected " +
          first.type() +
          " of shape " +
          first.shapeText() +
          " as " +
          first.name() +
          " has it"
      );
    }
  }

  /** Factors of all experts, as the base has its tensors. */
  private static Tensor tensor(StoredTensor[] parts, int heads) {
    long[] stored = parts[0].shape();
    long[] shape = parts.length == 1
      ? new long[] { stored[1], stored[0] }
      : new long[] { stored[1], stored[0], parts.length };
    return CheckpointNames.present(parts[0].name(), shape, List.of(parts), heads);
  }
}
