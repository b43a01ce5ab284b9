package dev.attar.cli;

import dev.attar.quant.FileType;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Collectors;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;

/** Shows the types that {@code quantize -t} knows. */
final class FileTypes {

  private FileTypes() {}

  /** Prints all types with their bits per weight. */
  static void print(Console console, boolean json) throws IOException {
    if (json) {
      List<Object> types = new ArrayList<>();
      for (FileType type : FileType.values()) {
        Map<String, Object> entry = new LinkedHashMap<>();
        entry.put("name", type.name());
        if (type != FileType.COPY) {
          entry.put("bits_per_weight", type.defaultType().bitsPerWeight());
        }
        entry.put("needs_imatrix", type.importanceRequired());
        entry.put("description", type.description());
        types.add(entry);
      }
      Json.print(console.out(), types);
      return;
    }
    Table table = new Table(Table.Align.LEFT, Table.Align.RIGHT, Table.Align.LEFT);
    table.row("type", "bits per weight", "");
    for (FileType type : FileType.values()) {
      String needs = type.importanceRequired() ? " (needs --imatrix)" : "";
      table.row(type.name(), bits(type), type.description() + needs);
    }
    table.print(console.out());
    console.out().println();
    console.out().println("Bits per weight are those of most tensors; mixtures give some tensors more.");
  }

  /**
   * The type that a user wants of a command that has no importance.
   *
   * @param word what was given as {@code --type}
   * @param verb what the command does
   * @throws ParameterException if it is unknown, or needs importance
   */
  static FileType withoutImportance(CommandSpec command, String word, String verb) {
    FileType found = FileType.byName(word).orElseThrow(() -> Usage.error(command, unknown(word)));
    if (found.importanceRequired()) {
      throw Usage.error(
        command,
        "--type " + word + " needs an importance matrix: " + verb + " first, then attar quantize --calibration TEXT"
      );
    }
    return found;
  }

  /** Says that a type is unknown and which there are. */
  static String unknown(String word) {
    String known = Arrays.stream(FileType.values())
      .map(type -> type == FileType.COPY ? type.name() : type + " (" + bits(type) + ")")
      .collect(Collectors.joining(", "));
    return "unknown type '" + word + "', known with their bits per weight are " + known;
  }

  private static String bits(FileType type) {
    return type == FileType.COPY ? "" : String.format(Locale.ROOT, "%.2f", type.defaultType().bitsPerWeight());
  }
}
