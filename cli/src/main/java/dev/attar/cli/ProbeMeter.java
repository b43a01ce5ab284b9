package dev.attar.cli;

import dev.attar.formats.Model;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.budget.Probe;
import dev.attar.quant.gptq.Budget;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;

/**
 * Measures the divergence of models with some coarse tensors.
 *
 * @param model what the probes are made of
 * @param trials runs them
 */
record ProbeMeter(Model model, TrialModels trials) implements Budget.Meter {
  @Override
  public double[] measure(Path base, List<Probe> probes) throws IOException, InterruptedException {
    return trials.divergences(base, probes.stream().map(this::trial).toList());
  }

  private TrialModels.Trial trial(Probe probe) {
    return new TrialModels.Trial(
      "with coarse " + probe.name(),
      model,
      QuantizationPlan.quantize(model, probe.options())
    );
  }
}
