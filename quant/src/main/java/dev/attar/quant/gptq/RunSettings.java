package dev.attar.quant.gptq;

import dev.attar.formats.FileDigest;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Version;
import dev.attar.quant.FileType;
import dev.attar.quant.QuantizeOptions;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.stream.Collectors;

/** All that the result of a run depends on, by name: what a resumed run must have in common with the interrupted one. */
final class RunSettings {

  private static final String QUANTIZED_TO = "attar.quantize.type";

  private final GptqOptions options;
  private final Map<String, String> values;

  private RunSettings(GptqOptions options, Map<String, String> values) {
    this.options = options;
    this.values = values;
  }

  static RunSettings of(
    Model model,
    QuantizeOptions quantize,
    Optional<Budget> budget,
    GptqOptions options,
    boolean sequential
  ) throws IOException {
    Map<String, String> values = new LinkedHashMap<>();
    values.put("version", Version.current());
    values.put("model", model.source().toAbsolutePath().normalize().toString());
    for (Path file : model.files()) {
      values.put("file " + file.getFileName(), Files.size(file) + " bytes of " + Files.getLastModifiedTime(file));
    }
    for (int i = 0; i < options.texts().size(); i++) {
      Path text = options.texts().get(i);
      values.put("text " + (i + 1), text.getFileName() + ", SHA-256 " + FileDigest.sha256(List.of(text)));
    }
    values.put("tokens", String.valueOf(options.tokens()));
    values.put("context", String.valueOf(options.context()));
    values.put("sequential", String.valueOf(sequential));
    values.put("method", options.roundOnly() ? "rtn" : "gptq");
    values.put("size", budget.map(b -> b.target().toString()).orElse("of the type"));
    values.put("effort", String.valueOf(options.effort().level()));
    values.put("damping", String.valueOf(options.damping()));
    values.put("type", quantize.fileType().name());
    values.put("pure", String.valueOf(quantize.pure()));
    values.put(
      "chosen types",
      quantize.chosen() == null ? "none" : new TreeMap<>(quantize.chosen().types()).toString()
    );
    values.put("tensor types", quantize.tensorTypes().toString());
    values.put("output tensor type", String.valueOf(quantize.outputTensorType()));
    values.put("token embedding type", String.valueOf(quantize.tokenEmbeddingType()));
    values.put("leave output tensor", String.valueOf(quantize.leaveOutputTensor()));
    values.put("requantize", String.valueOf(quantize.allowRequantize()));
    values.put(
      "importance",
      quantize.importance() == null ? "measured" : FileDigest.sha256(List.of(quantize.importance().path()))
    );
    options
      .pruning()
      .ifPresent(pruning -> pruning.settings().forEach((name, value) -> values.put("pruning " + name, value)));
    return new RunSettings(options, values);
  }

  Map<String, String> values() {
    return values;
  }

  /** The same in one line, for the files of statistics. */
  String identity() {
    return values
      .entrySet()
      .stream()
      .map(entry -> entry.getKey() + "=" + entry.getValue())
      .collect(Collectors.joining("; "));
  }

  /** The metadata of the result: what was planned, and how GPTQ worked. */
  Metadata metadata(Metadata planned, long tokens, boolean sequential, List<TensorReport> reports) {
    Map<String, MetadataValue> entries = new LinkedHashMap<>(planned.values());
    boolean quantized = planned
      .string(QUANTIZED_TO)
      .flatMap(FileType::byName)
      .map(type -> type.defaultType().isQuantized())
      .orElse(true);
    entries.put("attar.method", MetadataValue.string(quantized ? "gptq" : "prune"));
    if (!quantized) {
      entries.remove(QUANTIZED_TO);
    }
    options
      .pruning()
      .ifPresent(pruning ->
        pruning.settings().forEach((name, value) -> entries.put("attar.prune." + name, MetadataValue.string(value)))
      );
    entries.keySet().removeIf(key -> key.startsWith("attar.gptq."));
    List<String> texts = options
      .texts()
      .stream()
      .map(text -> text.getFileName().toString())
      .toList();
    entries.put("attar.gptq.texts", MetadataValue.strings(texts));
    entries.put("attar.gptq.tokens", MetadataValue.uint32(tokens));
    entries.put("attar.gptq.context", MetadataValue.uint32(options.context()));
    entries.put("attar.gptq.sequential", MetadataValue.bool(sequential));
    entries.put("attar.gptq.effort", MetadataValue.uint32(options.effort().level()));
    entries.put("attar.gptq.damping", MetadataValue.float32((float) options.damping()));
    // Always there, so that the size of the file does not depend on what happens.
    double most = reports.stream().mapToDouble(TensorReport::damping).max().orElse(options.damping());
    entries.put("attar.gptq.most_damping", MetadataValue.float32((float) most));
    return Metadata.of(entries);
  }
}
