package dev.attar.cli;

import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.OutputCheck;
import dev.attar.formats.adapter.LoraAdapter;
import dev.attar.formats.architecture.HuggingFaceWriter;
import dev.attar.lowrank.MergedModel;
import dev.attar.quant.FileType;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizationRun;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.Callable;
import java.util.stream.IntStream;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** Adds LoRA adapters to the weights of a model. */
@Command(
  name = "merge",
  customSynopsis = "attar merge MODEL ADAPTER... [--lora-scaled ADAPTER:SCALE]... [-o OUT] [OPTION]...",
  description = "Write a model with LoRA adapters added to its weights.",
  footer = {
    "",
    "An adapter is a GGUF file as llama.cpp takes it by --lora, or a folder that PEFT has written, with",
    "adapter_config.json and adapter_model.safetensors, or that file. The result needs no adapter and",
    "runs as fast as the model alone. A tensor W becomes W + SCALE * alpha / rank * B * A.",
    "",
    "The result is loaded once in llama.cpp before it gets its name.",
    "",
    "Examples:",
    "  attar merge model-bf16.gguf adapter.gguf -o merged.gguf",
    "  attar merge checkpoint/ trained/ -o tuned/",
    "  attar merge checkpoint/ --lora-scaled style/:0.5 --lora-scaled facts.gguf:1.2 -t Q4_K_M"
  }
)
final class MergeCommand implements Callable<Integer> {

  private static final String LIST = "list";

  private final Console console;

  @Spec
  private CommandSpec spec;

  @Mixin
  private ModelArgument model;

  @Parameters(
    index = "1..*",
    arity = "0..*",
    paramLabel = "ADAPTER",
    description = "LoRA adapters: GGUF files, or what PEFT has written."
  )
  private List<Path> adapters = new ArrayList<>();

  @Option(names = "--lora", paramLabel = "ADAPTER", description = "Another adapter. May be repeated.")
  private List<Path> more = new ArrayList<>();

  @Option(
    names = "--lora-scaled",
    paramLabel = "ADAPTER:SCALE",
    converter = Converters.Scaled.class,
    description = "An adapter that is to have this times its strength. May be repeated."
  )
  private List<ScaledAdapter> scaled = new ArrayList<>();

  @Mixin
  private TypeOptions typing;

  @Mixin
  private WriteOptions writing;

  @Mixin
  private MessageOptions messages;

  @Option(
    names = { "-o", "--output" },
    paramLabel = "OUT",
    description = "What to write: a GGUF file if it ends in .gguf, otherwise a Hugging Face folder, which can be trained further " +
      "(default: a GGUF with the model's name and -merged, in the current folder)."
  )
  private Path output;

  @Option(
    names = { "-t", "--type" },
    paramLabel = "TYPE",
    description = "Quantize too: the file type, for instance Q4_K_M; 'list' shows all (default: the types of the model)."
  )
  private String type;

  MergeCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException, InterruptedException {
    if (LIST.equalsIgnoreCase(type)) {
      FileTypes.print(console, messages.json());
      return Main.SUCCESS;
    }
    Path source = model.path();
    List<ScaledAdapter> all = adapters();
    Optional<FileType> fileType = Optional.ofNullable(type).map(word ->
      FileTypes.withoutImportance(spec, word, "merge")
    );
    if (fileType.isEmpty() && !typing.given().isEmpty()) {
      throw Usage.error(spec, Usage.needs(typing.given(), "--type"));
    }
    typing.forbidRequantize(spec);
    String name = "merged" + fileType.map(given -> "-" + given.name().toLowerCase(Locale.ROOT)).orElse("");
    ModelOutput out = ModelOutput.of(output != null ? output : ModelArgument.outputName(source, name));
    if (out.isFolder() && fileType.isPresent()) {
      throw out.noFolder(spec, "--type");
    }
    List<MergedModel.Scaled> opened = new ArrayList<>();
    try (Model base = Models.open(source)) {
      out.requireSource(spec, base);
      for (ScaledAdapter adapter : all) {
        opened.add(new MergedModel.Scaled(LoraAdapter.open(adapter.path(), base), adapter.scale()));
      }
      merge(base, opened, ModelTypes.of(base, fileType.map(typing::options)), out);
    } finally {
      opened.forEach(adapter -> adapter.adapter().close());
    }
    return Main.SUCCESS;
  }

  /** All adapters that the user gave. */
  private List<ScaledAdapter> adapters() throws IOException {
    List<ScaledAdapter> all = new ArrayList<>();
    adapters.forEach(path -> all.add(new ScaledAdapter(path, 1)));
    more.forEach(path -> all.add(new ScaledAdapter(path, 1)));
    all.addAll(scaled);
    if (all.isEmpty()) {
      throw Usage.error(
        spec,
        "no adapter given, expected a LoRA adapter: a GGUF file, or a folder that PEFT has written"
      );
    }
    for (int i = 0; i < all.size(); i++) {
      for (ScaledAdapter earlier : all.subList(0, i)) {
        Path path = all.get(i).path();
        if (Files.exists(path) && Files.exists(earlier.path()) && Files.isSameFile(path, earlier.path())) {
          throw Usage.error(spec, path + " is given twice, expected each adapter once: --lora-scaled gives it a scale");
        }
      }
    }
    return all;
  }

  private void merge(Model base, List<MergedModel.Scaled> adapters, ModelTypes types, ModelOutput out)
    throws IOException, InterruptedException {
    long started = System.nanoTime();
    List<Path> inputs = Output.inputs(base);
    adapters.forEach(adapter -> inputs.addAll(adapter.adapter().files()));
    out.check(base, writing.overwrite(), inputs);
    Model merged = MergedModel.of(base, adapters);
    QuantizationPlan plan = types.plan(merged);
    plan.requireNoProblems();
    try (PhaseProgress progress = new PhaseProgress(console, writing.quiet())) {
      LoadCheck load = new LoadCheck(
        out.path(),
        writing.computeThreads(),
        Duration.ofSeconds(MeasureOptions.DEFAULT_TIMEOUT)
      );
      OutputCheck check = file -> {
        progress.at("loading the result in llama.cpp", 0, 1, "models");
        load.check(file);
      };
      if (out.isFolder()) {
        HuggingFaceWriter.write(
          merged,
          ModelOutput.checkpoint(base),
          layers(base),
          out.path(),
          writing.overwrite(),
          (done, total, _) -> progress.at("merging", done, total, "bytes"),
          check
        );
      } else {
        QuantizationRun.run(
          merged,
          plan,
          Map.of(),
          out.path(),
          writing.overwrite(),
          writing.threads(),
          check,
          (done, total, _) -> progress.at("merging", done, total, "values")
        );
      }
    }
    MergeReport report = new MergeReport(base, adapters, plan, out, (System.nanoTime() - started) / 1e9);
    types.warning(Optional.of("what an adapter changes"), "merge into the original").ifPresent(report::addWarning);
    PlanReport.warnings(plan, false).forEach(report::addWarning);
    if (types.quantize().isPresent()) {
      typing.withoutEffect(plan).forEach(report::addWarning);
    }
    report.print(console, messages, writing.quiet());
  }

  /** All layers, in their order. */
  private static int[] layers(Model model) {
    return IntStream.range(
      0,
      (int) model.metadata().integer(model.metadata().architecture() + ".block_count").orElseThrow()
    ).toArray();
  }
}
