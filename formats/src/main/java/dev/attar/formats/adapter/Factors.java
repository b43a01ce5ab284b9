package dev.attar.formats.adapter;

import dev.attar.formats.FormatException;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;

/** Collects the factors of an adapter and checks that they fit its base. */
final class Factors {

  /** The embedding, whose factors adapters have in other shapes. */
  static final String EMBEDDING = "token_embd.weight";

  private final Path file;
  private final Model base;
  private final Map<String, TensorInfo> targets = new HashMap<>();
  private final Map<String, LoraTensor> found = new HashMap<>();

  /**
   * @param file the adapter's file, for messages
   * @param base the model that it is for
   */
  Factors(Path file, Model base) {
    this.file = file;
    this.base = base;
    base.tensors().forEach(tensor -> targets.put(tensor.info().name(), tensor.info()));
  }

  /** An error about one of the adapter's tensors, {@code problem} following its name. */
  FormatException error(String tensor, String problem) {
    return new FormatException(file, "tensor " + tensor + problem);
  }

  /**
   * The tensor of the base that a factor is for.
   *
   * @param name its name
   * @param factor the factor's
   */
  TensorInfo target(String name, String factor) throws FormatException {
    TensorInfo target = targets.get(name);
    if (target == null) {
      throw error(factor, ": " + base.source() + " has no " + name);
    }
    if (target.shape().length < 2 || target.rank() > 3 || !target.type().isFloat()) {
      throw error(factor, ": in " + base.source() + " " + target + " is no matrix of real numbers");
    }
    if (name.equals(EMBEDDING) && !targets.containsKey("output.weight")) {
      throw error(
        factor,
        ": " +
          base.source() +
          " has no output.weight: it uses " +
          name +
          " for the output too, which would change as well"
      );
    }
    return target;
  }

  /**
   * Adds a pair of factors.
   *
   * @param target the tensor of the base
   * @param a A, called as in the adapter, but in the shape of {@link LoraTensor#a}
   * @param b B, likewise
   */
  void add(TensorInfo target, Tensor a, Tensor b, float scale) throws FormatException {
    TensorInfo first = a.info();
    TensorInfo second = b.info();
    requireNumbers(first);
    requireNumbers(second);
    require(first, "rows of %d", first.rowLength(), target.rowLength());
    require(second, "%d rows", second.dimension(1), target.dimension(1));
    require(first, "%d experts", first.dimension(2), target.dimension(2));
    require(second, "%d experts", second.dimension(2), target.dimension(2));
    if (second.rowLength() != first.dimension(1)) {
      throw error(
        second.name(),
        ": rank " + second.rowLength() + ", expected " + first.dimension(1) + " as " + first.name() + " has it"
      );
    }
    if (second.rowLength() < 1 || second.rowLength() > Integer.MAX_VALUE) {
      throw error(second.name(), ": rank " + second.rowLength() + ", expected at least 1");
    }
    found.put(target.name(), new LoraTensor(target, a, b, scale));
  }

  private void requireNumbers(TensorInfo factor) throws FormatException {
    if (!factor.type().isFloat() || factor.dimension(3) != 1) {
      throw error(
        factor.name(),
        ": " + factor.type() + " of shape " + factor.shapeText() + ", expected real numbers in two or three dimensions"
      );
    }
  }

  private void require(TensorInfo factor, String what, long is, long expected) throws FormatException {
    if (is != expected) {
      throw error(
        factor.name(),
        ": " + String.format(Locale.ROOT, what, is) + ", expected " + expected + " as " + base.source() + " has it"
      );
    }
  }

  /** A small matrix with rows and columns exchanged. */
  Tensor transposed(Tensor tensor) throws IOException {
    TensorInfo info = tensor.info();
    requireNumbers(info);
    if (info.rank() > 2 || info.elements() > Integer.MAX_VALUE - 8) {
      throw error(info.name(), ": shape " + info.shapeText() + ", expected a matrix of fewer than 2^31 values");
    }
    return new TransposedTensor(tensor);
  }

  /** All of them, in the order of the base. */
  List<LoraTensor> inOrder() throws FormatException {
    if (found.isEmpty()) {
      throw new FormatException(file, "no factors of LoRA in it");
    }
    List<LoraTensor> tensors = new ArrayList<>();
    for (Tensor tensor : base.tensors()) {
      LoraTensor factors = found.get(tensor.info().name());
      if (factors != null) {
        tensors.add(factors);
      }
    }
    return tensors;
  }
}
