package dev.attar.cli;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;

/**
 * A model that is measured, as the user named it: {@code MODEL}, or {@code MODEL+ADAPTER} for one with LoRA adapters applied.
 *
 * @param path the model
 * @param adapters GGUF files
 */
record MeasuredModel(Path path, List<Path> adapters) {
  private static final char PLUS = '+';

  MeasuredModel {
    adapters = List.copyOf(adapters);
  }

  /** What a name stands for. A file or folder that has a plus in its name is meant before one that has not. */
  static MeasuredModel of(Path given) {
    List<Path> parts = parts(given.toString());
    return new MeasuredModel(parts.getFirst(), parts.subList(1, parts.size()));
  }

  /** The longest parts that exist; the rest, if there is one that does not, is the last. */
  private static List<Path> parts(String text) {
    for (int end = text.length(); end > 0; end = text.lastIndexOf(PLUS, end - 1)) {
      Path path = Path.of(text.substring(0, end));
      if (Files.exists(path) && end < text.length() - 1) {
        List<Path> parts = new ArrayList<>(List.of(path));
        parts.addAll(parts(text.substring(end + 1)));
        return parts;
      }
      if (Files.exists(path) && end == text.length()) {
        return List.of(path);
      }
    }
    return List.of(Path.of(text));
  }

  /** What it is called: {@code model+adapter}. */
  String name() {
    return (
      ModelArgument.name(path) +
      adapters
        .stream()
        .map(adapter -> PLUS + ModelArgument.name(adapter))
        .collect(Collectors.joining())
    );
  }

  /** Whether another is the same: the same files. */
  boolean isSame(MeasuredModel other) throws IOException {
    if (adapters.size() != other.adapters.size() || !isSameFile(path, other.path)) {
      return false;
    }
    for (int i = 0; i < adapters.size(); i++) {
      if (!isSameFile(adapters.get(i), other.adapters.get(i))) {
        return false;
      }
    }
    return true;
  }

  private static boolean isSameFile(Path a, Path b) throws IOException {
    return Files.exists(a) && Files.exists(b) && Files.isSameFile(a, b);
  }

  /** As the user named it. */
  @Override
  public String toString() {
    return (
      path +
      adapters
        .stream()
        .map(adapter -> PLUS + adapter.toString())
        .collect(Collectors.joining())
    );
  }
}
