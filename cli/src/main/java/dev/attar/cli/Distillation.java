package dev.attar.cli;

import dev.attar.calibration.Calibrator;
import dev.attar.distill.DistillException;
import dev.attar.distill.DistillOptions;
import dev.attar.distill.DistillResult;
import dev.attar.distill.DistillRun;
import dev.attar.distill.student.FreshCheckpoint;
import dev.attar.distill.student.TrainedModel;
import dev.attar.distill.teacher.CachedTeacher;
import dev.attar.distill.teacher.LlamaTeacher;
import dev.attar.distill.teacher.Question.Distribution.Top;
import dev.attar.distill.teacher.Teacher;
import dev.attar.distill.teacher.TeacherIdentity;
import dev.attar.formats.FileDigest;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.OutputCheck;
import dev.attar.formats.architecture.HuggingFaceModel;
import dev.attar.formats.architecture.HuggingFaceWriter;
import dev.attar.prune.structure.Anatomy;
import dev.attar.prune.structure.Cut;
import dev.attar.prune.structure.CutModel;
import dev.attar.prune.structure.Ladder;
import dev.attar.prune.structure.Structure;
import dev.attar.prune.structure.StructureListener;
import dev.attar.prune.structure.StructureOptions;
import dev.attar.prune.structure.StructureResult;
import dev.attar.prune.structure.StructureRun;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizationRun;
import dev.attar.quant.QuantizeOptions;
import dev.attar.quant.gptq.GptqOptions;
import dev.attar.quant.gptq.RunnableModel;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;

/** Trains a student for the user, with progress. To be used once. */
final class Distillation implements AutoCloseable {

  /** How many digits of a digest tell files apart in messages. */
  private static final int SHORT_DIGEST = 12;

  /**
   * What is wanted.
   *
   * @param source what the student is made of
   * @param losses what it is to become
   * @param training how
   * @param quantize the types of the result; empty for those of the student
   * @param writing how to write
   */
  record Wishes(
    StudentOptions.Source source,
    LossOptions losses,
    TrainingOptions training,
    Optional<QuantizeOptions> quantize,
    WriteOptions writing
  ) {}

  private final Wishes wishes;
  private final Model teacher;
  private final DistillTask task;
  private final TemporaryFolder folder;
  private final List<Model> opened = new ArrayList<>();
  private LlamaTeacher running; // null until it is needed
  private Student student; // of the right size; which layers it has may not be chosen yet

  /**
   * Opens the student, and checks that it can learn from the teacher.
   *
   * @param teacher must stay open
   * @param task hears how it goes; closed by its owner
   * @throws IOException if it cannot; the message says why
   */
  Distillation(Wishes wishes, Model teacher, DistillTask task) throws IOException, InterruptedException {
    this.wishes = wishes;
    this.teacher = teacher;
    this.task = task;
    folder = TemporaryFolder.create(
      RunnableModel.needsConversion(teacher) ? ModelTypes.of(teacher, Optional.empty()).plan(teacher).fileBytes() : 0
    );
    try {
      student = switch (wishes.source()) {
        case StudentOptions.Source.Layers(List<Integer> numbers) -> ofLayers(numbers, true);
        case StudentOptions.Source.BestLayers(int count) -> ofLayers(
          IntStream.range(0, requireFewer(count)).boxed().toList(),
          false
        );
        case StudentOptions.Source.Given(Path path) -> given(path);
      };
      check();
    } catch (IOException | InterruptedException | RuntimeException e) {
      close();
      throw e;
    }
  }

  private Student ofLayers(List<Integer> numbers, boolean chosen) throws IOException {
    Anatomy anatomy = Anatomy.of(teacher);
    int layers = anatomy.layers().size();
    if (numbers.getLast() >= layers) {
      throw new DistillException(
        teacher.source() + ": found layer " + numbers.getLast() + " in --layers, expected 0 to " + (layers - 1)
      );
    }
    List<Cut.Layer> whole = anatomy.whole().layers();
    Cut cut = new Cut(numbers.stream().map(whole::get).toList());
    String names = numbers.stream().map(String::valueOf).collect(Collectors.joining(", "));
    String which = chosen
      ? (numbers.size() == 1 ? "layer " : "layers ") + names
      : Text.plural(numbers.size(), "layer") + ", to be chosen,";
    String origin = which + " of the teacher's " + layers;
    return Student.of(teacher, CutModel.of(teacher, cut, Map.of()), origin, cut.numbers(), Optional.of(numbers));
  }

  private int requireFewer(int count) throws IOException {
    Anatomy anatomy = Anatomy.of(teacher);
    anatomy.require(Structure.LAYERS, false);
    int layers = anatomy.layers().size();
    if (count >= layers) {
      throw new DistillException(
        teacher.source() + ": found --keep-layers " + count + ", expected fewer than the " + layers + " that it has"
      );
    }
    return count;
  }

  private Student given(Path path) throws IOException, InterruptedException {
    if (isConfiguration(path)) {
      return fresh(path);
    }
    Model model = Models.open(path);
    opened.add(model);
    return Student.of(teacher, model, ModelArgument.name(path), Cut.all(count(model, "block_count")), Optional.empty());
  }

  private Student fresh(Path path) throws IOException, InterruptedException {
    Path place = Files.createDirectory(folder.path().resolve("student"));
    Path written = FreshCheckpoint.write(path, teacher, place, seed());
    try {
      Model model = HuggingFaceModel.open(written);
      opened.add(model);
      String origin = "fresh weights for " + path + ", seed " + seed();
      return Student.of(teacher, model, origin, Cut.all(count(model, "block_count")), Optional.empty()).named(
        written,
        path
      );
    } catch (IOException e) {
      // The user does not know temporary names.
      throw new DistillException(ErrorReport.message(e).replace(written.toString(), path.toString()), e);
    }
  }

  /** What a model says of its sizes; 0 if it does not. */
  private static int count(Model model, String key) {
    long count = model.metadata().integer(model.metadata().architecture() + "." + key).orElse(0);
    return (int) Math.clamp(count, 0, Integer.MAX_VALUE);
  }

  private long seed() {
    return wishes.training().seed();
  }

  /** Whether this is a configuration without weights. */
  private static boolean isConfiguration(Path path) throws IOException {
    if (!Files.isDirectory(path)) {
      return path.toString().endsWith(".json") && Files.exists(path);
    }
    try (Stream<Path> files = Files.list(path)) {
      List<String> names = files.map(file -> file.getFileName().toString()).toList();
      return (
        names.contains("config.json") &&
        names.stream().noneMatch(name -> name.matches(".*\\.(safetensors|bin|pt|gguf)"))
      );
    }
  }

  /** What the student was, or is to be. */
  Student student() {
    return student;
  }

  /** What the student is from: the teacher, or a model of its own. */
  Model origin() {
    return opened.isEmpty() ? teacher : opened.getFirst();
  }

  private void check() throws IOException {
    Optional<String> obstacle = student.map().obstacle();
    if (wishes.training().insistsOnReconstruction() && obstacle.isPresent()) {
      throw new DistillException(student.model().source() + ": --reconstruct-steps: " + obstacle.get());
    }
    requireStates(options(wishes.training().knownSteps()).loss());
    plan(student.trained(single())).requireNoProblems();
  }

  private void requireStates(DistillOptions.Loss loss) throws DistillException {
    int theirs = count(teacher, "block_count");
    for (DistillOptions.StatePair pair : loss.states()) {
      requireBlock(student.model(), pair.student(), student.shape().blocks());
      requireBlock(teacher, pair.teacher(), theirs);
    }
  }

  private static void requireBlock(Model model, int block, int blocks) throws DistillException {
    if (block >= blocks) {
      throw new DistillException(
        model.source() + ": found block " + block + " in --states, expected -1 to " + (blocks - 1)
      );
    }
  }

  /** Checks, before long work, that the output can be made of the student. */
  void check(ModelOutput out) throws IOException {
    if (out.isFolder()) {
      long _ = HuggingFaceWriter.check(student.trained(false), ModelOutput.checkpoint(origin()), student.numbers());
    }
  }

  /** The files that are read. */
  List<Path> inputs() throws IOException {
    List<Path> inputs = Output.inputs(teacher);
    for (Model model : opened) {
      inputs.addAll(Output.inputs(model));
    }
    inputs.addAll(wishes.training().inputs());
    return inputs;
  }

  /** How to train, if there are so many steps of distillation. */
  private DistillOptions options(OptionalInt steps) {
    Optional<List<Integer>> ends = Optional.of(student.map().ends()).filter(_ -> student.map().obstacle().isEmpty());
    DistillOptions.Loss loss = wishes.losses().loss(student.map().pairs(), student.shared().tokens());
    return wishes.training().options(loss, ends, steps, student.shape().embedding(), threads());
  }

  /** Whether the result is quantized, and so has to be had as it was computed. */
  private boolean single() {
    return wishes.quantize().isPresent();
  }

  /** What becomes of the student as a GGUF file. */
  private QuantizationPlan plan(Model trained) throws IOException {
    ModelTypes types = ModelTypes.of(origin(), wishes.quantize());
    return types.plan(trained);
  }

  /** Tells what would be done. */
  DistillReport dryRun() throws IOException {
    DistillReport report = report(plan(student.trained(single())), options(wishes.training().knownSteps()));
    report.setNeed(DistillRun.need(student.model(), options(wishes.training().knownSteps()), teacherWidth()));
    return report;
  }

  private int teacherWidth() {
    return count(teacher, "embedding_length");
  }

  private DistillReport report(QuantizationPlan plan, DistillOptions options) {
    DistillReport report = new DistillReport(teacher, student, options, plan);
    if (single()) {
      report.setRounded();
    }
    student.shared().notes().forEach(report::addWarning);
    ModelTypes.of(origin(), Optional.empty())
      .warning(Optional.of("what is trained").filter(_ -> !single()), "begin with the original")
      .ifPresent(report::addWarning);
    PlanReport.warnings(plan, false).forEach(report::addWarning);
    return report;
  }

  /**
   * Trains and writes.
   *
   * @param out what is written
   * @param metrics where to write what was measured at each step
   * @param resume whether to go on with what an interrupted run has left
   */
  DistillReport run(ModelOutput out, Optional<Path> metrics, boolean resume) throws IOException, InterruptedException {
    DistillRun.Need _ = DistillRun.need(student.model(), options(wishes.training().knownSteps()), teacherWidth());
    DistillWork work = DistillWork.of(out.path());
    if (resume && !work.isThere()) {
      task.warn("--resume: there is no " + work.path() + ", training starts from the beginning");
    }
    long started = System.nanoTime();
    work.begin(resume);
    try {
      DistillReport report = train(out, work, resume);
      if (metrics.isPresent()) {
        work.copyMetrics(metrics.get(), wishes.writing().overwrite());
      }
      work.delete();
      report.setWritten(out, (System.nanoTime() - started) / 1e9);
      task.warnings().forEach(report::addWarning);
      return report;
    } catch (IOException | InterruptedException e) {
      if (work.isOfUse()) {
        throw new ResumableException(work.path(), e);
      }
      work.delete();
      throw e;
    }
  }

  private DistillReport train(ModelOutput out, DistillWork work, boolean resume)
    throws IOException, InterruptedException {
    if (wishes.source() instanceof StudentOptions.Source.BestLayers(int count)) {
      Optional<List<Integer>> before = work.layers();
      student = ofLayers(before.isPresent() ? before.get() : choose(count), true);
      work.putLayers(Arrays.stream(student.numbers()).boxed().toList());
    }
    TrainingOptions training = wishes.training();
    LlamaTeacher.Settings settings = new LlamaTeacher.Settings(
      training.texts(),
      training.validation(),
      training.tokens(),
      training.context(),
      training.validationWindows(),
      student.shared().tokens(),
      threads(),
      OptionalInt.empty(),
      training.patience()
    );
    task.at("reading the teacher", 0, 1, "models");
    TeacherIdentity identity = TeacherIdentity.of(teacher.source(), settings);
    try (Teacher asked = open(identity, settings)) {
      DistillOptions options = options(training.steps(asked.training()));
      DistillResult result = DistillRun.run(
        student.model(),
        asked,
        options,
        identity(identity),
        work.training(),
        resume,
        task
      );
      // A cache may have answered all; then it is not run for this alone.
      OptionalDouble own = running == null
        ? OptionalDouble.empty()
        : OptionalDouble.of(TeacherPerplexity.of(running, task));
      DistillMeasures measures = new DistillMeasures(result, asked.validation(), options, own);
      return write(out, result, marks(identity, measures, options), measures, options);
    }
  }

  private int threads() {
    return wishes.writing().computeThreads();
  }

  /** The teacher, run by llama.cpp or remembered. */
  private Teacher open(TeacherIdentity identity, LlamaTeacher.Settings settings) throws IOException {
    DistillOptions.Loss loss = options(OptionalInt.empty()).loss();
    Optional<Path> cache = wishes.losses().cache();
    if (cache.isEmpty() || loss.top().isEmpty()) {
      return run(settings);
    }
    Top top = new Top(loss.top().getAsInt(), loss.temperature());
    return CachedTeacher.open(cache.get(), identity, top, () -> run(settings));
  }

  private Teacher run(LlamaTeacher.Settings settings) throws IOException {
    running = LlamaTeacher.open(runnable(), settings);
    running.warnings().forEach(task::warn);
    return running;
  }

  /** The teacher as a file that llama.cpp can run. */
  private Path runnable() throws IOException {
    try {
      return RunnableModel.of(teacher, folder.path().resolve("teacher.gguf"), threads(), (done, total, _) ->
        task.at("converting the teacher", done, total, "values")
      );
    } catch (InterruptedException e) {
      throw (InterruptedIOException) new InterruptedIOException().initCause(e);
    }
  }

  private List<Integer> choose(int count) throws IOException, InterruptedException {
    TrainingOptions training = wishes.training();
    Path runnable = runnable();
    Anatomy anatomy = Anatomy.of(teacher);
    int removed = anatomy.layers().size() - count;
    long tokens = Math.min(Calibrator.DEFAULT_TOKENS, training.tokens().orElse(Calibrator.DEFAULT_TOKENS));
    StructureOptions options = new StructureOptions(
      Structure.LAYERS,
      new Ladder.Step(removed, (double) removed / anatomy.layers().size()),
      false,
      StructureOptions.DEFAULT_MULTIPLE,
      false,
      GptqOptions.DEFAULT_DAMPING,
      training.texts(),
      Math.max(tokens, training.context()),
      training.context(),
      threads(),
      training.device(),
      Long.MAX_VALUE,
      training.patience()
    );
    Calibration calibration = new Calibration(
      training.texts(),
      options.tokens(),
      training.context(),
      threads(),
      training.patience()
    );
    Path measured = Files.createDirectory(folder.path().resolve("layers"));
    ModelTypes types = ModelTypes.of(teacher, Optional.empty());
    CutMeter meter = new CutMeter(runnable, types, new TrialModels(calibration, task.progress()));
    StructureListener listener = new StructureListener() {
      @Override
      public void at(String phase, long done, long total, String unit) {
        task.at(phase, done, total, unit);
      }

      @Override
      public void device(String line) {
        task.device(line);
      }

      @Override
      public void warn(String message) {
        // Of the texts: what matters of them is said when they are trained on.
      }
    };
    StructureResult result = StructureRun.run(teacher, runnable, options, measured, meter, listener);
    return Arrays.stream(result.cut().numbers()).boxed().toList();
  }

  private DistillReport write(
    ModelOutput out,
    DistillResult result,
    Map<String, MetadataValue> marks,
    DistillMeasures measures,
    DistillOptions options
  ) throws IOException, InterruptedException {
    LoadCheck load = new LoadCheck(out.path(), threads(), wishes.training().patience());
    OutputCheck check = file -> {
      task.at("loading the result in llama.cpp", 0, 1, "models");
      load.check(file);
    };
    try (Model trained = TrainedModel.open(student.model(), result.best(), single(), marks)) {
      QuantizationPlan plan = plan(trained);
      boolean overwrite = wishes.writing().overwrite();
      if (out.isFolder()) {
        HuggingFaceWriter.write(
          trained,
          ModelOutput.checkpoint(origin()),
          student.numbers(),
          out.path(),
          overwrite,
          (done, total, _) -> task.at("writing", done, total, "bytes"),
          check
        );
      } else {
        QuantizationRun.run(trained, plan, Map.of(), out.path(), overwrite, threads(), check, (done, total, _) ->
          task.at("writing", done, total, "values")
        );
      }
      DistillReport report = report(plan, options);
      report.setMeasures(measures);
      return report;
    }
  }

  private Map<String, MetadataValue> marks(TeacherIdentity identity, DistillMeasures measures, DistillOptions options) {
    Map<String, MetadataValue> marks = new LinkedHashMap<>();
    String prefix = TrainedModel.PREFIX;
    marks.put(prefix + "teacher", MetadataValue.string(ModelArgument.name(teacher.source())));
    marks.put(prefix + "teacher_sha256", MetadataValue.string(identity.values().get("teacher")));
    marks.put(prefix + "student", MetadataValue.string(student.origin()));
    marks.put(prefix + "texts", MetadataValue.strings(names(wishes.training().texts())));
    marks.put(
      prefix + "texts_sha256",
      MetadataValue.strings(
        identity
          .values()
          .entrySet()
          .stream()
          .filter(entry -> entry.getKey().startsWith("text "))
          .map(Map.Entry::getValue)
          .toList()
      )
    );
    marks.put(prefix + "loss", MetadataValue.string(wishes.losses().kind().toString()));
    DistillOptions.Loss loss = options.loss();
    if (loss.divergenceWeight() > 0) {
      marks.put(prefix + "temperature", MetadataValue.float32(loss.temperature()));
      marks.put(prefix + "kl_weight", MetadataValue.float32(loss.divergenceWeight()));
      loss.top().ifPresent(k -> marks.put(prefix + "top_k", MetadataValue.uint32(k)));
    }
    marks.put(prefix + "ce_weight", MetadataValue.float32(loss.crossEntropyWeight()));
    if (loss.comparesStates()) {
      marks.put(
        prefix + "states",
        MetadataValue.string(
          loss
            .states()
            .stream()
            .map(pair -> pair.student() + ":" + pair.teacher())
            .collect(Collectors.joining(","))
        )
      );
      marks.put(prefix + "states_loss", MetadataValue.string(loss.cosine() ? "cosine" : "mse"));
      marks.put(prefix + "states_weight", MetadataValue.float32(loss.statesWeight()));
    }
    options
      .reconstruction()
      .ifPresent(before -> marks.put(prefix + "reconstruct_steps", MetadataValue.uint32(before.steps())));
    marks.put(prefix + "learning_rate", MetadataValue.float32(options.schedule().rate()));
    marks.put(prefix + "batch", MetadataValue.uint32(options.batch()));
    marks.put(prefix + "context", MetadataValue.uint32(options.context()));
    marks.put(prefix + "seed", MetadataValue.string(Long.toString(options.seed())));
    marks.putAll(measures.marks(prefix));
    return marks;
  }

  private static List<String> names(List<Path> files) {
    return files
      .stream()
      .map(file -> file.getFileName().toString())
      .toList();
  }

  /** All that makes a training another one beside its options, in one line. */
  private String identity(TeacherIdentity asked) throws IOException {
    List<String> parts = new ArrayList<>();
    asked.values().forEach((name, value) -> parts.add(name + " " + shortened(value)));
    String ours = opened.isEmpty() ? "" : " " + shortened(FileDigest.sha256(opened.getFirst().files()));
    parts.add("student" + ours + " (" + student.origin() + ")");
    return String.join(", ", parts);
  }

  private static String shortened(String value) {
    return value.length() > SHORT_DIGEST ? value.substring(0, SHORT_DIGEST) : value;
  }

  @Override
  public void close() throws IOException {
    try (folder) {
      for (Model model : opened) {
        model.close();
      }
    }
  }
}
