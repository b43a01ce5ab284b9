package dev.attar.lowrank;

import dev.attar.formats.MappedFile;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.OutputCheck;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockEncoder;
import dev.attar.formats.block.BlockEncoders;
import dev.attar.formats.gguf.GgufLayout;
import dev.attar.formats.gguf.GgufWriter;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Writes products as a LoRA adapter (Hu et al., 2021) in GGUF, as llama.cpp takes it by {@code --lora}: of a tensor with rows of n values
 * and m of them, {@code NAME.lora_a} has r rows of n, and {@code NAME.lora_b} m rows of r; of tensors with several matrices, so many of
 * each.
 */
public final class AdapterFile {

  /** Values that are encoded at a time. */
  private static final int BAND = 1 << 20;

  private AdapterFile() {}

  /**
   * The bytes that an adapter will have, before it is made.
   *
   * @param tensors the tensors of the base that are corrected
   * @param rank the rank of each
   * @param type as {@link #write} has it
   * @param metadata as {@link #write} has it
   */
  public static long bytes(
    List<TensorInfo> tensors,
    int rank,
    TensorType type,
    String architecture,
    Metadata metadata
  ) {
    List<TensorInfo> infos = new ArrayList<>();
    for (TensorInfo tensor : tensors) {
      infos.add(a(tensor, rank, type));
      infos.add(b(tensor, rank, type));
    }
    return GgufLayout.of(complete(architecture, rank, metadata), infos).fileBytes();
  }

  private static TensorInfo a(TensorInfo tensor, int rank, TensorType type) {
    return info(tensor, ".lora_a", tensor.rowLength(), rank, type);
  }

  private static TensorInfo b(TensorInfo tensor, int rank, TensorType type) {
    return info(tensor, ".lora_b", rank, tensor.dimension(1), type);
  }

  private static TensorInfo info(TensorInfo tensor, String suffix, long columns, long rows, TensorType type) {
    TensorType fitting = columns % type.blockLength() == 0 ? type : TensorType.F16;
    long[] shape = tensor.rank() > 2 ? new long[] { columns, rows, tensor.dimension(2) } : new long[] { columns, rows };
    return new TensorInfo(tensor.name() + suffix, fitting, shape);
  }

  /**
   * @param rank the rank of all tensors; 0 if they differ
   */
  private static Metadata complete(String architecture, int rank, Metadata metadata) {
    Map<String, MetadataValue> values = new LinkedHashMap<>();
    values.put("general.type", MetadataValue.string("adapter"));
    values.put("general.architecture", MetadataValue.string(architecture));
    values.put("adapter.type", MetadataValue.string("lora"));
    // Products count alpha / rank times; 0 stands for once.
    values.put("adapter.lora.alpha", MetadataValue.float32(rank));
    values.putAll(metadata.values());
    return Metadata.of(values);
  }

  /**
   * Writes an adapter whose scale is 1.
   *
   * @param architecture {@code general.architecture} of the model that it is for
   * @param type Q8_0, F16, BF16 or F32; factors whose rows are no whole number of blocks are written in F16
   * @param metadata what else is written: {@code general.name}, {@code attar.*} keys
   * @param check looks at the file before it gets its name
   * @throws IOException if it cannot be written
   */
  public static void write(
    Factorization factors,
    String architecture,
    TensorType type,
    Metadata metadata,
    Path out,
    boolean overwrite,
    OutputCheck check
  ) throws IOException, InterruptedException {
    List<TensorInfo> infos = new ArrayList<>();
    for (FactoredTensor tensor : factors.tensors()) {
      infos.add(a(tensor.source(), tensor.rank(), type));
      infos.add(b(tensor.source(), tensor.rank(), type));
    }
    int[] ranks = factors.tensors().stream().mapToInt(FactoredTensor::rank).distinct().toArray();
    Metadata all = complete(architecture, ranks.length == 1 ? ranks[0] : 0, metadata);
    try (GgufWriter writer = GgufWriter.create(out, all, infos, overwrite)) {
      for (int i = 0; i < factors.tensors().size(); i++) {
        FactoredTensor tensor = factors.tensors().get(i);
        try (MappedFile a = MappedFile.open(tensor.a()); MappedFile b = MappedFile.open(tensor.b())) {
          int columns = Math.toIntExact(tensor.source().rowLength());
          write(writer, 2 * i, a.bytes(), tensor.rank(), tensor.stored(), columns, columns);
          int rows = Math.toIntExact(tensor.source().dimension(1));
          write(writer, 2 * i + 1, b.bytes(), rows, rows, tensor.rank(), tensor.stored());
        }
      }
      writer.commit(check);
    }
  }

  /**
   * Writes the upper left part of each matrix of a factor.
   *
   * @param rows of the part
   * @param storedRows of the whole matrix
   * @param columns of the part
   * @param storedColumns of the whole matrix
   */
  private static void write(
    GgufWriter writer,
    int index,
    MemorySegment values,
    int rows,
    int storedRows,
    int columns,
    int storedColumns
  ) throws IOException {
    TensorInfo info = writer.layout().tensors().get(index);
    BlockEncoder encoder = BlockEncoders.of(info.type()).orElseThrow();
    int rowBytes = Math.toIntExact(info.rowBytes());
    int most = Math.clamp(BAND / columns, 1, rows);
    float[] band = new float[Math.multiplyExact(most, columns)];
    byte[] encoded = new byte[Math.multiplyExact(most, rowBytes)];
    for (long matrix = 0; matrix < info.dimension(2); matrix++) {
      for (int first = 0; first < rows; first += most) {
        int count = Math.min(most, rows - first);
        for (int i = 0; i < count; i++) {
          long from = (matrix * storedRows + first + i) * storedColumns * Float.BYTES;
          MemorySegment.copy(values, Factorizer.FLOAT, from, band, i * columns, columns);
        }
        encoder.encode(band, 0, columns, count, null, 0, encoded, 0);
        writer.write(index, (matrix * rows + first) * rowBytes, encoded, 0, count * rowBytes);
      }
    }
  }
}
