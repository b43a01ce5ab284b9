package dev.attar.lowrank;

import dev.attar.formats.RoundedTensor;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import java.io.IOException;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;

/** Tensors that are sums of products, on top of another tensor or of nothing. */
final class ProductTensor {

  private ProductTensor() {}

  /**
   * Presents a sum. Rows are computed as they are asked for, by any thread.
   *
   * @param like the tensor that it replaces: it has that one's name and shape, and its type if that is a plain one (F32 for F64), and F16
   *     otherwise
   * @param base what the products are added to, of the same shape; empty for nothing
   * @param products the products, of the same shape
   * @throws IllegalArgumentException if the shapes differ
   */
  static Tensor of(TensorInfo like, Optional<Tensor> base, List<Product> products) {
    TensorInfo info = like.withType(RoundedTensor.type(like.type()));
    if (
      !products.stream().allMatch(product -> product.fits(info)) ||
      base.filter(tensor -> !tensor.info().shapeText().equals(info.shapeText())).isPresent()
    ) {
      throw new IllegalArgumentException(info + " is no sum of " + base.map(Tensor::info) + " and products");
    }
    List<Product> all = List.copyOf(products);
    return new RoundedTensor(info, (first, rows, to) -> sum(base, all, first, rows, to));
  }

  private static void sum(Optional<Tensor> base, List<Product> products, long first, int rows, float[] to)
    throws IOException {
    if (base.isPresent()) {
      base.get().decodeRows(first, rows, to, 0);
    } else {
      Arrays.fill(to, 0);
    }
    for (Product product : products) {
      product.addRows(first, rows, to, 0);
    }
  }
}
