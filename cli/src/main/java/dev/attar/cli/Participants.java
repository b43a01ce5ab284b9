package dev.attar.cli;

import dev.attar.bench.Subject;
import dev.attar.formats.FormatException;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.adapter.LoraAdapter;
import dev.attar.formats.architecture.OutputType;
import dev.attar.formats.gguf.GgufModel;
import dev.attar.formats.imatrix.ImportanceMatrix;
import dev.attar.quant.QuantizationException;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizeOptions;
import dev.attar.quant.gptq.ExpectedImportance;
import dev.attar.quant.gptq.GptqResult;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.NotDirectoryException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.function.IntFunction;

/**
 * The models of a comparison, the base first. What is no GGUF file yet is planned when this is opened, so that what cannot be done is
 * told at once, and written by {@link #make}: into a folder that is to be kept, or into a temporary one that is gone when this is
 * closed.
 */
final class Participants implements AutoCloseable {

  /** One of the models. */
  private sealed interface Participant {}

  /** One that is a file already, or that cannot take part. */
  private record Present(Subject subject) implements Participant {}

  /**
   * One to be written.
   *
   * @param name how it is called in results
   * @param adapters what is applied to it
   * @param origin the model that the user named
   * @param model the same, opened
   * @param plan what becomes of it
   * @param fileName under which it is written
   * @param task what is done, for the progress
   * @param variant how; empty for a conversion
   */
  private record Planned(
    String name,
    List<Path> adapters,
    Path origin,
    Model model,
    QuantizationPlan plan,
    Path fileName,
    String task,
    Optional<Variant> variant
  ) implements Participant {}

  private final Console console;
  private final MeasureOptions options;
  private final Making making;
  private final List<Participant> participants = new ArrayList<>();
  private final List<Model> opened = new ArrayList<>();
  private final List<Path> inputs = new ArrayList<>();
  private final Set<Path> fileNames = new HashSet<>();
  private TemporaryFolder temporary;
  private boolean deviceKnown; // whether the user has been told what computes
  private ImportanceMatrix measured;

  private Participants(Console console, MeasureOptions options, Making making) {
    this.console = console;
    this.options = options;
    this.making = making;
  }

  /**
   * Opens models and plans what has to be written. Nothing is written yet.
   *
   * @param console where to warn of variants that cannot take part
   * @param options how to run
   * @param models GGUF files and checkpoints, the base first; no two the same
   * @param making what further variants are made from the base
   * @throws IOException if a model or adapter does not exist, the base cannot be opened or its adapter does not fit, a plan cannot be
   *     carried out, or a file to be kept is in the way
   */
  static Participants open(Console console, MeasureOptions options, List<MeasuredModel> models, Making making)
    throws IOException {
    Participants result = new Participants(console, options, making);
    try {
      result.plan(models);
      result.checkKept();
      return result;
    } catch (IOException | RuntimeException e) {
      try {
        result.close();
      } catch (IOException close) {
        e.addSuppressed(close);
      }
      throw e;
    }
  }

  /** All files that are read. */
  List<Path> inputs() {
    return inputs;
  }

  private void plan(List<MeasuredModel> models) throws IOException {
    List<String> names = names(models, making.variants().stream().map(Variant::name).toList());
    Path base = models.getFirst().path();
    Model baseModel = open(models.getFirst());
    participants.add(participant(names.getFirst(), models.getFirst(), baseModel));
    for (int i = 1; i < models.size(); i++) {
      participants.add(variant(names.get(i), models.get(i)));
    }
    for (Variant variant : making.variants()) {
      String name = variant.name();
      QuantizationPlan plan = QuantizationPlan.quantize(baseModel, expected(baseModel, variant));
      try {
        plan.requireNoProblems();
        if (variant.kind() == Variant.Kind.GPTQ) {
          GptqTask.check(plan);
        }
      } catch (QuantizationException e) {
        throw new QuantizationException(name + ": " + e.getMessage(), e);
      }
      Path fileName = fileName(base, variant.fileName());
      participants.add(
        new Planned(name, List.of(), base, baseModel, plan, fileName, "quantizing to " + name, Optional.of(variant))
      );
    }
  }

  /** The options of a variant, with what stands for the importance that is still to be measured. */
  private QuantizeOptions expected(Model baseModel, Variant variant) {
    QuantizeOptions given = variant.options();
    if (!variant.measures()) {
      return given;
    }
    Calibration calibration = making.calibration().orElseThrow();
    boolean output = variant.kind() == Variant.Kind.GPTQ;
    return given.withImportance(
      ExpectedImportance.of(baseModel, calibration.texts().getFirst(), output),
      calibration.name()
    );
  }

  /** Opens a model and checks that its adapters, which llama.cpp is going to load, fit it. */
  private Model open(MeasuredModel measured) throws IOException {
    Model model = Models.open(measured.path());
    opened.add(model);
    inputs.addAll(Output.inputs(model));
    for (Path path : measured.adapters()) {
      try (LoraAdapter adapter = LoraAdapter.open(path, model)) {
        if (!adapter.files().equals(List.of(path))) {
          throw new FormatException(path, "an adapter of PEFT, llama.cpp needs one in GGUF (attar merge takes both)");
        }
      }
      inputs.add(path);
    }
    return model;
  }

  /** A GGUF file as it is, a checkpoint converted. */
  private Participant participant(String name, MeasuredModel measured, Model model) throws IOException {
    Path path = measured.path();
    if (model instanceof GgufModel) {
      return new Present(new Subject(name, path, path, measured.adapters(), Optional.empty()));
    }
    OutputType type = OutputType.AUTO.resolve(model);
    QuantizationPlan plan = QuantizationPlan.convert(model, type);
    plan.requireNoProblems();
    String called = name + " (" + type + ")";
    Path fileName = fileName(path, type.name());
    return new Planned(
      called,
      measured.adapters(),
      path,
      model,
      plan,
      fileName,
      "converting " + name,
      Optional.empty()
    );
  }

  private Participant variant(String name, MeasuredModel measured) throws IOException {
    Path path = measured.path();
    try {
      Model model = open(measured);
      Participant participant = participant(name, measured, model);
      if (participant instanceof Present) {
        // What was read of it, its vocabulary above all, is not needed again.
        opened.remove(model);
        model.close();
      }
      return participant;
    } catch (IOException e) {
      if (Files.notExists(path) || measured.adapters().stream().anyMatch(Files::notExists)) {
        throw e;
      }
      inputs.add(path);
      return new Present(failed(name, path, e));
    }
  }

  private Subject failed(String name, Path path, IOException e) {
    String problem = ErrorReport.message(e);
    if (!options.quiet()) {
      console.warn(name + " cannot be measured: " + problem);
    }
    return Subject.failed(name, path, problem);
  }

  /** The name of the file to be made of a model, another one for each. */
  private Path fileName(Path model, String type) {
    Path name = ModelArgument.outputName(model, type);
    for (int i = 2; !fileNames.add(name); i++) {
      name = ModelArgument.outputName(model, type + "-" + i);
    }
    return name;
  }

  private List<Planned> planned() {
    return participants.stream().filter(Planned.class::isInstance).map(Planned.class::cast).toList();
  }

  private void checkKept() throws IOException {
    if (making.keep().isEmpty()) {
      return;
    }
    Path keep = making.keep().get();
    if (planned().isEmpty() && !options.quiet()) {
      console.warn("--keep has no effect: no model has to be made");
    }
    if (Files.exists(keep)) {
      if (!Files.isDirectory(keep)) {
        throw new NotDirectoryException(keep.toString());
      }
      for (Planned planned : planned()) {
        Output.check(keep.resolve(planned.fileName()), options.overwrite(), inputs);
      }
    }
  }

  /**
   * Writes what has to be written. A variant that cannot be written because of what it is takes part as a failure.
   *
   * @return the models, the base first
   */
  List<Subject> make() throws IOException, InterruptedException {
    Path folder = folder();
    planned().forEach(p -> warn(p, PlanReport.warnings(p.plan(), p.variant().filter(Variant::measures).isPresent())));
    PlanRun run = new PlanRun(console, options.quiet(), options.makingThreads(), options.overwrite());
    List<Subject> subjects = new ArrayList<>();
    for (Participant participant : participants) {
      subjects.add(
        switch (participant) {
          case Present(Subject subject) -> subject;
          case Planned planned -> make(
            planned,
            folder.resolve(planned.fileName()),
            run,
            subjects.isEmpty() ? null : subjects.getFirst().file()
          );
        }
      );
    }
    closeModels();
    return subjects;
  }

  /**
   * Writes a model.
   *
   * @param base the file of the base; {@code null} if this is the base
   */
  private Subject make(Planned planned, Path file, PlanRun run, Path base) throws IOException, InterruptedException {
    try {
      switch (planned.variant().map(Variant::kind).orElse(Variant.Kind.ROUNDED)) {
        case ROUNDED -> {
          double _ = run.write(planned.model(), planned.plan(), file, planned.task());
        }
        case IMATRIX -> {
          double _ = run.write(planned.model(), weighted(planned, base), file, planned.task());
        }
        case GPTQ -> makeByGptq(planned, file);
      }
      return new Subject(planned.name(), file, planned.origin(), planned.adapters(), Optional.empty());
    } catch (FormatException | QuantizationException e) {
      if (base == null) {
        throw e;
      }
      return failed(planned.name(), planned.origin(), e);
    }
  }

  /** The plan of a variant, with the importance that is measured on the base once for all variants. */
  private QuantizationPlan weighted(Planned planned, Path base) throws IOException {
    Calibration calibration = making.calibration().orElseThrow();
    if (measured == null) {
      if (temporary == null) {
        temporary = TemporaryFolder.create(0);
      }
      Path file = temporary.path().resolve("imatrix.gguf");
      warn(planned, new ImportanceRun(console, options.quiet()).measure(base, file, calibration, false).warnings());
      measured = ImportanceMatrix.open(file);
    }
    QuantizeOptions quantize = planned.variant().orElseThrow().options().withImportance(measured, calibration.name());
    return QuantizationPlan.quantize(planned.model(), quantize);
  }

  private void makeByGptq(Planned planned, Path file) throws IOException, InterruptedException {
    GptqTask task = new GptqTask(console, options.quiet(), planned.name());
    if (deviceKnown) {
      task.omitDevice();
    }
    deviceKnown = true;
    QuantizeOptions quantize = planned.variant().orElseThrow().options();
    GptqResult _ = task.run(planned.model(), quantize, Optional.empty(), making.gptq().orElseThrow(), file);
    warn(planned, task.warnings());
  }

  private void warn(Planned planned, List<String> warnings) {
    if (!options.quiet()) {
      warnings.forEach(warning -> console.warn(planned.name() + ": " + warning));
    }
  }

  /** Where models are made, with enough room; {@code null} if none are. */
  private Path folder() throws IOException {
    List<Planned> planned = planned();
    if (planned.isEmpty()) {
      return null;
    }
    long bytes = planned
      .stream()
      .mapToLong(p -> p.plan().fileBytes())
      .sum();
    // GPTQ converts the base once more.
    bytes += making.gptq().isPresent() && planned.getFirst().variant().isEmpty()
      ? planned.getFirst().plan().fileBytes()
      : 0;
    if (making.keep().isPresent()) {
      Path keep = making.keep().get();
      Files.createDirectories(keep);
      TemporaryFolder.requireRoom(keep, bytes, "");
      return keep;
    }
    temporary = TemporaryFolder.create(bytes);
    return temporary.path();
  }

  /**
   * What models are called: their files' names without ending; where two are called the same, with the folder before it.
   *
   * @param models no two the same
   * @param taken names that are others' already
   */
  static List<String> names(List<MeasuredModel> models, List<String> taken) {
    List<String> names = new ArrayList<>(models.stream().map(MeasuredModel::name).toList());
    lengthen(names, taken, i -> {
      Path parent = models.get(i).path().toAbsolutePath().normalize().getParent();
      return (parent == null || parent.getFileName() == null ? "" : parent.getFileName() + "/") + names.get(i);
    });
    lengthen(names, taken, i -> models.get(i).toString());
    return names;
  }

  /** Gives longer names to those that share one. */
  private static void lengthen(List<String> names, List<String> taken, IntFunction<String> longer) {
    Map<String, Integer> counts = new HashMap<>();
    taken.forEach(name -> counts.merge(name, 1, Integer::sum));
    names.forEach(name -> counts.merge(name, 1, Integer::sum));
    for (int i = 0; i < names.size(); i++) {
      if (counts.get(names.get(i)) > 1) {
        names.set(i, longer.apply(i));
      }
    }
  }

  private void closeModels() throws IOException {
    while (!opened.isEmpty()) {
      opened.removeLast().close();
    }
  }

  @Override
  public void close() throws IOException {
    try (TemporaryFolder _ = temporary; ImportanceMatrix _ = measured) {
      closeModels();
    }
  }
}
