package dev.attar.quant;

import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.Version;
import dev.attar.formats.architecture.OutputType;
import dev.attar.formats.gguf.GgufLayout;
import dev.attar.formats.imatrix.ImportanceMatrix;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Makes plans for one model. */
final class Planner {

  /** The longest row that is worked on, in values: 32 MiB in single precision. No model comes near it. */
  private static final long LONGEST_ROW = 1L << 23;

  /** The version of the encodings that {@code general.quantization_version} names. */
  private static final int QUANTIZATION_VERSION = 2;

  private final Model model;
  private final List<String> problems = new ArrayList<>();

  Planner(Model model) {
    this.model = model;
  }

  QuantizationPlan quantize(QuantizeOptions options) {
    List<TensorInfo> sources = model.tensors().stream().map(Tensor::info).sorted(TensorOrder.COMPARATOR).toList();
    Recipe recipe = new Recipe(options, Hyperparameters.of(model.metadata()), sources);
    List<TensorPlan> tensors = new ArrayList<>();
    for (TensorInfo source : sources) {
      tensors.add(plan(source, recipe, options));
    }
    return finish(metadata(options, tensors), tensors, options.importance());
  }

  QuantizationPlan convert(OutputType outputType) {
    OutputType resolved = outputType.resolve(model);
    List<TensorPlan> tensors = new ArrayList<>();
    for (Tensor tensor : model.tensors()) {
      TensorInfo source = tensor.info();
      TensorType target = writable(source, source.type().isFloat() ? resolved.typeOf(source) : source.type());
      if (target != source.type() && target.isQuantized() && source.type().isQuantized()) {
        problems.add(source.name() + ": is quantized to " + source.type() + " already");
      }
      tensors.add(new TensorPlan(source, target, false, ""));
    }
    Entries entries = new Entries(
      model.metadata().with("general.file_type", MetadataValue.uint32(resolved.fileType()))
    );
    entries.removeSplit();
    entries.putOrigin(model);
    return finish(entries.build(), tensors, null);
  }

  private QuantizationPlan finish(Metadata metadata, List<TensorPlan> tensors, ImportanceMatrix importance) {
    long fileBytes = 0;
    try {
      fileBytes = GgufLayout.of(metadata, tensors.stream().map(TensorPlan::info).toList()).fileBytes();
    } catch (IllegalArgumentException e) {
      problems.add("cannot be written as GGUF: " + e.getMessage());
    }
    return new QuantizationPlan(model.source(), metadata, tensors, importance, fileBytes, problems);
  }

  private TensorPlan plan(TensorInfo source, Recipe recipe, QuantizeOptions options) {
    TensorType target = source.type();
    String note = "";
    boolean allowed = recipe.allows(source);
    if (allowed) {
      try {
        Recipe.Choice choice = recipe.choose(source);
        target = choice.type();
        if (target != choice.wanted()) {
          note = "rows of " + source.rowLength() + " do not fit " + choice.wanted();
        }
      } catch (QuantizationException e) {
        problems.add(e.getMessage());
      }
    }
    target = writable(source, target);
    boolean changes = target != source.type();
    boolean importance = changes && hasImportance(source, options.importance());
    checkImportance(source, target, importance, allowed && recipe.needsImportance(source, target), changes, options);
    if (changes && source.type().isQuantized() && !options.allowRequantize()) {
      problems.add(
        source.name() +
          ": is quantized to " +
          source.type() +
          " already; to quantize it again, with more loss, say --allow-requantize"
      );
    }
    return new TensorPlan(source, target, importance, note);
  }

  /** The target if the tensor can be written as that; otherwise its own type, and a problem is noted. */
  private TensorType writable(TensorInfo source, TensorType target) {
    String problem = null;
    if (source.rowLength() > LONGEST_ROW) {
      problem = "rows of " + source.rowLength() + " values, at most " + LONGEST_ROW + " are supported";
    } else if (source.rowLength() % target.blockLength() != 0) {
      problem = "rows of " + source.rowLength() + " values, " + target + " needs a multiple of " + target.blockLength();
    } else if (target != source.type() && !Encoders.isWritable(target)) {
      problem = target + " is not a type that can be written";
    } else if (target != source.type() && !source.type().isFloat()) {
      problem = "holds integers (" + source.type() + "), which cannot become " + target;
    }
    if (problem != null) {
      problems.add(source.name() + ": " + problem);
      return source.type();
    }
    return target;
  }

  private void checkImportance(
    TensorInfo source,
    TensorType target,
    boolean importance,
    boolean byRule,
    boolean changes,
    QuantizeOptions options
  ) {
    boolean needed = byRule || (changes && encoderNeedsImportance(target));
    if (needed && options.importance() == null) {
      problems.add(source.name() + ": " + target + " requires an importance matrix (--imatrix)");
    } else if (needed && changes && !importance) {
      problems.add(source.name() + ": has no importance in the matrix, which " + target + " requires");
    }
  }

  /** Types whose search for the best code is driven by importance; ggml aborts without it, whatever the tensor. */
  private static boolean encoderNeedsImportance(TensorType type) {
    return type == TensorType.IQ1_S || type == TensorType.IQ2_XXS || type == TensorType.IQ2_XS;
  }

  private boolean hasImportance(TensorInfo tensor, ImportanceMatrix matrix) {
    if (matrix == null || matrix.columns(tensor.name()).isEmpty()) {
      return false;
    }
    int columns = matrix.columns(tensor.name()).getAsInt();
    long expected = tensor.elements() == 0 ? 0 : tensor.rowLength() * (tensor.rows() / tensor.dimension(1));
    // Matrices measured on another form of the model often hold embeddings of another shape; those are passed over.
    if (columns != expected && TensorRole.of(tensor.name()) != TensorRole.TOKEN_EMBEDDING) {
      problems.add(
        tensor.name() + ": " + columns + " values of importance in " + matrix.path() + ", expected " + expected
      );
    }
    return columns == expected;
  }

  private Metadata metadata(QuantizeOptions options, List<TensorPlan> tensors) {
    Entries entries = new Entries(model.metadata());
    entries.put("general.quantization_version", MetadataValue.uint32(QUANTIZATION_VERSION));
    entries.put("general.file_type", MetadataValue.uint32(fileType(options, tensors)));
    entries.removeSplit();
    ImportanceMatrix importance = options.importance();
    if (importance != null) {
      importance.quantizeMetadata(options.importanceFile()).forEach(entries::put);
    }
    // What an earlier run wrote about itself is no longer true.
    entries.removeAll("attar.quantize.");
    entries.putOrigin(model);
    entries.put("attar.method", MetadataValue.string("rtn"));
    if (options.chosen() == null) {
      entries.put("attar.quantize.type", MetadataValue.string(options.fileType().name()));
    } else {
      options.chosen().metadata().forEach(entries::put);
    }
    if (options.pure()) {
      entries.put("attar.quantize.pure", MetadataValue.bool(true));
    }
    if (!options.tensorTypes().isEmpty()) {
      List<String> rules = options.tensorTypes().stream().map(TensorTypeRule::toString).toList();
      entries.put("attar.quantize.tensor_types", MetadataValue.strings(rules));
    }
    if (options.outputTensorType() != null) {
      entries.put("attar.quantize.output_tensor_type", MetadataValue.string(options.outputTensorType().name()));
    }
    if (options.tokenEmbeddingType() != null) {
      entries.put("attar.quantize.token_embedding_type", MetadataValue.string(options.tokenEmbeddingType().name()));
    }
    if (options.leaveOutputTensor()) {
      entries.put("attar.quantize.leave_output_tensor", MetadataValue.bool(true));
    }
    return entries.build();
  }

  private long fileType(QuantizeOptions options, List<TensorPlan> tensors) {
    if (options.fileType() != FileType.COPY) {
      return options.fileType().id();
    }
    return model
      .metadata()
      .integer("general.file_type")
      .orElseGet(() -> FileType.guess(mostFrequent(tensors)));
  }

  /** The type of most tensors; among equals the one that reached the number first. */
  private static TensorType mostFrequent(List<TensorPlan> tensors) {
    Map<TensorType, Integer> counts = new EnumMap<>(TensorType.class);
    TensorType best = TensorType.F32;
    int most = 0;
    for (TensorPlan tensor : tensors) {
      int count = counts.merge(tensor.target(), 1, Integer::sum);
      if (count > most) {
        most = count;
        best = tensor.target();
      }
    }
    return best;
  }

  /** Metadata under construction. A key that is put goes to the end, as in ggml. */
  private static final class Entries {

    private final Map<String, MetadataValue> values;

    Entries(Metadata metadata) {
      values = new LinkedHashMap<>(metadata.values());
    }

    void put(String key, MetadataValue value) {
      values.remove(key);
      values.put(key, value);
    }

    /** Removes what a part of a split model says about itself. */
    void removeSplit() {
      values.keySet().removeAll(List.of("split.no", "split.count", "split.tensors.count"));
    }

    /** Says what wrote the file, and from what. */
    void putOrigin(Model model) {
      Path source = model.source().toAbsolutePath().normalize().getFileName();
      put("attar.version", MetadataValue.string(Version.current()));
      put("attar.source", MetadataValue.string(source == null ? "" : source.toString()));
    }

    void removeAll(String prefix) {
      values.keySet().removeIf(key -> key.startsWith(prefix));
    }

    Metadata build() {
      return Metadata.of(values);
    }
  }
}
