package dev.attar.cli;

import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.gguf.GgufModel;
import java.io.IOException;
import java.io.PrintStream;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;

/** Shows what is in a model: metadata, tensors, totals per type. */
@Command(
  name = "inspect",
  description = "Show a model's metadata and tensors.",
  footer = { "", "Without --metadata and --tensors, everything is shown.%n" }
)
final class InspectCommand implements Callable<Integer> {

  /** Bytes that are read at once for a digest. */
  private static final int DIGEST_BAND = 1 << 20;

  private final Console console;

  @Mixin
  private MessageOptions messages;

  @Mixin
  private ModelArgument argument;

  @Option(names = "--metadata", description = "Show the metadata only.")
  private boolean metadataOnly;

  @Option(names = "--tensors", description = "Show the tensors only.")
  private boolean tensorsOnly;

  @Option(names = "--digests", description = "Show the SHA-256 of each tensor's bytes, to compare two files.")
  private boolean digests;

  InspectCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException {
    try (Model model = Models.open(argument.path())) {
      ModelSummary summary = ModelSummary.of(model);
      if (messages.json()) {
        Json.print(console.out(), json(model, summary));
      } else {
        print(model, summary);
      }
    }
    return Main.SUCCESS;
  }

  private boolean showsMetadata() {
    return metadataOnly || !tensorsOnly;
  }

  private boolean showsTensors() {
    return tensorsOnly || !metadataOnly;
  }

  private void print(Model model, ModelSummary summary) throws IOException {
    PrintStream out = console.out();
    out.println(Text.escape(model.source().toString()));
    header(model, summary).print(out);
    if (showsMetadata()) {
      out.println();
      out.println("Metadata (" + model.metadata().values().size() + ")");
      metadata(model).print(out);
    }
    if (showsTensors()) {
      out.println();
      out.println("Tensors (" + summary.tensors() + ")");
      tensors(model).print(out);
      out.println();
      out.println("Totals");
      totals(summary).print(out);
    }
  }

  /** The form of a model in words: {@code GGUF 3, 2 files}. */
  private static String format(Model model) {
    if (model instanceof GgufModel gguf) {
      int files = gguf.parts().size();
      return "GGUF " + gguf.parts().getFirst().version() + (files == 1 ? "" : ", " + Text.plural(files, "file"));
    }
    return "safetensors";
  }

  private static Table header(Model model, ModelSummary summary) {
    Table table = new Table(Table.Align.LEFT, Table.Align.LEFT);
    table.row("format", format(model));
    if (!model.metadata().architecture().isEmpty()) {
      table.row("architecture", Text.escape(model.metadata().architecture()));
    }
    model
      .metadata()
      .string("general.name")
      .ifPresent(name -> table.row("name", Text.escape(name)));
    return table
      .row("size", Text.size(summary.bytes()) + " of tensors")
      .row("parameters", Text.count(summary.parameters()))
      .row("bits per weight", Text.bitsPerWeight(summary.bytes(), summary.parameters()));
  }

  private static Table metadata(Model model) {
    Table table = new Table(Table.Align.LEFT, Table.Align.LEFT, Table.Align.LEFT);
    model
      .metadata()
      .values()
      .forEach((key, value) -> table.row(Text.escape(key), MetadataText.type(value), MetadataText.brief(value)));
    return table;
  }

  private Table tensors(Model model) throws IOException {
    Table table = new Table(Table.Align.LEFT, Table.Align.LEFT, Table.Align.LEFT, Table.Align.RIGHT, Table.Align.LEFT);
    table.row("name", "type", "shape", "bytes", digests ? "SHA-256" : "");
    for (Tensor tensor : model.tensors()) {
      TensorInfo info = tensor.info();
      table.row(
        Text.escape(info.name()),
        info.type().toString(),
        info.shapeText(),
        Long.toString(info.bytes()),
        digests ? digest(tensor) : ""
      );
    }
    return table;
  }

  /** The SHA-256 of a tensor's bytes as they are encoded, in hexadecimal. */
  private static String digest(Tensor tensor) throws IOException {
    MessageDigest sha256 = sha256();
    long rowBytes = Math.max(1, tensor.info().rowBytes());
    byte[] band = new byte[Math.toIntExact(Math.max(rowBytes, (DIGEST_BAND / rowBytes) * rowBytes))];
    int bandRows = (int) (band.length / rowBytes);
    for (long row = 0; row < tensor.info().rows(); row += bandRows) {
      int rows = (int) Math.min(bandRows, tensor.info().rows() - row);
      tensor.readRows(row, rows, band, 0);
      sha256.update(band, 0, (int) (rows * rowBytes));
    }
    return HexFormat.of().formatHex(sha256.digest());
  }

  private static MessageDigest sha256() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new AssertionError("every Java has SHA-256", e);
    }
  }

  private static Table totals(ModelSummary summary) {
    Table.Align right = Table.Align.RIGHT;
    Table table = new Table(Table.Align.LEFT, right, right, right, right);
    table.row("type", "tensors", "parameters", "bytes", "bits per weight");
    summary
      .byType()
      .forEach((type, total) ->
        table.row(
          type.toString(),
          Long.toString(total.tensors()),
          Long.toString(total.parameters()),
          Long.toString(total.bytes()),
          Text.bitsPerWeight(total.bytes(), total.parameters())
        )
      );
    return table.row(
      "all",
      Long.toString(summary.tensors()),
      Long.toString(summary.parameters()),
      Long.toString(summary.bytes()),
      Text.bitsPerWeight(summary.bytes(), summary.parameters())
    );
  }

  private Map<String, Object> json(Model model, ModelSummary summary) throws IOException {
    Map<String, Object> result = new LinkedHashMap<>();
    result.put("model", model.source().toString());
    result.put("format", format(model));
    result.put("architecture", model.metadata().architecture());
    result.put("parameters", summary.parameters());
    result.put("bytes", summary.bytes());
    result.put("bits_per_weight", summary.bitsPerWeight());
    if (showsMetadata()) {
      Map<String, Object> metadata = new LinkedHashMap<>();
      model
        .metadata()
        .values()
        .forEach((key, value) -> metadata.put(key, json(value)));
      result.put("metadata", metadata);
    }
    if (showsTensors()) {
      List<Object> tensors = new ArrayList<>();
      for (Tensor tensor : model.tensors()) {
        Map<String, Object> entry = json(tensor.info());
        if (digests) {
          entry.put("sha256", digest(tensor));
        }
        tensors.add(entry);
      }
      result.put("tensors", tensors);
      Map<String, Object> types = new LinkedHashMap<>();
      for (Map.Entry<TensorType, ModelSummary.Total> entry : summary.byType().entrySet()) {
        types.put(entry.getKey().toString(), entry.getValue());
      }
      result.put("types", types);
    }
    return result;
  }

  private static Map<String, Object> json(MetadataValue value) {
    Map<String, Object> entry = new LinkedHashMap<>();
    entry.put("type", value.type().name().toLowerCase(Locale.ROOT));
    if (value.elementType() != null) {
      entry.put("element_type", value.elementType().name().toLowerCase(Locale.ROOT));
    }
    entry.put("value", MetadataText.json(value));
    return entry;
  }

  private static Map<String, Object> json(TensorInfo info) {
    Map<String, Object> tensor = new LinkedHashMap<>();
    tensor.put("name", info.name());
    tensor.put("type", info.type().toString());
    tensor.put("shape", info.shape());
    tensor.put("bytes", info.bytes());
    return tensor;
  }
}
