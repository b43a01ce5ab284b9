package dev.attar.cli;

import dev.attar.formats.Model;
import dev.attar.formats.OutputCheck;
import dev.attar.quant.QuantizationException;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizeOptions;
import dev.attar.quant.budget.BudgetPlan;
import dev.attar.quant.gptq.Budget;
import dev.attar.quant.gptq.GptqListener;
import dev.attar.quant.gptq.GptqOptions;
import dev.attar.quant.gptq.GptqResult;
import dev.attar.quant.gptq.GptqRun;
import dev.attar.quant.gptq.TensorReport;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/** Quantizes a model by GPTQ, or for a size, for the user, with progress. To be used once. */
final class GptqTask implements GptqListener {

  private final Console console;
  private final boolean quiet;
  private final String name;
  private final List<String> warnings = new ArrayList<>();
  private PhaseProgress progress;
  private boolean announces = true;
  private boolean begun;
  private OutputCheck check = OutputCheck.NONE;

  /**
   * @param console where to show how it goes
   * @param quiet whether not to show it
   * @param name what is made, to go before what is done; empty if there is but one
   */
  GptqTask(Console console, boolean quiet, String name) {
    this.console = console;
    this.quiet = quiet;
    this.name = name;
  }

  /** Has an output looked at before it gets its name. */
  void setCheck(OutputCheck looks) {
    check = looks;
  }

  /** Does not say which device computes: the user knows by now. */
  void omitDevice() {
    announces = false;
  }

  /** Checks a plan, before long work, for tensors that GPTQ can do something with. */
  static void check(QuantizationPlan plan) throws QuantizationException {
    if (plan.tensors().stream().noneMatch(GptqRun::quantizes)) {
      throw new QuantizationException(
        plan.source() + ": GPTQ has nothing to do, it is for Q4_0 to Q8_0, Q2_K to Q6_K, IQ4_NL and IQ4_XS"
      );
    }
  }

  /**
   * Quantizes a model.
   *
   * @param quantize what types its tensors get, unless there is a budget
   * @param budget the size that it has to fit
   */
  GptqResult run(Model model, QuantizeOptions quantize, Optional<Budget> budget, GptqOptions options, Path out)
    throws IOException, InterruptedException {
    try (PhaseProgress shown = new PhaseProgress(console, quiet)) {
      progress = shown;
      return GptqRun.run(model, quantize, budget, options, out, this);
    }
  }

  /** Chooses the types for a budget, and writes nothing but in this folder. */
  BudgetPlan choose(Model model, QuantizeOptions quantize, Budget budget, GptqOptions options, Path folder)
    throws IOException, InterruptedException {
    try (PhaseProgress shown = new PhaseProgress(console, quiet)) {
      progress = shown;
      return GptqRun.choose(model, quantize, budget, options, folder, this);
    }
  }

  /** What the user should know, one line each. */
  List<String> warnings() {
    return warnings;
  }

  /** Whether anything was begun that could be gone on with. */
  boolean hasBegun() {
    return begun;
  }

  @Override
  public void at(String phase, long done, long total, String unit) {
    begun = true;
    progress.at(name.isEmpty() ? phase : name + ": " + phase, done, total, unit);
  }

  @Override
  public void device(String line) {
    if (!quiet && announces) {
      console.err().println("attar: " + Text.escape(line));
    }
  }

  @Override
  public void warn(String message) {
    warnings.add(message);
  }

  @Override
  public void quantized(TensorReport report) {
    begun = true;
  }

  @Override
  public void written(Path file) throws IOException, InterruptedException {
    check.check(file);
  }
}
