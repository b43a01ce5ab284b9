package dev.attar.quant.gptq;

import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.imatrix.ImportanceMatrix;
import dev.attar.quant.TensorRole;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;

/** What takes the place of a model's importance in plans until it is measured. */
public final class ExpectedImportance {

  private ExpectedImportance() {}

  /**
   * Importance for the matrices that are going to be measured.
   *
   * @param text the text on which, for messages
   * @param output whether output.weight is measured too
   */
  public static ImportanceMatrix of(Model model, Path text, boolean output) {
    Map<String, Integer> columns = new HashMap<>();
    for (Tensor tensor : model.tensors()) {
      TensorInfo info = tensor.info();
      TensorRole role = TensorRole.of(info.name());
      boolean isMeasured =
        info.rank() > 1 &&
        info.elements() > 0 &&
        info.name().endsWith(".weight") &&
        role != TensorRole.TOKEN_EMBEDDING &&
        (output || role != TensorRole.OUTPUT);
      if (isMeasured) {
        columns.put(info.name(), Math.toIntExact(info.rowLength() * (info.rows() / info.dimension(1))));
      }
    }
    return ImportanceMatrix.unmeasured(text, columns);
  }
}
