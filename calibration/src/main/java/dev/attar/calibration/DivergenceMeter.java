package dev.attar.calibration;

import dev.attar.formats.Model;
import java.io.IOException;
import java.util.List;

/** Measures how far models are from the one that they were made of. */
@FunctionalInterface
public interface DivergenceMeter {
  /**
   * Runs models on a text.
   *
   * @param candidates models that were made of one
   * @param names what to call them, for progress and messages
   * @return for each the mean KL divergence of its predictions from those of that one, in nats, at least 0
   * @throws IOException if one cannot be run
   */
  double[] measure(List<Model> candidates, List<String> names) throws IOException, InterruptedException;
}
