package dev.attar.formats.imatrix;

import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.gguf.GgufWriter;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Writes importance matrices in the GGUF form, as llama-imatrix does. */
public final class ImportanceMatrixWriter {

  /**
   * What was measured for one tensor.
   *
   * @param tensor its name
   * @param sums sums of the squared activations: all columns of the first expert, then the second's …; not copied
   * @param counts number of activations in the sums of each expert; one without experts; not copied
   */
  public record Entry(String tensor, double[] sums, long[] counts) {
    public Entry {
      if (counts.length == 0 || sums.length == 0 || sums.length % counts.length != 0) {
        throw new IllegalArgumentException(tensor + ": " + sums.length + " sums for " + counts.length + " counts");
      }
    }
  }

  private ImportanceMatrixWriter() {}

  /**
   * Writes a file, whole or not at all. Sums and counts are rounded to single precision.
   *
   * @param entries of one tensor each; written in the order of their names
   * @param datasets names of the texts that the activations were measured on
   * @param chunks number of chunks of text that were run
   * @param chunkSize tokens in a chunk
   * @param overwrite whether an existing file is replaced
   * @throws IOException as {@link GgufWriter#create}
   */
  public static void write(
    Path out,
    List<Entry> entries,
    List<String> datasets,
    int chunks,
    int chunkSize,
    boolean overwrite
  ) throws IOException {
    Map<String, MetadataValue> metadata = new LinkedHashMap<>();
    metadata.put("general.type", MetadataValue.string("imatrix"));
    metadata.put(GgufImatrix.DATASETS, MetadataValue.strings(datasets));
    metadata.put(GgufImatrix.CHUNK_COUNT, MetadataValue.uint32(chunks));
    metadata.put(GgufImatrix.CHUNK_SIZE, MetadataValue.uint32(chunkSize));
    List<TensorInfo> tensors = new ArrayList<>();
    List<byte[]> values = new ArrayList<>();
    for (Entry entry : entries.stream().sorted(Comparator.comparing(Entry::tensor)).toList()) {
      int experts = entry.counts.length;
      long columns = entry.sums.length / experts;
      tensors.add(new TensorInfo(entry.tensor + GgufImatrix.SUMS, TensorType.F32, new long[] { columns, experts }));
      tensors.add(new TensorInfo(entry.tensor + GgufImatrix.COUNTS, TensorType.F32, new long[] { 1, experts }));
      ByteBuffer sums = littleEndian(entry.sums.length);
      for (double sum : entry.sums) {
        sums.putFloat((float) sum);
      }
      ByteBuffer counts = littleEndian(experts);
      for (long count : entry.counts) {
        counts.putFloat(count);
      }
      values.add(sums.array());
      values.add(counts.array());
    }
    try (GgufWriter writer = GgufWriter.create(out, Metadata.of(metadata), tensors, overwrite)) {
      for (int i = 0; i < values.size(); i++) {
        writer.write(i, 0, values.get(i), 0, values.get(i).length);
      }
      writer.commit();
    }
  }

  private static ByteBuffer littleEndian(int floats) {
    return ByteBuffer.allocate(Math.multiplyExact(Float.BYTES, floats)).order(ByteOrder.LITTLE_ENDIAN);
  }
}
