package dev.attar.calibration;

import dev.attar.formats.FormatException;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.Utf8;
import dev.attar.formats.gguf.GgufModel;
import dev.attar.formats.gguf.GgufWriter;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;

/**
 * A folder of Gram matrices and drifts, each in a file of its own that is there whole or not at all. A file is a GGUF with one tensor,
 * of the packed upper triangle or of the whole drift, and, in its metadata, what the matrix is of.
 */
public final class GramStore {

  private static final String TYPE = "general.type";
  private static final String INPUT = "attar.gram.input";
  private static final String EXPERT = "attar.gram.expert";
  private static final String TOKENS = "attar.gram.tokens";
  private static final String WEIGHT = "attar.drift.weight";
  private static final String DRIFT_TOKENS = "attar.drift.tokens";
  private static final String IDENTITY = "attar.gram.identity";

  private final Path folder;
  private final String identity;

  private GramStore(Path folder, String identity) {
    this.folder = folder;
    this.identity = identity;
  }

  /**
   * Opens a folder; makes it if it is missing, and deletes what a killed writer left. Nothing else may write to it meanwhile.
   *
   * @param identity distinguishes what all its matrices were made from and how: model, text and settings
   * @throws IOException if the folder cannot be made or read
   */
  public static GramStore open(Path folder, String identity) throws IOException {
    Files.createDirectories(folder);
    try (DirectoryStream<Path> leftovers = Files.newDirectoryStream(folder, ".*.part")) {
      for (Path leftover : leftovers) {
        Files.delete(leftover);
      }
    }
    return new GramStore(folder, identity);
  }

  /** Where the files are. */
  public Path folder() {
    return folder;
  }

  /** What all matrices were made from and how. */
  public String identity() {
    return identity;
  }

  /** The file of a matrix, which need not exist. */
  public Path file(GramRequest request) {
    StringBuilder name = fileName(request.input().name());
    if (request.input().experts() > 1) {
      name.append(request.expert() == GramRequest.POOLED ? ".pooled" : "." + request.expert());
    }
    return folder.resolve(name.append(".gguf").toString());
  }

  /** The file of a weight's drift, which need not exist. */
  public Path driftFile(String weight) {
    return folder.resolve(fileName(weight).append(".drift.gguf").toString());
  }

  private static StringBuilder fileName(String tensor) {
    StringBuilder name = new StringBuilder();
    for (byte b : tensor.getBytes(StandardCharsets.UTF_8)) {
      boolean plain =
        (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || (b >= '0' && b <= '9') || "._-".indexOf(b) >= 0;
      name.append(plain ? String.valueOf((char) b) : String.format(Locale.ROOT, "%%%02x", b));
    }
    return name;
  }

  /** Whether there is a file of a matrix. */
  public boolean contains(GramRequest request) {
    return Files.exists(file(request));
  }

  /**
   * Maps a matrix.
   *
   * @return empty if it has not been collected
   * @throws FormatException if its file is damaged, or is of something else
   * @throws IOException if it cannot be read
   */
  public Optional<Gram> find(GramRequest request) throws IOException {
    Path path = file(request);
    if (!Files.exists(path)) {
      return Optional.empty();
    }
    GgufModel file = GgufModel.open(path);
    try {
      return Optional.of(check(path, file, request));
    } catch (IOException | RuntimeException e) {
      file.close();
      throw e;
    }
  }

  /**
   * Maps a weight's drift.
   *
   * @return empty if it has not been collected
   * @throws FormatException if its file is damaged, or is of something else
   * @throws IOException if it cannot be read
   */
  public Optional<Drift> findDrift(String weight) throws IOException {
    Path path = driftFile(weight);
    if (!Files.exists(path)) {
      return Optional.empty();
    }
    GgufModel file = GgufModel.open(path);
    try {
      return Optional.of(checkDrift(path, file, weight));
    } catch (IOException | RuntimeException e) {
      file.close();
      throw e;
    }
  }

  private Drift checkDrift(Path path, GgufModel file, String weight) throws FormatException {
    Metadata metadata = file.metadata();
    require(path, TYPE, metadata.string(TYPE).orElse("nothing"), "drift");
    require(path, IDENTITY, metadata.string(IDENTITY).orElse("nothing"), identity);
    require(path, WEIGHT, metadata.string(WEIGHT).orElse("nothing"), weight);
    long tokens = metadata.integer(DRIFT_TOKENS).orElse(-1);
    if (tokens < 1) {
      throw new FormatException(path, "key " + DRIFT_TOKENS, tokens + " tokens", "at least 1");
    }
    List<TensorInfo> found = file.tensors().stream().map(Tensor::info).toList();
    boolean fits =
      found.size() == 1 &&
      found.getFirst().name().equals(weight) &&
      found.getFirst().type() == TensorType.F32 &&
      found.getFirst().rank() == 2 &&
      found.getFirst().rows() <= Integer.MAX_VALUE &&
      found.getFirst().rowLength() <= Integer.MAX_VALUE;
    if (!fits) {
      throw new FormatException(path, "tensors", Utf8.quote(found.toString()), "a matrix in F32 alone");
    }
    return new Drift(file, tokens);
  }

  private Gram check(Path path, GgufModel file, GramRequest request) throws FormatException {
    Metadata metadata = file.metadata();
    require(path, TYPE, metadata.string(TYPE).orElse("nothing"), "gram");
    require(path, IDENTITY, metadata.string(IDENTITY).orElse("nothing"), identity);
    require(path, INPUT, metadata.string(INPUT).orElse("nothing"), request.input().name());
    String expert = metadata.get(EXPERT).map(MetadataValue::toString).orElse("nothing");
    require(path, EXPERT, expert, String.valueOf(request.expert()));
    long tokens = metadata.integer(TOKENS).orElse(-1);
    if (tokens < 0) {
      throw new FormatException(path, "key " + TOKENS, tokens + " tokens", "a count");
    }
    int columns = request.input().columns();
    TensorInfo expected = tensor(request);
    if (file.tensors().size() != 1 || !file.tensors().getFirst().info().equals(expected)) {
      List<TensorInfo> found = file.tensors().stream().map(Tensor::info).toList();
      throw new FormatException(path, "tensors", Utf8.quote(found.toString()), expected + " alone");
    }
    Gram gram = new Gram(file, columns, tokens);
    for (int i = 0; i < columns; i++) {
      float square = gram.get(i, i);
      if (!(square >= 0 && square <= Float.MAX_VALUE)) {
        String found = String.valueOf(square);
        throw new FormatException(path, "diagonal element " + i, found, "a finite number, not negative");
      }
    }
    return gram;
  }

  private static void require(Path path, String key, String found, String expected) throws FormatException {
    if (!found.equals(expected)) {
      throw new FormatException(path, "key " + key, Utf8.quote(found), Utf8.quote(expected));
    }
  }

  /** Deletes the file of a weight's drift, if there is one, to make room. */
  public void deleteDrift(String weight) throws IOException {
    Files.deleteIfExists(driftFile(weight));
  }

  /** Deletes the file of a matrix, if there is one, to make room. */
  public void delete(GramRequest request) throws IOException {
    Files.deleteIfExists(file(request));
  }

  private static TensorInfo tensor(GramRequest request) {
    long[] shape = { Gram.packedLength(request.input().columns()) };
    return new TensorInfo(request.input().name(), TensorType.F32, shape);
  }

  /** Gives a matrix's values. */
  @FunctionalInterface
  interface Rows {
    /** Passes on parts of what the file is to hold, from its beginning to its end. */
    void forEach(Part part) throws IOException;

    /** Takes the next values. */
    @FunctionalInterface
    interface Part {
      /**
       * @param values little-endian float32
       */
      void accept(MemorySegment values) throws IOException;
    }
  }

  /** Writes a matrix's file; one that is there is replaced. */
  void write(GramRequest request, long tokens, Rows rows) throws IOException {
    Map<String, MetadataValue> metadata = new LinkedHashMap<>();
    metadata.put(TYPE, MetadataValue.string("gram"));
    metadata.put(INPUT, MetadataValue.string(request.input().name()));
    metadata.put(EXPERT, MetadataValue.int32(request.expert()));
    metadata.put(TOKENS, MetadataValue.uint64(tokens));
    write(file(request), metadata, tensor(request), rows);
  }

  /** Writes a drift's file; one that is there is replaced. */
  void writeDrift(String weight, int rows, int columns, long tokens, Rows values) throws IOException {
    Map<String, MetadataValue> metadata = new LinkedHashMap<>();
    metadata.put(TYPE, MetadataValue.string("drift"));
    metadata.put(WEIGHT, MetadataValue.string(weight));
    metadata.put(DRIFT_TOKENS, MetadataValue.uint64(tokens));
    write(driftFile(weight), metadata, new TensorInfo(weight, TensorType.F32, new long[] { columns, rows }), values);
  }

  private void write(Path path, Map<String, MetadataValue> metadata, TensorInfo tensor, Rows rows) throws IOException {
    metadata.put(IDENTITY, MetadataValue.string(identity));
    try (GgufWriter writer = GgufWriter.create(path, Metadata.of(metadata), List.of(tensor), true)) {
      long[] written = { 0 };
      rows.forEach(values -> {
        byte[] bytes = values.toArray(ValueLayout.JAVA_BYTE);
        writer.write(0, written[0], bytes, 0, bytes.length);
        written[0] += bytes.length;
      });
      writer.commit();
    }
  }
}
