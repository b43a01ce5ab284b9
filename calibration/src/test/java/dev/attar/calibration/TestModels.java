package dev.attar.calibration;

import dev.attar.formats.Metadata;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.architecture.OutputType;
import dev.attar.formats.block.BlockEncoders;
import dev.attar.formats.gguf.GgufWriter;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.function.UnaryOperator;

/** Checkpoints as GGUF, and variants of them. */
public final class TestModels {

  public static final Path SAMPLE = Path.of("../samples/sample");
  public static final Path EXPERTS = Path.of("../formats/src/test/resources/checkpoints/mixtral");

  private TestModels() {}

  /** Changes the values of a tensor on the way; gives them back as they are, or others of the same number. */
  @FunctionalInterface
  public interface Change {
    float[] apply(TensorInfo tensor, float[] values);
  }

  public static Path convert(Path checkpoint, Path out) throws IOException {
    return convert(checkpoint, out, metadata -> metadata, (_, values) -> values);
  }

  public static Path convert(Path checkpoint, Path out, UnaryOperator<Metadata> metadata, Change change)
    throws IOException {
    try (Model model = Models.open(checkpoint)) {
      OutputType type = OutputType.AUTO.resolve(model);
      List<TensorInfo> infos = model
        .tensors()
        .stream()
        .map(Tensor::info)
        .map(info -> info.withType(type.typeOf(info)))
        .toList();
      try (GgufWriter writer = GgufWriter.create(out, metadata.apply(model.metadata()), infos, true)) {
        for (int i = 0; i < infos.size(); i++) {
          byte[] bytes = encode(change.apply(infos.get(i), values(model.tensors().get(i))), infos.get(i));
          writer.write(i, 0, bytes, 0, bytes.length);
        }
        writer.commit();
      }
    }
    return out;
  }

  public static float[] values(Tensor tensor) throws IOException {
    float[] values = new float[Math.toIntExact(tensor.info().elements())];
    tensor.decodeRows(0, (int) tensor.info().rows(), values, 0);
    return values;
  }

  public static float[] values(Path model, String tensor) throws IOException {
    try (Model opened = Models.open(model)) {
      return values(
        opened
          .tensors()
          .stream()
          .filter(t -> t.info().name().equals(tensor))
          .findFirst()
          .orElseThrow()
      );
    }
  }

  public static byte[] encode(float[] values, TensorInfo as) {
    byte[] bytes = new byte[Math.toIntExact(as.bytes())];
    BlockEncoders.of(as.type())
      .orElseThrow()
      .encode(values, 0, (int) as.rowLength(), (int) as.rows(), null, 0, bytes, 0);
    return bytes;
  }

  public static TensorInfo info(Path model, String tensor, TensorType type) throws IOException {
    try (Model opened = Models.open(model)) {
      return opened
        .tensors()
        .stream()
        .map(Tensor::info)
        .filter(info -> info.name().equals(tensor))
        .findFirst()
        .orElseThrow()
        .withType(type);
    }
  }
}
