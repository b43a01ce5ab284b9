package dev.attar.formats.tokenizer;

import dev.attar.formats.FormatException;
import java.io.IOException;
import java.nio.charset.CharacterCodingException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/** The merges of a {@code merges.txt}: two parts per line, in order; a first line that begins with {@code #} is a comment. */
final class Merges {

  private Merges() {}

  /** Reads the file of a directory; empty if there is none. Lines without exactly two parts do not count. */
  static List<String> read(Path directory) throws IOException {
    Path file = directory.resolve("merges.txt");
    List<String> merges = new ArrayList<>();
    if (!Files.isRegularFile(file)) {
      return merges;
    }
    List<String> lines;
    try {
      lines = Files.readAllLines(file);
    } catch (CharacterCodingException _) {
      throw new FormatException(file, "not UTF-8");
    }
    for (int i = 0; i < lines.size(); i++) {
      String[] parts = lines.get(i).strip().split("\\s+", -1);
      if (parts.length == 2 && !(i == 0 && parts[0].startsWith("#"))) {
        merges.add(parts[0] + " " + parts[1]);
      }
    }
    return merges;
  }
}
