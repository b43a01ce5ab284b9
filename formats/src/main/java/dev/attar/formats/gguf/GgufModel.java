package dev.attar.formats.gguf;

import dev.attar.formats.FormatException;
import dev.attar.formats.MappedFile;
import dev.attar.formats.MappedTensor;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.Utf8;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.OptionalLong;
import java.util.Set;

/**
 * A model in a GGUF file of version 2 or 3, little-endian, memory-mapped; or in several, split as llama.cpp's {@code gguf-split}
 * does and opened by the first ({@code name-00001-of-00003.gguf}). The metadata is that of the first file without the {@code split.*}
 * keys; the tensors are those of all files in order.
 */
public final class GgufModel implements Model {

  private static final String SPLIT_NO = "split.no";
  private static final String SPLIT_COUNT = "split.count";
  private static final String SPLIT_TENSORS = "split.tensors.count";
  private static final int MAX_PARTS = 0xFFFF; // the count is a 16-bit number

  /**
   * One file of the model.
   *
   * @param path the file
   * @param version GGUF's version, 2 or 3
   * @param alignment of tensors, in bytes
   * @param dataOffset where the tensors' bytes begin, from the start of the file
   * @param size of the file in bytes
   * @param tensors how many it holds
   */
  public record Part(Path path, int version, long alignment, long dataOffset, long size, int tensors) {}

  private final Path source;
  private final Metadata metadata;
  private final List<MappedFile> files;
  private final List<Part> parts;
  private final List<MappedTensor> tensors;

  private GgufModel(
    Path source,
    Metadata metadata,
    List<MappedFile> files,
    List<Part> parts,
    List<MappedTensor> tensors
  ) {
    this.source = source;
    this.metadata = metadata;
    this.files = files;
    this.parts = List.copyOf(parts);
    this.tensors = List.copyOf(tensors);
  }

  /**
   * Opens a model and checks everything but the tensors' values.
   *
   * @param file the file, or the first of a split model
   * @throws FormatException if it is not a GGUF file of a version that is read here, is damaged, or is a later part of a split model
   * @throws IOException if it or another part is missing or cannot be read
   */
  public static GgufModel open(Path file) throws IOException {
    List<MappedFile> files = new ArrayList<>();
    try {
      return open(file, files);
    } catch (IOException | RuntimeException e) {
      files.forEach(MappedFile::close);
      throw e;
    }
  }

  private static GgufModel open(Path first, List<MappedFile> files) throws IOException {
    List<Part> parts = new ArrayList<>();
    List<MappedTensor> tensors = new ArrayList<>();
    Set<String> names = new HashSet<>();
    Metadata metadata = openPart(first, files, parts, tensors, names);
    long count = splitNumber(first, metadata, SPLIT_COUNT);
    if (count > 1) {
      openOtherParts(first, metadata, count, files, parts, tensors, names);
    }
    metadata = metadata.without(SPLIT_NO).without(SPLIT_COUNT).without(SPLIT_TENSORS);
    return new GgufModel(first, metadata, files, parts, tensors);
  }

  private static void openOtherParts(
    Path first,
    Metadata metadata,
    long count,
    List<MappedFile> files,
    List<Part> parts,
    List<MappedTensor> tensors,
    Set<String> names
  ) throws IOException {
    if (count > MAX_PARTS) {
      throw new FormatException(first, "key " + SPLIT_COUNT, count + " parts", "at most " + MAX_PARTS);
    }
    long number = splitNumber(first, metadata, SPLIT_NO);
    String fileName = first.getFileName().toString();
    String ending = ending(number, count);
    boolean named = fileName.endsWith(ending) && fileName.length() > ending.length();
    String stem = named ? fileName.substring(0, fileName.length() - ending.length()) : "<name>";
    if (number != 0) {
      String found = "part " + (number + 1) + " of " + count;
      throw new FormatException(first, "key " + SPLIT_NO, found, "the first part, " + stem + ending(0, count));
    }
    if (!named) {
      throw new FormatException(first, "the first of " + count + " parts must be named " + stem + ending);
    }
    for (int i = 1; i < count; i++) {
      Path path = first.resolveSibling(stem + ending(i, count));
      if (!Files.exists(path)) {
        throw new NoSuchFileException(path.toString(), null, "part " + (i + 1) + " of " + count + " is missing");
      }
      Metadata own = openPart(path, files, parts, tensors, names);
      if (splitNumber(path, own, SPLIT_NO) != i || splitNumber(path, own, SPLIT_COUNT) != count) {
        String found = "part " + (splitNumber(path, own, SPLIT_NO) + 1) + " of " + splitNumber(path, own, SPLIT_COUNT);
        throw new FormatException(path, "keys split.*", found, "part " + (i + 1) + " of " + count);
      }
    }
    if (metadata.get(SPLIT_TENSORS).isPresent() && splitNumber(first, metadata, SPLIT_TENSORS) != tensors.size()) {
      String expected = splitNumber(first, metadata, SPLIT_TENSORS) + " as " + SPLIT_TENSORS + " says";
      throw new FormatException(first, "all " + count + " parts", tensors.size() + " tensors", expected);
    }
  }

  /** Maps one file and adds its tensors; returns its metadata. */
  private static Metadata openPart(
    Path path,
    List<MappedFile> files,
    List<Part> parts,
    List<MappedTensor> tensors,
    Set<String> names
  ) throws IOException {
    if (Files.notExists(path)) {
      throw new NoSuchFileException(path.toString(), null, "no such file");
    }
    if (!Files.isRegularFile(path)) {
      throw new FormatException(path, "not a regular file, expected a GGUF file");
    }
    MappedFile file = MappedFile.open(path);
    files.add(file);
    GgufHeader header = GgufHeader.read(path, file.bytes());
    for (int i = 0; i < header.tensors().size(); i++) {
      TensorInfo info = header.tensors().get(i);
      if (!names.add(info.name())) {
        throw new FormatException(path, "tensor " + Utf8.quote(info.name()) + ": an earlier part has it too");
      }
      long start = header.dataOffset() + header.offsets().get(i);
      tensors.add(new MappedTensor(info, file.bytes().asSlice(start, info.bytes())));
    }
    int count = header.tensors().size();
    parts.add(new Part(path, header.version(), header.alignment(), header.dataOffset(), file.size(), count));
    return header.metadata();
  }

  /** A number among the {@code split.*} keys, 0 if it is not there. */
  private static long splitNumber(Path file, Metadata metadata, String key) throws FormatException {
    OptionalLong number = metadata.integer(key);
    if (number.isPresent() ? number.getAsLong() < 0 : metadata.get(key).isPresent()) {
      MetadataValue value = metadata.values().get(key);
      throw new FormatException(file, "key " + key, value.type() + " " + Utf8.quote(value.toString()), "a count");
    }
    return number.orElse(0);
  }

  private static String ending(long number, long count) {
    return String.format(Locale.ROOT, "-%05d-of-%05d.gguf", number + 1, count);
  }

  @Override
  public Path source() {
    return source;
  }

  @Override
  public List<Path> files() {
    return parts.stream().map(Part::path).toList();
  }

  @Override
  public Metadata metadata() {
    return metadata;
  }

  @Override
  public List<MappedTensor> tensors() {
    return tensors;
  }

  /** The files, one unless the model is split. */
  public List<Part> parts() {
    return parts;
  }

  @Override
  public void close() {
    files.forEach(MappedFile::close);
    files.clear();
  }
}
