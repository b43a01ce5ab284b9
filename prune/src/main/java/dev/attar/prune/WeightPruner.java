package dev.attar.prune;

import dev.attar.calibration.linear.PreparedGram;
import dev.attar.calibration.linear.Pruning;
import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.compute.Sparsity;
import dev.attar.formats.TensorInfo;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;

/**
 * Removes single weights: sets them to 0. It does so in the matrices of layers; embeddings, the output head, norms and routers stay, as
 * is usual.
 *
 * @param method how they are chosen
 * @param amount how many
 * @param acrossRows whether a part is of the whole matrix instead of each row
 */
public record WeightPruner(PruneMethod method, Amount amount, boolean acrossRows) implements Pruning {
  /** What nobody is to be left in doubt of, wherever it is told how a model was made. */
  private static final String GAIN =
    "a compressed download is smaller; speed and memory stay as they are: ggml has no sparse kernels";

  /** The rows of a matrix, before and after and as they are written. */
  private static final long HEAP_PER_WEIGHT = 3L * Float.BYTES;

  public WeightPruner {
    if (acrossRows && amount instanceof Amount.PerGroup) {
      throw new IllegalArgumentException(
        "a pattern of " + amount + " is of each row, it cannot be of the whole matrix"
      );
    }
  }

  @Override
  public boolean prunes(TensorInfo tensor) {
    String name = tensor.name();
    return (
      tensor.rank() > 1 &&
      tensor.type().isFloat() &&
      name.startsWith("blk.") &&
      name.endsWith(".weight") &&
      !name.contains("ffn_gate_inp")
    );
  }

  @Override
  public Optional<String> problem(TensorInfo tensor) {
    long n = tensor.rowLength();
    switch (amount) {
      case Amount.PerGroup pattern -> {
        if (n % pattern.of() != 0) {
          return Optional.of(
            "rows of " + n + " weights are not divisible by " + pattern.of() + " of the pattern " + pattern
          );
        }
      }
      case Amount.Part part -> {
        long all = acrossRows ? Math.multiplyExact(n, tensor.dimension(1)) : n;
        long removed = Math.round(part.value() * all);
        if (removed == 0 || removed == all) {
          String of = acrossRows ? "matrices of " : "rows of ";
          return Optional.of(
            part + " of " + of + all + " weights is " + (removed == 0 ? "less than one" : "all of them")
          );
        }
        if (acrossRows) {
          return tooLarge(all);
        }
      }
    }
    return Optional.empty();
  }

  /** Why a matrix is too large to be chosen from as a whole. */
  private static Optional<String> tooLarge(long weights) {
    long needed = HEAP_PER_WEIGHT * weights;
    long most = Runtime.getRuntime().maxMemory();
    return needed < most - most / 4
      ? Optional.empty()
      : Optional.of(
          "choosing from all of its " +
            weights +
            " weights takes " +
            (needed >> 20) +
            " MiB of Java's heap of " +
            (most >> 20)
        );
  }

  @Override
  public boolean needsAllRows() {
    return acrossRows;
  }

  @Override
  public void prune(Device device, PreparedGram input, Matrix weights, Matrix pruned) {
    if (method == PruneMethod.SPARSEGPT) {
      Sparsity sparsity = sparsity(weights);
      double[] errors = new double[weights.columns()];
      device.sparseWalk(weights, input.factor(), input.ridge(), input.order(), sparsity, pruned, errors);
    } else {
      prune(device, method == PruneMethod.WANDA ? norms(input.importance()) : null, weights, pruned);
    }
  }

  /**
   * Removes the weights of least magnitude, times norms if there are any.
   *
   * @param norms one for each column; or {@code null}
   * @param weights (columns, rows), left as they are
   * @param pruned zeros, (columns, rows); gets what is left
   */
  void prune(Device device, float[] norms, Matrix weights, Matrix pruned) {
    device.add(1, weights, pruned);
    device.prune(pruned, norms, sparsity(weights));
  }

  /** The norms of inputs from their mean squares: what is common to all of a row does not matter. */
  static float[] norms(float[] squares) {
    float[] norms = new float[squares.length];
    for (int i = 0; i < norms.length; i++) {
      norms[i] = (float) Math.sqrt(squares[i]);
    }
    return norms;
  }

  /** @param weights (columns, rows) */
  private Sparsity sparsity(Matrix weights) {
    return switch (amount) {
      case Amount.PerGroup pattern -> new Sparsity.Pattern(pattern.kept(), pattern.of());
      case Amount.Part part -> {
        long all = (long) weights.rows() * weights.columns();
        yield acrossRows
          ? new Sparsity.Whole(Math.round(part.value() * all))
          : new Sparsity.Rows(Math.toIntExact(Math.round(part.value() * weights.rows())));
      }
    };
  }

  @Override
  public Map<String, String> settings() {
    Map<String, String> settings = new LinkedHashMap<>();
    settings.put("method", method.word());
    settings.put("sparsity", amount.toString());
    settings.put("per", acrossRows ? "tensor" : "row");
    settings.put("gain", GAIN);
    return settings;
  }
}
