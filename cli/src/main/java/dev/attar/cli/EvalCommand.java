package dev.attar.cli;

import dev.attar.bench.Comparison;
import dev.attar.bench.Failure;
import dev.attar.bench.ModelResult;
import dev.attar.bench.Settings;
import dev.attar.bench.report.JsonResults;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.List;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** Measures one model. */
@Command(
  name = "eval",
  customSynopsis = "attar eval MODEL [--base MODEL] [--text FILE] [OPTION]...",
  description = "Measure a model in llama.cpp: perplexity, speed, memory.",
  footer = {
    "",
    "Perplexity and KL divergence are defined as in llama-perplexity, speeds as in llama-bench.",
    "Without --text only speed, load time and memory are measured. MODEL+ADAPTER.gguf is a model with a",
    "LoRA adapter applied as by llama.cpp's --lora; tensors are compared without it.",
    "",
    "Examples:",
    "  attar eval model-q4_k_m.gguf --text test.txt",
    "  attar eval model-q4_k_m.gguf --base model-bf16.gguf --text test.txt --no-latency",
    "  attar eval model-q4_k_m.gguf+adapter.gguf --text test.txt",
    "  attar eval model-q4_k_m.gguf --pp 512,2048 --tg 128 --threads 4,8"
  }
)
final class EvalCommand implements Callable<Integer> {

  private final Console console;

  @Spec
  private CommandSpec spec;

  @Mixin
  private ModelArgument model;

  @Mixin
  private MeasureOptions measuring;

  @Mixin
  private MessageOptions messages;

  @Option(
    names = "--base",
    paramLabel = "MODEL",
    description = "Compare with this model: KL divergence from it, errors of the tensors, ratios."
  )
  private Path base;

  EvalCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException, InterruptedException {
    MeasuredModel measured = MeasuredModel.of(model.path());
    List<MeasuredModel> models = base == null ? List.of(measured) : List.of(MeasuredModel.of(base), measured);
    Settings settings = measuring.settings(base != null, false, false);
    Measurement measurement = new Measurement(console, spec, measuring);
    Comparison comparison = measurement.run(models, settings, Making.NONE);
    ModelResult result = comparison.models().getLast();
    if (result.failure().isPresent()) {
      Failure failure = result.failure().get();
      throw new IOException(result.subject().name() + ": " + failure.message());
    }
    if (messages.json()) {
      Json.print(console.out(), JsonResults.of(comparison, result));
    }
    PrintStream people = messages.json() ? (measuring.quiet() ? null : console.err()) : console.out();
    if (people != null) {
      ResultText.printModel(comparison, result, people);
    }
    measurement.writeReport(comparison, people);
    return Main.SUCCESS;
  }
}
