package dev.attar.formats;

import dev.attar.formats.architecture.HuggingFaceModel;
import dev.attar.formats.gguf.GgufModel;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.Locale;
import java.util.stream.Stream;

/** Opens a checkpoint of whatever kind. */
public final class Models {

  private static final String ACCEPTED =
    "a GGUF file, a folder with config.json and *.safetensors, or a .safetensors file beside its config.json";

  private Models() {}

  /** The kinds of checkpoint. */
  private enum Kind {
    GGUF,
    HUGGING_FACE
  }

  /**
   * Opens a checkpoint: a GGUF file (known by its first bytes, whatever its name; a split model by its first part), a Hugging Face
   * folder, or a {@code .safetensors} file beside its {@code config.json}.
   *
   * @throws FormatException if it is something else, or damaged
   * @throws IOException if it is missing or cannot be read
   */
  public static Model open(Path path) throws IOException {
    return switch (kind(path)) {
      case GGUF -> GgufModel.open(path);
      case HUGGING_FACE -> HuggingFaceModel.open(path);
    };
  }

  private static Kind kind(Path path) throws IOException {
    if (Files.notExists(path)) {
      throw new NoSuchFileException(path.toString(), null, "no such file or folder, expected " + ACCEPTED);
    }
    if (Files.isDirectory(path)) {
      checkFolder(path);
      return Kind.HUGGING_FACE;
    }
    if (!Files.isRegularFile(path)) {
      throw new FormatException(path, "not a regular file, expected " + ACCEPTED);
    }
    byte[] start;
    try (InputStream in = Files.newInputStream(path)) {
      start = in.readNBytes(16);
    }
    if (new String(start, StandardCharsets.ISO_8859_1).startsWith("GGUF")) {
      return Kind.GGUF;
    }
    if (path.getFileName().toString().toLowerCase(Locale.ROOT).endsWith(".safetensors")) {
      return Kind.HUGGING_FACE;
    }
    throw new FormatException(path, "byte 0", found(start), ACCEPTED);
  }

  private static void checkFolder(Path folder) throws IOException {
    if (Files.exists(folder.resolve("config.json"))) {
      return;
    }
    try (Stream<Path> files = Files.list(folder)) {
      String found = files
        .map(file -> file.getFileName().toString())
        .filter(name -> name.endsWith(".gguf"))
        .sorted()
        .findFirst()
        .map(name -> "a folder with GGUF files (name one of them, for instance " + Utf8.quote(name) + ")")
        .orElse("a folder without config.json");
      throw new FormatException(folder, found + ", expected " + ACCEPTED);
    }
  }

  /** What a file that is not accepted seems to be, by its first bytes. */
  private static String found(byte[] start) {
    String text = new String(start, StandardCharsets.ISO_8859_1);
    if (text.isEmpty()) {
      return "an empty file";
    }
    if (text.startsWith("PK\u0003\u0004") || text.startsWith("\u0080\u0002")) {
      return "a PyTorch checkpoint or other archive (convert it to safetensors first)";
    }
    if (text.startsWith("lmgg") || text.startsWith("fmgg") || text.startsWith("tjgg")) {
      return "a GGML file older than GGUF";
    }
    if (text.startsWith("{\"", 8)) {
      return "a safetensors file without that ending";
    }
    if (text.startsWith("\u0089HDF")) {
      return "an HDF5 file";
    }
    boolean binary = text.chars().anyMatch(c -> c < ' ' && c != '\t' && c != '\n' && c != '\r');
    return binary
      ? "the bytes " + HexFormat.ofDelimiter(" ").formatHex(start)
      : "the text " + Utf8.quote(Utf8.decode(start));
  }
}
