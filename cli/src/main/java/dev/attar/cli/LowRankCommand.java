package dev.attar.cli;

import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.lowrank.Metric;
import dev.attar.quant.FileType;
import dev.attar.quant.QuantizeOptions;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** Makes something of low rank of a model. */
@Command(
  name = "lowrank",
  description = "Replace weights by products of thin matrices, correct a quantized model by an adapter, or shrink it.",
  footer = {
    "",
    "llama.cpp has no place for factors in the place of a weight. It runs these three forms:",
    "--form dense multiplies the products back. The file is as large and as slow as before: it is for",
    "measuring what a rank costs. --ratio is the part of the numbers that is KEPT, unlike prune's.",
    "--form adapter writes OUT.gguf, quantized to --base-type as by 'attar quantize', and beside it",
    "OUT.adapter.gguf, the best correction of its error of that rank: run both by",
    "llama-cli -m OUT.gguf --lora OUT.adapter.gguf.",
    "--form shrink leaves fewer neurons, or smaller heads, and fits what is left to the calibration",
    "text: a smaller and faster model.",
    "",
    "With --text, what was made is compared with the plain quantization of the model that takes at",
    "most the same bytes, and the last line says which is better. For --form dense these are what",
    "factors would take. With --base-method gptq, the plain quantization is by GPTQ too.",
    "",
    "Each result is loaded once in llama.cpp before it gets its name.",
    "",
    "Examples:",
    "  attar lowrank checkpoint/ --ratio 0.8 --calibration calibration.txt --text test.txt",
    "  attar lowrank checkpoint/ --form adapter --base-type Q2_K --rank 32 -o x.gguf \\",
    "    --calibration calibration.txt --text test.txt --report report.html",
    "  attar lowrank checkpoint/ --form shrink --ratio 0.75 --head-ratio 0.75 -t Q4_K_M \\",
    "    --calibration calibration.txt"
  }
)
final class LowRankCommand implements Callable<Integer> {

  private static final String LIST = "list";

  private final Console console;

  @Spec
  private CommandSpec spec;

  @Mixin
  private ModelArgument model;

  @Mixin
  private LowRankOptions wishes;

  @Mixin
  private TypeOptions typing;

  @Mixin
  private CalibrationOptions calibrating;

  @Mixin
  private GptqTuning tuning;

  @Mixin
  private ComparisonOptions comparing;

  @Mixin
  private WriteOptions writing;

  @Mixin
  private MessageOptions messages;

  @Option(
    names = { "-o", "--output" },
    paramLabel = "OUT.gguf",
    description = "The file to write; an adapter is written beside it as OUT.adapter.gguf (default: the model's name with what is " +
      "made of it, in the current folder)."
  )
  private Path output;

  @Option(
    names = { "-t", "--type" },
    paramLabel = "TYPE",
    description = "Quantize the result of --form dense or shrink too: the file type, for instance Q4_K_M; 'list' shows all " +
      "(default: the types of the model)."
  )
  private String type;

  @Option(names = "--dry-run", description = "Show the sizes that are known beforehand; measure and write nothing.")
  private boolean dryRun;

  LowRankCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException, InterruptedException {
    if (LIST.equalsIgnoreCase(type) || LIST.equalsIgnoreCase(wishes.baseType())) {
      FileTypes.print(console, messages.json());
      return Main.SUCCESS;
    }
    requireSense();
    Optional<QuantizeOptions> quantize = fileType().map(typing::options);
    Path source = model.path();
    Calibration calibration = calibrating.texts().isEmpty() ? null : calibrating.calibration(writing.computeThreads());
    comparing.requireSense(calibration);
    double _ = tuning.damping();
    long _ = tuning.maxMemory();
    tuning.requireDevice();
    String name = wishes.name() + (type == null ? "" : "-" + type);
    Path out = output != null ? output : ModelArgument.outputName(source, name.toLowerCase(Locale.ROOT));
    if (!out.toString().toLowerCase(Locale.ROOT).endsWith(".gguf")) {
      throw Usage.error(spec, out + " is no name of a GGUF file, expected an output named *.gguf");
    }
    try (Model opened = Models.open(source)) {
      LowRankJob job = new LowRankJob(console, writing, tuning, opened, wishes, typing, quantize, calibration);
      return make(job, out);
    }
  }

  private Optional<FileType> fileType() {
    String word = wishes.form() == LowRankForm.ADAPTER ? wishes.baseType() : type;
    if (word == null) {
      return Optional.empty();
    }
    if (wishes.form() != LowRankForm.ADAPTER) {
      return Optional.of(FileTypes.withoutImportance(spec, word, "factorize"));
    }
    FileType found = FileType.byName(word).orElseThrow(() -> Usage.error(spec, FileTypes.unknown(word)));
    if (found == FileType.COPY || !found.defaultType().isQuantized()) {
      throw Usage.error(spec, "--base-type " + word + " is no quantized type: there would be no error to correct");
    }
    return Optional.of(found);
  }

  /** Checks that the options go together. */
  private void requireSense() {
    wishes.requireSense();
    boolean shrinks = wishes.form() == LowRankForm.SHRINK;
    boolean byGptq = wishes.baseMethod() == Method.GPTQ;
    boolean byActivation = !shrinks && wishes.metric() == Metric.ACTIVATION;
    if (calibrating.texts().isEmpty()) {
      forbid(calibrating.dependent(), "a --calibration text");
      String needing = shrinks
        ? "--form shrink"
        : byGptq
          ? "--base-method gptq"
          : byActivation
            ? "--method activation"
            : null;
      if (needing != null) {
        throw Usage.error(spec, needing + " needs a text to calibrate on, expected --calibration TEXT");
      }
    }
    if (wishes.form() == LowRankForm.ADAPTER) {
      forbid(type == null ? List.of() : List.of("--type"), "--form dense or shrink: the base's is --base-type");
    } else if (type == null) {
      forbid(typing.given(), "--type");
    } else if (typing.given().contains("--allow-requantize")) {
      throw Usage.error(
        spec,
        "--allow-requantize is for --form adapter, the other forms take quantized models with a warning"
      );
    }
    List<String> unused = new ArrayList<>(byGptq ? List.of() : tuning.givenForGptq());
    boolean damped = unused.remove("--damping");
    forbid(unused, "--base-method gptq");
    if (damped && !shrinks && !byActivation) {
      forbid(List.of("--damping"), "--method activation");
    }
  }

  private void forbid(List<String> given, String needed) {
    if (!given.isEmpty()) {
      throw Usage.error(spec, Usage.needs(given, needed));
    }
  }

  private int make(LowRankJob job, Path out) throws IOException, InterruptedException {
    LowRankMaker maker = switch (wishes.form()) {
      case DENSE -> new DenseLowRank(job);
      case ADAPTER -> new AdapterLowRank(job);
      case SHRINK -> new ShrinkLowRank(job);
    };
    if (job.calibration() != null) {
      job.calibration().check();
    }
    if (!dryRun) {
      checkFiles(job, maker.outputs(out));
    }
    maker.check();
    if (dryRun) {
      maker.dryRun().print(console, messages, writing.quiet());
      return Main.SUCCESS;
    }
    LowRankMaker.Result result = maker.run(out);
    LowRankReport report = result.report();
    warnOfUnused(report);
    // What was made is there whatever becomes of the comparison, which may take long.
    report.printMade(console, messages, writing.quiet());
    if (!comparing.isWanted()) {
      report.printCompared(console, messages, writing.quiet());
      return Main.SUCCESS;
    }
    EqualBytes.Result compared;
    try {
      compared = new EqualBytes(spec, comparing, job).run(result.made());
    } catch (IOException e) {
      report.printCompared(console, messages, writing.quiet());
      throw e;
    }
    report.setComparison(compared);
    report.printCompared(console, messages, writing.quiet());
    if (comparing.report().isPresent()) {
      compared.write(comparing.report().get(), writing.overwrite());
    }
    if (compared.failure().isPresent()) {
      console.err().println("attar: " + Text.escape(compared.failure().get()));
      return Main.FAILURE;
    }
    return Main.SUCCESS;
  }

  private void checkFiles(LowRankJob job, List<Path> outputs) throws IOException {
    List<Path> inputs = Output.inputs(job.model());
    inputs.addAll(calibrating.texts());
    inputs.addAll(comparing.inputs());
    for (Path file : outputs) {
      Output.check(file, writing.overwrite(), inputs);
    }
    int context = job.calibration() == null ? 0 : job.calibration().context();
    comparing.check(writing.overwrite(), inputs, outputs, context);
  }

  private void warnOfUnused(LowRankReport report) {
    boolean looks =
      wishes.form() == LowRankForm.SHRINK ||
      wishes.metric() == Metric.ACTIVATION ||
      wishes.form() == LowRankForm.ADAPTER ||
      wishes.neurons().isPresent() || // the option is --ratio, whose ranks go by what errors do to predictions
      comparing.isWanted();
    if (!looks && !calibrating.texts().isEmpty()) {
      report.addWarning("--method svd does not look at the text, --calibration changes nothing");
    }
  }
}
