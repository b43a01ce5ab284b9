package dev.attar.formats.safetensors;

import com.fasterxml.jackson.databind.JsonNode;
import dev.attar.formats.FormatException;
import dev.attar.formats.json.JsonFiles;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.stream.Stream;

/**
 * The tensors of a checkpoint: one safetensors file, or the shards that {@code model.safetensors.index.json} lists. Closing it
 * unmaps the files.
 */
public final class SafetensorsCheckpoint implements AutoCloseable {

  private final List<SafetensorsFile> files;
  private final List<StoredTensor> tensors;

  private SafetensorsCheckpoint(List<SafetensorsFile> files) throws FormatException {
    this.files = files;
    this.tensors = files
      .stream()
      .flatMap(file -> file.tensors().stream())
      .toList();
    Map<String, Path> seen = new HashMap<>();
    for (StoredTensor tensor : tensors) {
      Path other = seen.putIfAbsent(tensor.name(), tensor.file());
      if (other != null) {
        throw new FormatException(tensor.file(), "tensor " + tensor.name() + " is in " + other.getFileName() + " too");
      }
    }
  }

  /**
   * Opens a checkpoint.
   *
   * @param path a safetensors file, or a directory with {@code model*.safetensors} and, if there is more than one, their index
   * @throws FormatException if a file is not in order, the index names a file or tensor that is not there or one outside the
   *     directory, or there are no safetensors files
   * @throws IOException if a file cannot be read
   */
  public static SafetensorsCheckpoint open(Path path) throws IOException {
    if (!Files.isDirectory(path)) {
      return open(List.of(path), Map.of());
    }
    Path index = path.resolve(SafetensorsShard.INDEX);
    if (Files.isRegularFile(index)) {
      return openIndexed(path, index);
    }
    List<Path> parts;
    try (Stream<Path> entries = Files.list(path)) {
      parts = entries
        .filter(entry -> entry.getFileName().toString().startsWith("model"))
        .filter(entry -> entry.getFileName().toString().endsWith(".safetensors"))
        .sorted()
        .toList();
    }
    if (parts.isEmpty()) {
      boolean pickled = Files.exists(path.resolve("pytorch_model.bin"));
      pickled |= Files.exists(path.resolve("pytorch_model.bin.index.json"));
      String found = pickled ? "only pytorch_model.bin, which is not read" : "no model*.safetensors";
      throw new FormatException(path, "weights", found, "model.safetensors");
    }
    return open(parts, Map.of());
  }

  /** The files, in the order of their names. */
  public List<Path> files() {
    return files.stream().map(SafetensorsFile::path).toList();
  }

  /** The tensors, file after file in the order of the files' names, by name within each. Names are unique. */
  public List<StoredTensor> tensors() {
    return tensors;
  }

  @Override
  public void close() {
    files.forEach(SafetensorsFile::close);
  }

  private static SafetensorsCheckpoint openIndexed(Path directory, Path index) throws IOException {
    JsonNode weightMap = JsonFiles.object(index).path("weight_map");
    if (!weightMap.isObject() || weightMap.isEmpty()) {
      throw new FormatException(index, "weight_map", JsonFiles.kind(weightMap), "an object: tensor name to file name");
    }
    Map<Path, Set<String>> expected = new TreeMap<>();
    for (Map.Entry<String, JsonNode> entry : weightMap.properties()) {
      Path shard = shard(directory, index, entry.getKey(), entry.getValue());
      expected.computeIfAbsent(shard, _ -> new TreeSet<>()).add(entry.getKey());
    }
    return open(List.copyOf(expected.keySet()), expected);
  }

  private static Path shard(Path directory, Path index, String tensor, JsonNode value) throws FormatException {
    String place = "weight_map of " + tensor;
    String name = value.isTextual() ? value.textValue() : "";
    Path shard;
    try {
      shard = Path.of(name);
    } catch (InvalidPathException _) {
      throw new FormatException(index, place, value.toString(), "a file name");
    }
    boolean up = false;
    for (Path part : shard) {
      up |= part.toString().equals("..");
    }
    if (name.isEmpty() || up || shard.isAbsolute() || shard.getRoot() != null) {
      throw new FormatException(index, place, value.toString(), "a file in the same directory");
    }
    Path file = directory.resolve(shard.normalize());
    if (!Files.isRegularFile(file)) {
      throw new FormatException(index, place + " names the shard " + name + ", which is missing");
    }
    return file;
  }

  private static SafetensorsCheckpoint open(List<Path> paths, Map<Path, Set<String>> expected) throws IOException {
    List<SafetensorsFile> files = new ArrayList<>();
    try {
      for (Path path : paths) {
        SafetensorsFile file = SafetensorsFile.open(path);
        files.add(file);
        if (expected.containsKey(path)) {
          checkShard(file, expected.get(path));
        }
      }
      return new SafetensorsCheckpoint(List.copyOf(files));
    } catch (IOException | RuntimeException e) {
      files.forEach(SafetensorsFile::close);
      throw e;
    }
  }

  private static void checkShard(SafetensorsFile file, Set<String> expected) throws FormatException {
    Set<String> missing = new TreeSet<>(expected);
    for (StoredTensor tensor : file.tensors()) {
      if (!missing.remove(tensor.name())) {
        throw new FormatException(
          file.path(),
          "tensor " + tensor.name() + " is not where " + SafetensorsShard.INDEX + " says"
        );
      }
    }
    if (!missing.isEmpty()) {
      throw new FormatException(
        file.path(),
        "tensor " + missing.iterator().next() + " is missing, though " + SafetensorsShard.INDEX + " names it"
      );
    }
  }
}
