package dev.attar.cli;

import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.gguf.GgufWriter;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;

/** Makes models for tests. */
final class TestModels {

  /** The checkpoint that the project carries. */
  static final Path SAMPLE = Path.of("../samples/sample");

  /** A text to calibrate on. */
  static final Path CALIBRATION = Path.of("../samples/calibration.txt");

  /** A text to measure on. */
  static final Path TEXT = Path.of("../samples/test.txt");

  /** Options for a calibration on a few tokens of it. */
  static final List<Object> SHORT_CALIBRATION = List.of(
    "--calibration",
    CALIBRATION,
    "--calibration-tokens",
    256,
    "--ctx",
    64,
    "--threads",
    1
  );

  /** Options that leave only four of the checkpoint's tensors to choose types for, of one kind. */
  static final List<Object> DOWN_ONLY = List.of("--tensor-type", "token_embd|attn|gate|up=bf16");

  private TestModels() {}

  /** Writes a model of two matrices and a vector, in single precision; the second matrix has rows that fit no k-quant. */
  static Path small(Path file) throws IOException {
    Map<String, MetadataValue> metadata = new LinkedHashMap<>();
    metadata.put("general.architecture", MetadataValue.string("llama"));
    metadata.put("general.name", MetadataValue.string("bell\u0007 and\nline"));
    metadata.put("llama.block_count", MetadataValue.uint32(1));
    metadata.put("test.large", MetadataValue.uint64(-1));
    metadata.put("test.list", MetadataValue.int32s(new int[] { 1, 2, 3, 4, 5, 6, 7, 8 }));
    metadata.put("test.undecodable", MetadataValue.string("caf\udce9"));
    List<TensorInfo> tensors = List.of(
      new TensorInfo("blk.0.attn_q.weight", TensorType.F32, new long[] { 256, 32 }),
      new TensorInfo("blk.0.attn_k.weight", TensorType.F32, new long[] { 96, 32 }),
      new TensorInfo("output_norm.weight", TensorType.F32, new long[] { 96 })
    );
    return write(file, Metadata.of(metadata), tensors, 1);
  }

  /** Writes a model of one matrix of zeros in single precision. The file is sparse: it takes hardly any room. */
  static Path sparse(Path file, long rowLength, long rows) throws IOException {
    ByteBuffer header = ByteBuffer.allocate(1024).order(ByteOrder.LITTLE_ENDIAN);
    header.put("GGUF".getBytes(StandardCharsets.US_ASCII)).putInt(3).putLong(1).putLong(1);
    string(header, "general.architecture").putInt(MetadataValue.Type.STRING.id());
    string(header, "llama");
    string(header, "blk.0.ffn_up.weight").putInt(2).putLong(rowLength).putLong(rows);
    header.putInt(TensorType.F32.id()).putLong(0);
    int dataOffset = ((header.position() + 31) / 32) * 32;
    try (RandomAccessFile out = new RandomAccessFile(file.toFile(), "rw")) {
      out.write(header.array(), 0, dataOffset);
      out.setLength(dataOffset + 4 * rowLength * rows);
    }
    return file;
  }

  /** Writes a LoRA adapter with random factors of this rank for tensors of the checkpoint that the project carries, as llama.cpp has it. */
  static Path adapter(Path file, String architecture, int rank, String... targets) throws IOException {
    Map<String, MetadataValue> metadata = new LinkedHashMap<>();
    metadata.put("general.architecture", MetadataValue.string(architecture));
    metadata.put("general.type", MetadataValue.string("adapter"));
    metadata.put("adapter.type", MetadataValue.string("lora"));
    metadata.put("adapter.lora.alpha", MetadataValue.float32(rank));
    List<TensorInfo> infos = new ArrayList<>();
    try (Model sample = Models.open(SAMPLE)) {
      for (Tensor tensor : sample.tensors()) {
        TensorInfo info = tensor.info();
        if (List.of(targets).contains(info.name())) {
          infos.add(new TensorInfo(info.name() + ".lora_a", TensorType.F32, new long[] { info.rowLength(), rank }));
          infos.add(new TensorInfo(info.name() + ".lora_b", TensorType.F32, new long[] { rank, info.rows() }));
        }
      }
    }
    return write(file, Metadata.of(metadata), infos, 0.1);
  }

  /** Writes tensors of normal values. */
  private static Path write(Path file, Metadata metadata, List<TensorInfo> tensors, double deviation)
    throws IOException {
    Random random = new Random(1);
    try (GgufWriter writer = GgufWriter.create(file, metadata, tensors, false)) {
      for (int i = 0; i < tensors.size(); i++) {
        ByteBuffer values = ByteBuffer.allocate((int) tensors.get(i).bytes()).order(ByteOrder.LITTLE_ENDIAN);
        while (values.hasRemaining()) {
          values.putFloat((float) (deviation * random.nextGaussian()));
        }
        writer.write(i, 0, values.array(), 0, values.capacity());
      }
      writer.commit();
    }
    return file;
  }

  private static ByteBuffer string(ByteBuffer out, String text) {
    return out.putLong(text.length()).put(text.getBytes(StandardCharsets.US_ASCII));
  }
}
