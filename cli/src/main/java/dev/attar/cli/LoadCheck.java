package dev.attar.cli;

import dev.attar.bench.accuracy.Windows;
import dev.attar.bench.worker.ModelWorker;
import dev.attar.formats.Model;
import dev.attar.formats.OutputCheck;
import dev.attar.formats.architecture.HuggingFaceModel;
import dev.attar.formats.architecture.OutputType;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizationRun;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.nio.channels.ClosedByInterruptException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.SplittableRandom;

/**
 * Loads an output once in llama.cpp, in a process of its own, and has it predict a few tokens: one that llama.cpp does not take, or
 * whose predictions are no numbers, is refused. A checkpoint's folder is converted for that.
 *
 * @param out the name that the output is to have, for messages
 * @param threads how many compute
 * @param patience how long the model may show no sign of life
 */
record LoadCheck(Path out, int threads, Duration patience) implements OutputCheck {
  /** Tokens that are decoded. */
  private static final int TOKENS = 16;

  /** The same for a LoRA adapter, which is loaded together with its base. */
  OutputCheck onBase(Path base) {
    return written -> check(written, () -> load(base, List.of(written)));
  }

  @Override
  public void check(Path written) throws IOException, InterruptedException {
    check(written, () -> {
      if (Files.isDirectory(written)) {
        checkFolder(written);
      } else {
        load(written, List.of());
      }
    });
  }

  /** Loads something. */
  @FunctionalInterface
  private interface Loading {
    void run() throws IOException, InterruptedException;
  }

  private void check(Path written, Loading loading) throws IOException, InterruptedException {
    try {
      loading.run();
    } catch (InterruptedIOException | ClosedByInterruptException e) {
      throw e;
    } catch (IOException e) {
      String message = String.valueOf(e.getMessage())
        .replace(written.toAbsolutePath().toString(), out.toString())
        .replace(written.toString(), out.toString());
      String where = message.contains(out.toString()) ? "" : out + ": ";
      throw new IOException(where + message + " (what was made does not run in llama.cpp, and is not kept)", e);
    }
  }

  private void checkFolder(Path folder) throws IOException, InterruptedException {
    try (Model model = HuggingFaceModel.open(folder)) {
      QuantizationPlan plan = QuantizationPlan.convert(model, OutputType.AUTO.resolve(model));
      plan.requireNoProblems();
      try (TemporaryFolder temporary = TemporaryFolder.create(plan.fileBytes())) {
        Path gguf = temporary.path().resolve("model.gguf");
        QuantizationRun.run(model, plan, gguf, false, threads, (_, _, _) -> {});
        load(gguf, List.of());
      }
    }
  }

  private void load(Path gguf, List<Path> adapters) throws IOException {
    try (ModelWorker worker = ModelWorker.start(patience)) {
      int vocabulary = worker.load(gguf.toAbsolutePath(), adapters, OptionalInt.empty()).vocabulary();
      int[] tokens = new SplittableRandom(TOKENS).ints(TOKENS, 0, vocabulary).toArray();
      worker.openEvaluation(TOKENS, threads, Optional.empty(), true);
      worker.evaluate(0, new Windows(tokens, TOKENS, OptionalInt.of(1), vocabulary).step(0));
      if (worker.scores().firstInvalid() >= 0) {
        throw new IOException(out + ": its logits are not finite numbers");
      }
    }
  }
}
