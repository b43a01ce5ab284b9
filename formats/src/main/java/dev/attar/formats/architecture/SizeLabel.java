package dev.attar.formats.architecture;

import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import java.util.List;
import java.util.Locale;

/** {@code general.size_label} of a model whose name says no size. */
public final class SizeLabel {

  private SizeLabel() {}

  /** The number of weights to two digits; with experts, their number and the weights of one. */
  public static String of(List<? extends Tensor> tensors) {
    long shared = 0;
    long perExpert = 0;
    long experts = 0;
    for (Tensor tensor : tensors) {
      TensorInfo info = tensor.info();
      if (info.name().contains("_exps.")) {
        experts = info.dimension(2);
        perExpert += info.elements() / experts;
      } else {
        shared += info.elements();
      }
    }
    String size = rounded(shared + perExpert);
    return experts > 0 ? experts + "x" + size : size;
  }

  private static String rounded(long weights) {
    double scaled = weights;
    String unit = "KMBT";
    int i = 0;
    for (scaled /= 1000; scaled > 1000 && i < unit.length() - 1; i++) {
      scaled /= 1000;
    }
    int digits = Math.rint(scaled) < 10 ? 1 : 0;
    return String.format(Locale.ROOT, "%." + digits + "f%c", scaled, unit.charAt(i));
  }
}
