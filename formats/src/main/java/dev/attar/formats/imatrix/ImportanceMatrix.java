package dev.attar.formats.imatrix;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;

import dev.attar.formats.FormatException;
import dev.attar.formats.MappedFile;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Utf8;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.Set;

/**
 * How much each input column of each tensor matters, measured by running a model on text: the mean of the squared activations that
 * met the column. Read from a file of {@code llama-imatrix} in the GGUF form (sums of squares and token counts per tensor) or the
 * older {@code .dat} form (means times a number of calls). Files may be large: the values stay in the mapped file until they are
 * asked for.
 *
 * <p>Safe for use by several threads until it is closed.
 */
public final class ImportanceMatrix implements AutoCloseable {

  static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
  private static final int MAX_COLUMNS = Integer.MAX_VALUE - 8;
  private static final int MAX_OVERRIDE_BYTES = 127; // llama_model_kv_override.val_str without the terminator

  /** The values of one tensor. */
  static final class Entry {

    private final MemorySegment sums;
    private final long[] counts;

    /**
     * @param sums little-endian single-precision numbers, finite and not negative: all columns of the first expert, then the
     *     second's …
     * @param counts what the columns of each expert are divided by
     */
    Entry(MemorySegment sums, long[] counts) {
      this.sums = sums;
      this.counts = counts;
    }
  }

  private final Runnable closing;
  private final Path path;
  private final boolean legacy;
  private final Map<String, Entry> entries;
  private final List<String> datasets;
  private final int chunks;

  ImportanceMatrix(
    Runnable closing,
    Path path,
    boolean legacy,
    Map<String, Entry> entries,
    List<String> datasets,
    int chunks
  ) {
    this.closing = closing;
    this.path = path;
    this.legacy = legacy;
    this.entries = Collections.unmodifiableMap(entries);
    this.datasets = List.copyOf(datasets);
    this.chunks = chunks;
  }

  /**
   * Opens a file of either form, told apart by its first bytes, and checks all of it.
   *
   * @throws FormatException if it is neither, is damaged, or holds a value that is negative or not finite
   * @throws IOException if it is missing or cannot be read
   */
  public static ImportanceMatrix open(Path path) throws IOException {
    if (Files.notExists(path)) {
      throw new NoSuchFileException(path.toString(), null, "no such file");
    }
    if (!Files.isRegularFile(path)) {
      throw new FormatException(path, "not a regular file, expected an importance matrix");
    }
    MappedFile file = MappedFile.open(path);
    try {
      byte[] magic = file.bytes().asSlice(0, Math.min(4, file.size())).toArray(JAVA_BYTE);
      if (!new String(magic, StandardCharsets.ISO_8859_1).equals("GGUF")) {
        return LegacyImatrix.read(path, file.bytes(), file::close);
      }
    } catch (IOException | RuntimeException e) {
      file.close();
      throw e;
    }
    file.close();
    return GgufImatrix.read(path);
  }

  /**
   * A stand-in for a matrix that is still to be measured, for plans: the same weight for every column.
   *
   * @param path where it is going to be, for messages
   * @param columns the number of weights of each tensor: its columns times its experts
   */
  public static ImportanceMatrix unmeasured(Path path, Map<String, Integer> columns) {
    // Without activations all weights are 1.
    MemorySegment sums = MemorySegment.ofArray(
      new float[columns
        .values()
        .stream()
        .mapToInt(n -> n)
        .max()
        .orElse(0)]
    );
    Map<String, Entry> entries = new LinkedHashMap<>();
    columns.forEach((tensor, n) ->
      entries.put(tensor, new Entry(sums.asSlice(0, (long) n * Float.BYTES), new long[] { 0 }))
    );
    return new ImportanceMatrix(() -> {}, path, false, entries, List.of(), 0);
  }

  /** Checks the sums of a tensor: whole, finite and not negative. */
  static void checkSums(Path path, String tensor, MemorySegment sums) throws FormatException {
    long n = sums.byteSize() / Float.BYTES;
    if (n > MAX_COLUMNS) {
      throw new FormatException(path, "tensor " + Utf8.quote(tensor), n + " columns", "at most " + MAX_COLUMNS);
    }
    for (long i = 0; i < n; i++) {
      float sum = sums.get(FLOAT, i * Float.BYTES);
      if (!(sum >= 0 && sum <= Float.MAX_VALUE)) {
        String place = "tensor " + Utf8.quote(tensor) + ", column " + i;
        throw new FormatException(path, place, String.valueOf(sum), "a finite number, not negative");
      }
    }
  }

  /** The file. */
  public Path path() {
    return path;
  }

  /** Whether the file has the older form. */
  public boolean isLegacy() {
    return legacy;
  }

  /** The names of the tensors that have weights. */
  public Set<String> tensors() {
    return entries.keySet();
  }

  /** What the activations were measured on: names of texts, often none or one. */
  public List<String> datasets() {
    return datasets;
  }

  /** Number of chunks of text that were run; 0 if the file does not say. */
  public int chunks() {
    return chunks;
  }

  /** Number of weights of a tensor: its columns times its experts. Empty if it has none. */
  public OptionalInt columns(String tensor) {
    Entry entry = entries.get(tensor);
    return entry == null ? OptionalInt.empty() : OptionalInt.of((int) (entry.sums.byteSize() / Float.BYTES));
  }

  /**
   * The weight of each column of a tensor, as llama-quantize computes it, in a new array. For a tensor of several experts ({@code
   * ne[2] > 1}) all columns of the first expert come first, then those of the second, and so on. An expert that no token met has
   * weight 1 everywhere.
   *
   * @return the weights, or empty if the file has none for this tensor
   */
  public Optional<float[]> weights(String tensor) {
    Entry entry = entries.get(tensor);
    if (entry == null) {
      return Optional.empty();
    }
    float[] weights = entry.sums.toArray(FLOAT);
    int columns = weights.length / entry.counts.length;
    for (int i = 0; i < weights.length; i++) {
      long count = entry.counts[i / columns];
      if (count > 0) {
        weights[i] /= (float) count;
      } else if (!legacy) {
        weights[i] = 1;
      }
    }
    return Optional.of(weights);
  }

  /**
   * What llama-quantize adds to the metadata of a model that it quantizes with this file: {@code quantize.imatrix.file}, {@code
   * .dataset} (the first), {@code .entries_count} and {@code .chunks_count}, in this order; dataset and chunks only if they are known,
   * text cut to 127 bytes.
   *
   * @param fileName the file as the user named it
   */
  public Map<String, MetadataValue> quantizeMetadata(String fileName) {
    Map<String, MetadataValue> metadata = new LinkedHashMap<>();
    metadata.put("quantize.imatrix.file", cut(fileName));
    if (!datasets.isEmpty()) {
      metadata.put("quantize.imatrix.dataset", cut(datasets.getFirst()));
    }
    metadata.put("quantize.imatrix.entries_count", MetadataValue.uint32(entries.size()));
    if (chunks > 0) {
      metadata.put("quantize.imatrix.chunks_count", MetadataValue.uint32(chunks));
    }
    return metadata;
  }

  private static MetadataValue cut(String text) {
    byte[] bytes = Utf8.encode(text);
    int length = 0;
    while (length < bytes.length && length < MAX_OVERRIDE_BYTES && bytes[length] != 0) {
      length++;
    }
    return MetadataValue.string(Utf8.decode(Arrays.copyOf(bytes, length)));
  }

  @Override
  public void close() {
    closing.run();
  }
}
