package dev.attar.quant.gptq;

import dev.attar.quant.budget.DivergenceMeter;
import dev.attar.quant.budget.Probe;
import dev.attar.quant.budget.SizeTarget;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;

/**
 * A size that the result has to fit.
 *
 * @param target the size
 * @param meter measures a few coarse models, from which the loss of a choice of types is predicted
 */
public record Budget(SizeTarget target, Meter meter) {
  /** A {@link DivergenceMeter} that is told which file the divergences are from. */
  @FunctionalInterface
  public interface Meter {
    /**
     * As {@link DivergenceMeter#measure}.
     *
     * @param base the model as it is, in a file that llama.cpp can run
     */
    double[] measure(Path base, List<Probe> probes) throws IOException, InterruptedException;
  }
}
