package dev.attar.cli;

import dev.attar.calibration.DivergenceMeter;
import dev.attar.formats.Model;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * Measures the divergence of models of which something was removed.
 *
 * @param base the whole model, in a file that llama.cpp can run
 * @param types the types that candidates are written in: the base's own
 * @param trials runs them
 */
record CutMeter(Path base, ModelTypes types, TrialModels trials) implements DivergenceMeter {
  @Override
  public double[] measure(List<Model> candidates, List<String> names) throws IOException, InterruptedException {
    List<TrialModels.Trial> made = new ArrayList<>();
    for (int i = 0; i < candidates.size(); i++) {
      made.add(new TrialModels.Trial(names.get(i), candidates.get(i), types.plan(candidates.get(i))));
    }
    return trials.divergences(base, made);
  }
}
