package dev.attar.bench;

import dev.attar.formats.Metadata;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.architecture.OutputType;
import dev.attar.formats.gguf.GgufWriter;
import dev.attar.quant.FileType;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizationRun;
import dev.attar.quant.QuantizeOptions;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.function.UnaryOperator;

/** The project's sample checkpoint, and what can be made of it. */
final class SampleModels {

  static final Path CHECKPOINT = Path.of("../samples/sample");
  static final Path TEXT = Path.of("../samples/test.txt");

  private SampleModels() {}

  /** The checkpoint as GGUF in BF16. */
  static Path convert(Path checkpoint, Path out) throws IOException, InterruptedException {
    try (Model model = Models.open(checkpoint)) {
      run(model, QuantizationPlan.convert(model, OutputType.AUTO), out);
    }
    return out;
  }

  /** Quantized to a file type. */
  static Path quantize(Path source, FileType type, Path out) throws IOException, InterruptedException {
    return quantize(source, QuantizeOptions.of(type), out);
  }

  static Path quantize(Path source, QuantizeOptions options, Path out) throws IOException, InterruptedException {
    try (Model model = Models.open(source)) {
      run(model, QuantizationPlan.quantize(model, options), out);
    }
    return out;
  }

  private static void run(Model model, QuantizationPlan plan, Path out) throws IOException, InterruptedException {
    QuantizationRun.run(model, plan, out, true, 2, (_, _, _) -> {});
  }

  /** A copy with other metadata. */
  static Path withMetadata(Path source, UnaryOperator<Metadata> change, Path out) throws IOException {
    try (Model model = Models.open(source)) {
      List<TensorInfo> infos = model.tensors().stream().map(Tensor::info).toList();
      try (GgufWriter writer = GgufWriter.create(out, change.apply(model.metadata()), infos, true)) {
        for (int i = 0; i < infos.size(); i++) {
          byte[] bytes = new byte[(int) infos.get(i).bytes()];
          model.tensors().get(i).readRows(0, (int) infos.get(i).rows(), bytes, 0);
          writer.write(i, 0, bytes, 0, bytes.length);
        }
        writer.commit();
      }
    }
    return out;
  }
}
