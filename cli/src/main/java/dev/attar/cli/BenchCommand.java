package dev.attar.cli;

import dev.attar.bench.Comparison;
import dev.attar.bench.Settings;
import dev.attar.bench.report.CsvResults;
import dev.attar.bench.report.JsonResults;
import dev.attar.bench.report.MarkdownTable;
import dev.attar.quant.FileType;
import dev.attar.quant.gptq.GptqOptions;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.stream.Stream;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** Compares a model with variants of it. */
@Command(
  name = "bench",
  customSynopsis = {
    "attar bench BASE VARIANT... [OPTION]...", "       attar bench BASE --types TYPE[,TYPE]... [OPTION]..."
  },
  description = "Compare a model with its variants in llama.cpp: accuracy, size, speed, memory.",
  footer = {
    "",
    "Perplexity and KL divergence are defined as in llama-perplexity, speeds as in llama-bench.",
    "Without --text there is no accuracy but the tensors' errors. A variant that fails is reported,",
    "the others are measured, and the exit code is 1. MODEL+ADAPTER.gguf is a model with a LoRA adapter",
    "applied as by llama.cpp's --lora; the adapter's bytes count, tensors are compared without it.",
    "",
    "Models that have to be made (--types, checkpoints that are no GGUF files) are written to a",
    "temporary folder, in the folder that the environment variable ATTAR_TMP names if it is set.",
    "Types gptq:TYPE are made by GPTQ, imatrix:TYPE by rounding with the importance that is measured,",
    "both on the --calibration text; others as 'attar quantize' does without one.",
    "",
    "Examples:",
    "  attar bench model-bf16.gguf model-q8_0.gguf model-q4_k_m.gguf --text test.txt",
    "  attar bench model-bf16.gguf model-q2_k.gguf model-q2_k.gguf+adapter.gguf --text test.txt",
    "  attar bench checkpoint/ --types Q8_0,Q4_K_M,Q3_K_M --text test.txt --report report.html",
    "  attar bench checkpoint/ --types IQ3_M,IQ2_M --imatrix imatrix.gguf --text test.txt --keep made",
    "  attar bench checkpoint/ --types Q4_K_M,imatrix:Q4_K_M,gptq:Q4_K_M --calibration calibration.txt \\",
    "    --text test.txt",
    "  attar bench a.gguf b.gguf --pp 512,2048 --tg 128 --threads 4,8 --markdown"
  }
)
final class BenchCommand implements Callable<Integer> {

  private final Console console;

  @Spec
  private CommandSpec spec;

  @Parameters(
    paramLabel = "MODEL",
    arity = "0..*",
    description = "The base, then its variants: Hugging Face checkpoint folders, .safetensors files beside their config.json, " +
      "or .gguf files (of split models the first); each also with LoRA adapters, MODEL+ADAPTER.gguf."
  )
  private List<Path> models = new ArrayList<>();

  @Mixin
  private MeasureOptions measuring;

  @Mixin
  private MessageOptions messages;

  @Option(
    names = "--types",
    paramLabel = "TYPE",
    split = ",",
    description = "Make variants of these types from the base, as 'attar quantize' does, weighed by --imatrix; with " +
      "imatrix: or gptq: before a type, by what is measured on the --calibration text."
  )
  private List<String> types = new ArrayList<>();

  @Mixin
  private TypeOptions typing;

  @Mixin
  private CalibrationTexts calibrating;

  @Mixin
  private GptqTuning tuning;

  @Option(names = "--keep", paramLabel = "DIR", description = "Keep the models that are made in this folder.")
  private Path keep;

  @Option(names = "--csv", description = "Print the result as CSV on standard output.")
  private boolean csv;

  @Option(names = "--markdown", description = "Print the result as a Markdown table on standard output.")
  private boolean markdown;

  BenchCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException, InterruptedException {
    if (
      Stream.of(messages.json(), csv, markdown)
        .filter(wanted -> wanted)
        .count() >
      1
    ) {
      throw usage("--json, --csv and --markdown exclude each other");
    }
    List<Variant> variants = variants();
    if (models.isEmpty()) {
      throw usage("no model given, expected a base and its variants, or a base and --types");
    }
    if (models.size() == 1 && variants.isEmpty()) {
      throw usage(
        "no variant of " + models.getFirst() + " given, expected models or --types (eval measures one model)"
      );
    }
    List<MeasuredModel> measured = models.stream().map(MeasuredModel::of).toList();
    if (!measured.getFirst().adapters().isEmpty() && !variants.isEmpty()) {
      throw usage("--types makes variants of a base without adapters, " + models.getFirst() + " has one");
    }
    Making making = making(variants);
    Settings settings = measuring.settings(true, !variants.isEmpty(), making.calibration().isPresent());
    tuning.requireDevice();
    if (making.gptq().isEmpty() && !measuring.quiet()) {
      tuning.unusedDevice("no model is made by GPTQ").ifPresent(console::warn);
    }
    Measurement measurement = new Measurement(console, spec, measuring);
    Comparison comparison = measurement.run(measured, settings, making);
    boolean forPrograms = messages.json() || csv || markdown;
    PrintStream people = forPrograms ? (measuring.quiet() ? null : console.err()) : console.out();
    print(comparison, people);
    measurement.writeReport(comparison, people);
    List<String> failures = failures(comparison);
    if (failures.isEmpty()) {
      return Main.SUCCESS;
    }
    int compared = comparison.variants().size();
    String message =
      failures.size() + " of " + Text.plural(compared, "variant") + " failed: " + String.join("; ", failures);
    console.err().println("attar: " + Text.escape(message));
    return Main.FAILURE;
  }

  private void print(Comparison comparison, PrintStream people) throws IOException {
    if (messages.json()) {
      Json.print(console.out(), JsonResults.of(comparison));
    } else if (csv) {
      console.out().print(CsvResults.of(comparison));
    } else if (markdown) {
      console.out().print(MarkdownTable.of(comparison));
    }
    if (people != null) {
      ResultText.printSummary(comparison, people);
    }
  }

  private static List<String> failures(Comparison comparison) {
    return comparison
      .variants()
      .stream()
      .flatMap(variant ->
        variant
          .failure()
          .stream()
          .map(failure -> variant.subject().name() + ": " + failure.message())
      )
      .toList();
  }

  private ParameterException usage(String message) {
    return new ParameterException(spec.commandLine(), message);
  }

  private List<Variant> variants() {
    Set<Variant> variants = new LinkedHashSet<>();
    for (String word : types) {
      Variant variant = variant(word);
      if (!variants.add(variant)) {
        throw usage("--types has " + variant.kind().prefix() + variant.options().fileType() + " twice");
      }
    }
    return List.copyOf(variants);
  }

  private Variant variant(String word) {
    Variant.Kind kind = Arrays.stream(Variant.Kind.values())
      .filter(k -> !k.prefix().isEmpty() && word.toLowerCase(Locale.ROOT).startsWith(k.prefix()))
      .findFirst()
      .orElse(Variant.Kind.ROUNDED);
    String name = word.substring(kind.prefix().length());
    FileType type = FileType.byName(name).orElseThrow(() ->
      usage(FileTypes.unknown(name) + ", each also with gptq: or imatrix: before it")
    );
    return new Variant(kind, typing.options(type));
  }

  /** What is to be made, if the options for that go together. */
  private Making making(List<Variant> variants) {
    boolean byGptq = variants.stream().anyMatch(variant -> variant.kind() == Variant.Kind.GPTQ);
    List<Variant> measured = variants
      .stream()
      .filter(variant -> variant.kind() != Variant.Kind.ROUNDED)
      .toList();
    if (variants.isEmpty()) {
      forbid(typing.given(), "--types");
    }
    if (!measured.isEmpty() && calibrating.texts().isEmpty()) {
      throw usage(measured.getFirst().name() + " needs a text to calibrate on, expected --calibration TEXT");
    }
    if (!byGptq) {
      forbid(tuning.given(), "types gptq:TYPE");
    }
    if (measured.isEmpty()) {
      forbid(calibrating.texts().isEmpty() ? List.of() : List.of("--calibration"), "types gptq:TYPE or imatrix:TYPE");
      forbid(calibrating.dependent(), "a --calibration text");
      return new Making(variants, Optional.empty(), Optional.empty(), Optional.ofNullable(keep));
    }
    Calibration calibration = measuring.calibration(calibrating);
    // What a run before has left in the folder that is kept can be gone on with.
    GptqOptions gptq = tuning.options(calibration, false, !measuring.overwrite(), measuring.overwrite());
    return new Making(
      variants,
      Optional.of(calibration),
      byGptq ? Optional.of(gptq) : Optional.empty(),
      Optional.ofNullable(keep)
    );
  }

  private void forbid(List<String> given, String needed) {
    if (!given.isEmpty()) {
      throw usage(Usage.needs(given, needed));
    }
  }
}
