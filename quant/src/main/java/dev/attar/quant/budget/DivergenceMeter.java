package dev.attar.quant.budget;

import java.io.IOException;
import java.util.List;

/** Measures what choices of types do to a model's predictions. */
@FunctionalInterface
public interface DivergenceMeter {
  /** Measures nothing. */
  DivergenceMeter NONE = _ -> new double[0];

  /**
   * The mean Kullback-Leibler divergence, in nats per token, of each probe from the model as it is, on text that the model will not be
   * judged on.
   *
   * @param probes at least one
   * @return as many numbers, finite and not negative; or none at all if nothing can be measured
   * @throws IOException if a model cannot be written or run
   * @throws InterruptedException if the calling thread is interrupted
   */
  double[] measure(List<Probe> probes) throws IOException, InterruptedException;
}
