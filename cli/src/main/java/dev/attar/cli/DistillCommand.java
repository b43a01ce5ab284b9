package dev.attar.cli;

import dev.attar.bench.report.HtmlReport;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.quant.FileType;
import dev.attar.quant.QuantizeOptions;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Spec;

/** Trains a student to say what a teacher says. */
@Command(
  name = "distill",
  description = "Train a smaller student to predict what a teacher predicts.",
  footer = {
    "",
    "The teacher is any model that llama.cpp runs. The student is of the family of Llama, Mistral,",
    "Qwen2 or Qwen3, with the teacher's vocabulary: layers of the teacher itself, a pruned checkpoint,",
    "another model, or a configuration whose weights begin fresh.",
    "",
    "A first phase lets each block of the student learn to give what the teacher's blocks give; then",
    "the whole student learns to predict as the teacher does. It is validated on text that is held",
    "out; the best weights are kept, written in the types of the student or quantized with -t, and",
    "loaded once in llama.cpp before they get their name. What is done lies in OUT.work until then:",
    "--resume goes on with it.",
    "",
    "Examples:",
    "  attar distill --teacher checkpoint/ --keep-layers 4 --text train.txt --max-time 30m -o student/",
    "  attar distill --teacher big-q8_0.gguf --student pruned/ --text train.txt --valid valid.txt \\",
    "    -o student.gguf -t Q8_0 --report training.html",
    "  attar distill --teacher checkpoint/ --student small/config.json --text train.txt --epochs 3 \\",
    "    --cache answers/ -o student/"
  }
)
final class DistillCommand implements Callable<Integer> {

  private static final String LIST = "list";

  private final Console console;

  @Spec
  private CommandSpec spec;

  @Mixin
  private StudentOptions choosing;

  @Mixin
  private LossOptions losses;

  @Mixin
  private TrainingOptions training;

  @Mixin
  private TypeOptions typing;

  @Mixin
  private WriteOptions writing;

  @Mixin
  private MessageOptions messages;

  @Option(
    names = { "-o", "--output" },
    paramLabel = "OUT",
    description = "What to write: a GGUF file if it ends in .gguf, otherwise a Hugging Face folder, which can be pruned, trained and " +
      "converted further."
  )
  private Path output;

  @Option(
    names = { "-t", "--type" },
    paramLabel = "TYPE",
    description = "Quantize the result: the file type, for instance Q4_K_M; 'list' shows all (default: the types of the student)."
  )
  private String type;

  @Option(names = "--resume", description = "Go on with an interrupted training of the same output.")
  private boolean resume;

  @Option(names = "--dry-run", description = "Show the student and what training would take; train and write nothing.")
  private boolean dryRun;

  @Option(
    names = "--report",
    paramLabel = "OUT.html",
    description = "Write a report of the training with its curves, one file for a browser."
  )
  private Path report;

  @Option(
    names = "--metrics",
    paramLabel = "FILE",
    description = "Write what was measured at each step, as JSON lines, with the output; until then it grows in " +
      "OUT.work/training/metrics.jsonl."
  )
  private Path metrics;

  DistillCommand(Console console) {
    this.console = console;
  }

  @Override
  public Integer call() throws IOException, InterruptedException {
    if (LIST.equalsIgnoreCase(type)) {
      FileTypes.print(console, messages.json());
      return Main.SUCCESS;
    }
    Path source = choosing.teacher();
    StudentOptions.Source student = choosing.source();
    losses.requireSense();
    training.requireSense();
    Optional<QuantizeOptions> quantize = quantize();
    if (output == null) {
      throw Usage.error(spec, "no output given, expected -o OUT.gguf or -o FOLDER");
    }
    ModelOutput out = ModelOutput.of(output);
    if (out.isFolder() && type != null) {
      throw out.noFolder(spec, "--type");
    }
    training.check();
    try (Model teacher = Models.open(source); DistillTask task = new DistillTask(console, writing.quiet())) {
      Distillation.Wishes wishes = new Distillation.Wishes(student, losses, training, quantize, writing);
      try (Distillation distillation = new Distillation(wishes, teacher, task)) {
        return run(distillation, task, out);
      }
    }
  }

  private Optional<QuantizeOptions> quantize() {
    if (type == null) {
      if (!typing.given().isEmpty()) {
        throw Usage.error(spec, Usage.needs(typing.given(), "--type"));
      }
      return Optional.empty();
    }
    typing.forbidRequantize(spec);
    FileType found = FileTypes.withoutImportance(spec, type, "distill");
    if (found == FileType.COPY) {
      throw Usage.error(
        spec,
        "--type " + type + " is for tensors that stay as they are, training changes all: leave it out"
      );
    }
    return Optional.of(typing.options(found));
  }

  private int run(Distillation distillation, DistillTask task, ModelOutput out)
    throws IOException, InterruptedException {
    out.requireSource(spec, distillation.origin());
    distillation.check(out);
    if (dryRun) {
      distillation.dryRun().print(console, messages, writing.quiet());
      return Main.SUCCESS;
    }
    checkFiles(distillation, out);
    DistillReport result = distillation.run(out, Optional.ofNullable(metrics), resume);
    task.close();
    result.print(console, messages, writing.quiet());
    if (report != null) {
      HtmlReport.write(result.training(Measurement.words(spec)), report, writing.overwrite());
      if (!writing.quiet()) {
        (messages.json() ? console.err() : console.out()).println("report: " + Text.escape(report.toString()));
      }
    }
    return Main.SUCCESS;
  }

  private void checkFiles(Distillation distillation, ModelOutput out) throws IOException {
    List<Path> inputs = distillation.inputs();
    out.check(distillation.origin(), writing.overwrite(), inputs);
    List<Path> outputs = new ArrayList<>(List.of(out.path()));
    for (Path file : new Path[] { report, metrics }) {
      if (file != null) {
        for (Path other : outputs) {
          if (file.toAbsolutePath().normalize().equals(other.toAbsolutePath().normalize())) {
            throw Usage.error(spec, file + " is the name of two outputs, expected two names");
          }
        }
        if (file.equals(report)) {
          HtmlReport.check(file, writing.overwrite());
        }
        Output.check(file, writing.overwrite(), inputs);
        outputs.add(file);
      }
    }
    DistillWork.of(out.path()).check(resume, writing.overwrite());
  }
}
