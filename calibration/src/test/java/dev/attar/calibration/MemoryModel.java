package dev.attar.calibration;

import dev.attar.formats.MappedTensor;
import dev.attar.formats.Metadata;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.block.BlockEncoders;
import dev.attar.formats.gguf.GgufWriter;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * A model in memory, for tests.
 *
 * @param metadata the metadata
 * @param tensors the tensors
 */
public record MemoryModel(Metadata metadata, List<Tensor> tensors) implements Model {
  /** A small checkpoint that llama.cpp runs. */
  public static final Path SAMPLE = Path.of("../samples/sample");

  public MemoryModel {
    tensors = List.copyOf(tensors);
  }

  /** A tensor of values, encoded as it says. */
  public static Tensor tensor(TensorInfo info, float[] values) {
    byte[] bytes = new byte[Math.toIntExact(info.bytes())];
    BlockEncoders.of(info.type())
      .orElseThrow()
      .encode(values, 0, (int) info.rowLength(), (int) info.rows(), null, 0, bytes, 0);
    return new MappedTensor(info, MemorySegment.ofArray(bytes));
  }

  /** A checkpoint in single precision. */
  public static MemoryModel read(Path checkpoint) throws IOException {
    try (Model model = Models.open(checkpoint)) {
      return copy(model, TensorType.F32);
    }
  }

  /** A model with its matrices as a type, where their rows fit it. */
  public static MemoryModel copy(Model model, TensorType type) throws IOException {
    List<Tensor> tensors = new ArrayList<>();
    for (Tensor tensor : model.tensors()) {
      TensorInfo info = tensor.info();
      boolean fits = info.rank() > 1 && info.rowLength() % type.blockLength() == 0;
      tensors.add(tensor(info.withType(fits ? type : TensorType.F32), values(tensor)));
    }
    return new MemoryModel(model.metadata(), tensors);
  }

  /** All values of a tensor. */
  public static float[] values(Tensor tensor) throws IOException {
    float[] values = new float[Math.toIntExact(tensor.info().elements())];
    tensor.decodeRows(0, (int) tensor.info().rows(), values, 0);
    return values;
  }

  /** All bytes of a tensor. */
  public static byte[] bytes(Tensor tensor) throws IOException {
    byte[] bytes = new byte[Math.toIntExact(tensor.info().bytes())];
    tensor.readRows(0, (int) tensor.info().rows(), bytes, 0);
    return bytes;
  }

  /** A tensor of a model. */
  public static Tensor tensor(Model model, String name) {
    return model
      .tensors()
      .stream()
      .filter(tensor -> tensor.info().name().equals(name))
      .findFirst()
      .orElseThrow();
  }

  /** Writes a model as it presents itself, some rows at a time. */
  public static Path write(Model model, Path out) throws IOException {
    List<TensorInfo> infos = model
      .tensors()
      .stream()
      .map(tensor -> (TensorInfo) tensor.info())
      .toList();
    try (GgufWriter writer = GgufWriter.create(out, model.metadata(), infos, true)) {
      for (int i = 0; i < infos.size(); i++) {
        TensorInfo info = infos.get(i);
        for (long row = 0; row < info.rows(); row += 7) {
          int rows = (int) Math.min(7, info.rows() - row);
          byte[] some = new byte[Math.toIntExact(rows * info.rowBytes())];
          model.tensors().get(i).readRows(row, rows, some, 0);
          writer.write(i, row * info.rowBytes(), some, 0, some.length);
        }
      }
      writer.commit();
    }
    return out;
  }

  @Override
  public Path source() {
    return Path.of("test-model");
  }

  @Override
  public List<Path> files() {
    return List.of();
  }

  @Override
  public void close() {
    // Nothing is open.
  }
}
