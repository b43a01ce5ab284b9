package dev.attar.quant.gptq;

import dev.attar.calibration.CalibrationListener;
import dev.attar.calibration.Calibrator;
import dev.attar.calibration.Drift;
import dev.attar.calibration.Gram;
import dev.attar.calibration.GramPlan;
import dev.attar.calibration.GramRequest;
import dev.attar.calibration.GramStore;
import dev.attar.calibration.LinearInput;
import dev.attar.calibration.linear.BandReader;
import dev.attar.calibration.linear.InputStatistics;
import dev.attar.calibration.linear.PreparedGram;
import dev.attar.calibration.linear.Pruning;
import dev.attar.compute.Device;
import dev.attar.compute.DeviceChoice;
import dev.attar.compute.DeviceException;
import dev.attar.compute.Devices;
import dev.attar.compute.Workers;
import dev.attar.formats.FormatException;
import dev.attar.formats.MappedFile;
import dev.attar.formats.Metadata;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.gguf.GgufLayout;
import dev.attar.formats.gguf.GgufWriter;
import dev.attar.formats.imatrix.ImportanceMatrix;
import dev.attar.quant.QuantizationException;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizationRun;
import dev.attar.quant.QuantizeOptions;
import dev.attar.quant.TensorPlan;
import dev.attar.quant.TensorRole;
import dev.attar.quant.TypeCandidates;
import dev.attar.quant.budget.BudgetPlan;
import dev.attar.quant.budget.BudgetPlanner;
import dev.attar.quant.budget.LossModel;
import dev.attar.quant.budget.OutputErrors;
import dev.attar.quant.budget.SizeTarget;
import dev.attar.quant.budget.StoredGrams;
import dev.attar.quant.budget.TensorErrors;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.Set;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Predicate;
import java.util.stream.Collectors;

/**
 * Quantizes a model by GPTQ, prunes it, or both: measures what enters its layers on calibration text, works on them one after the other,
 * and writes the file. What is done is kept in a {@link WorkFolder}, so that an interrupted run can be resumed and gives the same file.
 */
public final class GptqRun {

  /**
   * The most work, in multiplications, for which statistics are sequential unless the user decides: a run of the model over the text
   * for each input of each layer. Some ten minutes on two cores.
   */
  public static final double SEQUENTIAL_WORK = 2e13;

  /** The part of rounding's loss that GPTQ leaves, for predictions. Measured on a small model: 0.55 to 0.65. */
  private static final double KEPT_LOSS = 0.6;

  private final Model model;
  private final QuantizeOptions quantize;
  private final Optional<Budget> budget;
  private final GptqOptions options;
  private final Path out;
  private final GptqListener listener;
  private final boolean sequential;
  private final boolean output;
  private final Map<String, Tensor> tensors = new HashMap<>();
  private final List<TensorReport> reports = new ArrayList<>();

  private MemoryLimit memory;
  private RunSettings settings;
  private WorkFolder work;
  private Path runnable;
  private QuantizationPlan least; // as small as any that may come of this
  private List<TensorInfo> toChoose = List.of();
  private QuantizationPlan plan;
  private ImportanceMatrix importance;
  private Map<String, TensorPlan> plans;
  private OptionalDouble divergence = OptionalDouble.empty();
  private GramStore store;
  private Workers workers;
  private String measuring = "";
  private String quantizing = "";
  private long toQuantize; // weights, in this pass
  private long quantized;
  private int settled; // inputs whose rounded weights the running model has
  private boolean replaced; // whether the running model differs from the base

  private GptqRun(
    Model model,
    QuantizeOptions quantize,
    Optional<Budget> budget,
    GptqOptions options,
    Path out,
    GptqListener listener
  ) {
    this.model = model;
    this.quantize = quantize;
    this.budget = budget;
    this.options = options;
    this.out = out;
    this.listener = listener;
    model.tensors().forEach(tensor -> tensors.put(tensor.info().name(), tensor));
    output = tensors.containsKey("output.weight");
    sequential = !options.roundOnly() && options.sequential().orElseGet(this::isSmall);
    memory = MemoryLimit.of(model, options, sequential);
  }

  private boolean isSmall() {
    double weights = 0;
    long layers = 0;
    for (Tensor tensor : tensors.values()) {
      boolean embeds = TensorRole.of(tensor.info().name()) == TensorRole.TOKEN_EMBEDDING;
      boolean isMatrix = tensor.info().rank() > 1 && tensor.info().dimension(1) > 1;
      weights += isMatrix && !embeds ? tensor.info().elements() : 0;
      layers += TensorRole.of(tensor.info().name()) == TensorRole.FFN_DOWN ? 1 : 0;
    }
    // Weights are replaced as numbers, which a model of encoded ones has no place for.
    if (isEncoded()) {
      return false;
    }
    // Four inputs a layer, each of which is reached half way through the model on average, by the base and by the quantized model.
    return 4 * layers * weights * options.tokens() <= SEQUENTIAL_WORK;
  }

  /** Whether the model has been quantized already. */
  private boolean isEncoded() {
    return tensors
      .values()
      .stream()
      .anyMatch(tensor -> tensor.info().type().isQuantized());
  }

  /**
   * Quantizes a model.
   *
   * @param model the model
   * @param quantize what types its tensors get, unless there is a budget; an importance matrix in it is used for the search of scales
   *     instead of the measured one
   * @param budget the size that the result must fit: types are chosen for it
   * @param out the file
   * @throws QuantizationException if the plan has problems, the memory does not suffice, or an interrupted run had other settings
   * @throws IOException if a file cannot be read or written, or the model cannot be run on the texts
   */
  public static GptqResult run(
    Model model,
    QuantizeOptions quantize,
    Optional<Budget> budget,
    GptqOptions options,
    Path out,
    GptqListener listener
  ) throws IOException, InterruptedException {
    try {
      return new GptqRun(model, quantize, budget, options, out, listener).run();
    } catch (DeviceException e) {
      throw new IOException(e.getMessage(), e);
    } catch (IOException e) {
      throw unlessInterrupted(e);
    }
  }

  /** An interrupted thread gets the exception from whatever it was doing. */
  private static IOException unlessInterrupted(IOException e) throws InterruptedException {
    if (Thread.interrupted()) {
      throw (InterruptedException) new InterruptedException().initCause(e);
    }
    return e;
  }

  /**
   * Chooses the types that {@link #run} would give the tensors, and writes nothing.
   *
   * @param folder an empty folder for what is measured meanwhile
   * @return the choice; its plan's importance matrix is closed
   */
  public static BudgetPlan choose(
    Model model,
    QuantizeOptions quantize,
    Budget budget,
    GptqOptions options,
    Path folder,
    GptqListener listener
  ) throws IOException, InterruptedException {
    GptqRun run = new GptqRun(model, quantize, Optional.of(budget), options, folder.resolve("choice"), listener);
    Optional<BudgetPlan> copy = run.prepare();
    if (copy.isPresent()) {
      return copy.get();
    }
    AtomicReference<BudgetPlan> choice = new AtomicReference<>();
    try (Device device = run.openDevice()) {
      run.inWorkFolder(() -> run.measure(device, calibrator -> choice.set(run.choose(calibrator, device))));
    } catch (DeviceException e) {
      throw new IOException(e.getMessage(), e);
    } catch (IOException e) {
      throw unlessInterrupted(e);
    }
    return choice.get();
  }

  /** The folder in which a run keeps what it has done: it is there while there is something that {@code resume} can go on with. */
  public static Path workFolder(Path out) {
    return WorkFolder.of(out);
  }

  /** Whether a tensor is quantized by GPTQ, if the text passes through it. */
  public static boolean quantizes(TensorPlan step) {
    return (
      !step.copies() &&
      MatrixQuantizer.supports(step.target()) &&
      step.source().rank() > 1 &&
      // What a tied embedding is looked up for matters as much as what it is multiplied with.
      TensorRole.of(step.name()) !=
      TensorRole.TOKEN_EMBEDDING
    );
  }

  /** What is done with a model that has been opened for calibration, and whose importance is known. */
  @FunctionalInterface
  private interface Work {
    void run(Calibrator calibrator) throws IOException, InterruptedException;
  }

  private GptqResult run() throws IOException, InterruptedException {
    GgufWriter.checkOutput(out, options.overwrite());
    AtomicLong tokens = new AtomicLong();
    Optional<BudgetPlan> copy = prepare();
    if (copy.isPresent()) {
      inWorkFolder(() -> {
        plan = copy.get().plan();
        write(Map.of());
        work.delete();
      });
    } else {
      try (Device device = openDevice()) {
        inWorkFolder(() -> {
          GgufWriter.checkSpace(work.path(), work.path(), spaceNeeded());
          measure(device, calibrator -> {
            quantize(calibrator, device);
            tokens.set(calibrator.tokens());
          });
          work.delete();
        });
      }
    }
    return new GptqResult(plan, sequential, tokens.get(), reports, divergence);
  }

  /** Opens what computes, and checks that its memory suffices. */
  private Device openDevice() throws IOException {
    Devices.Opened opened = Devices.open(options.device(), options.threads());
    try {
      listener.device(opened.line());
      limitMemory(opened.device());
      if (!toChoose.isEmpty()) {
        memory.requireForChoosing(toChoose);
      }
      require(least);
      return opened.device();
    } catch (IOException | RuntimeException e) {
      opened.close();
      throw e;
    }
  }

  private void limitMemory(Device device) {
    memory = MemoryLimit.of(model, options, sequential).within(device);
  }

  private void quantize(Calibrator calibrator, Device device) throws IOException, InterruptedException {
    plan = QuantizationPlan.quantize(model, types(calibrator, device));
    plan.requireNoProblems();
    plans = new LinkedHashMap<>();
    for (TensorPlan step : plan.tensors()) {
      plans.put(step.name(), step);
      work.deleteDamaged(step.name(), step.bytesAfter());
    }
    if (!options.roundOnly()) {
      quantizeLayers(calibrator, device);
    }
    write(calibrator);
  }

  /** What is done while the work folder is there. */
  @FunctionalInterface
  private interface Step {
    void run() throws IOException, InterruptedException;
  }

  private void inWorkFolder(Step what) throws IOException, InterruptedException {
    settings = RunSettings.of(model, quantize, budget, options, sequential);
    work = WorkFolder.open(out, settings.values(), options.resume(), options.overwrite());
    try {
      what.run();
    } finally {
      work.deleteIfIdle();
      work.close();
    }
  }

  /**
   * Finds out, before time is spent, what types and shapes of the tensors say: whether there is something to choose, and enough memory.
   *
   * @return the choice of types if the model is only to be copied, for which nothing has to be measured
   */
  private Optional<BudgetPlan> prepare() throws QuantizationException {
    if (sequential && isEncoded()) {
      throw new QuantizationException(
        model.source() + ": sequential statistics need a model that is not quantized, use --no-sequential"
      );
    }
    QuantizeOptions expected = withImportance(ExpectedImportance.of(model, options.texts().getFirst(), output));
    if (budget.isEmpty()) {
      least = QuantizationPlan.quantize(model, expected);
      require(least);
      return Optional.empty();
    }
    BudgetPlanner planner = BudgetPlanner.of(model, expected, budget.get().target(), BudgetPlanner.LADDER);
    Optional<BudgetPlan> unchanged = planner.unchanged();
    if (unchanged.isEmpty()) {
      least = planner.smallest();
      toChoose = planner.tensors().stream().map(TypeCandidates::tensor).toList();
      memory.requireForChoosing(toChoose);
      require(least);
      return Optional.empty();
    }
    least = unchanged.get().plan();
    require(least);
    if (!unchanged.get().plan().tensors().stream().allMatch(TensorPlan::copies)) {
      return Optional.empty();
    }
    warnOfNoChoice();
    return Optional.of(planned(unchanged.get(), quantize));
  }

  private void require(QuantizationPlan expected) throws QuantizationException {
    if (options.pruning().isPresent()) {
      requirePrunable(expected, options.pruning().get());
    }
    if (!options.roundOnly()) {
      memory.requireFor(expected, options::isWorkedOn);
    }
  }

  /**
   * Checks, before time is spent, that weights can be removed as wanted, and stay removed in the types of a plan.
   *
   * @throws QuantizationException if not; the message names the first tensor
   */
  public static void requirePrunable(QuantizationPlan plan, Pruning pruning) throws QuantizationException {
    int pruned = 0;
    for (TensorPlan step : plan.tensors()) {
      if (!pruning.prunes(step.source())) {
        continue;
      }
      Optional<String> problem = pruning.problem(step.source());
      if (problem.isEmpty() && !MatrixQuantizer.keepsZeros(step.target())) {
        problem = Optional.of("pruned weights cannot be kept at 0 in " + step.target());
      }
      if (problem.isPresent()) {
        throw new QuantizationException(plan.source() + ": " + step.name() + ": " + problem.get());
      }
      pruned++;
    }
    if (pruned == 0) {
      throw new QuantizationException(plan.source() + ": has no matrices in layers, nothing to prune");
    }
  }

  /** Bytes that the disk of the work folder must at least have for what the run is still to write. */
  private long spaceNeeded() throws IOException {
    Path target = Files.exists(out) ? out.toRealPath() : out.toAbsolutePath();
    boolean sameDisk = Files.getFileStore(target.getParent()).equals(Files.getFileStore(work.path()));
    long after = sameDisk ? least.fileBytes() : 0;
    long grams = 0;
    if (!options.roundOnly()) {
      after += WorkSpace.forTensors(least, options::isWorkedOn, work);
    }
    if (!toChoose.isEmpty() && work.readTypes().isEmpty()) {
      grams = WorkSpace.forGrams(toChoose, false);
    } else if (!options.roundOnly()) {
      List<TensorInfo> weights = WorkSpace.missing(least, options::isWorkedOn, work)
        .stream()
        .map(TensorPlan::source)
        .toList();
      grams = WorkSpace.forGrams(weights, sequential);
      if (!sequential) {
        // Where memory does not suffice for all, passes fill at least half of it, and files take half of what matrices do in memory.
        grams = Math.min(grams, memory.forMatrices() / 4);
      }
    }
    // Gram matrices are gone when the output is written.
    long held = WorkSpace.held(work.resolve("gram"));
    return WorkSpace.forModel(model, work.resolve("model.gguf")) + Math.max(0, Math.max(grams, after) - held);
  }

  private void warnOfNoChoice() {
    listener.warn(
      "all tensors fit the target of " +
        budget.get().target() +
        " as they are, or in the types given: nothing is measured to choose types"
    );
  }

  /** A choice as it is to be carried out, with these options. */
  private BudgetPlan planned(BudgetPlan choice, QuantizeOptions with) {
    SizeTarget target = budget.get().target();
    QuantizeOptions chosen = TypeChoice.of(choice).applyTo(with, target);
    QuantizationPlan chosenPlan = QuantizationPlan.quantize(model, chosen);
    return new BudgetPlan(target, chosen, chosenPlan, choice.choices(), choice.divergence());
  }

  private void measure(Device device, Work what) throws IOException, InterruptedException {
    runnable = RunnableModel.of(model, work.resolve("model.gguf"), options.threads(), (done, total, _) ->
      listener.at("converting", done, total, "values")
    );
    Calibrator.Settings calibration = new Calibrator.Settings(
      options.texts(),
      options.tokens(),
      options.context(),
      options.threads(),
      // What this process may not have is not tried again.
      device.hasOwnMemory() ? options.device() : DeviceChoice.CPU,
      output,
      sequential,
      options.patience()
    );
    store = GramStore.open(work.resolve("gram"), settings.identity());
    try (
      Calibrator calibrator = Calibrator.open(runnable, calibration, this::window);
      Workers threads = new Workers(options.threads())
    ) {
      workers = threads;
      // The worker has the device too by now, and has taken its part of the device's memory.
      limitMemory(device);
      calibrator.warnings().forEach(listener::warn);
      try (ImportanceMatrix measured = importance(calibrator)) {
        importance = measured;
        what.run(calibrator);
      }
    }
  }

  /** The types of the tensors: as the user says, as an interrupted run has chosen, or to be chosen now. */
  private QuantizeOptions types(Calibrator calibrator, Device device) throws IOException, InterruptedException {
    if (budget.isEmpty()) {
      return withImportance(importance);
    }
    Optional<TypeChoice> earlier = work.readTypes();
    TypeChoice choice = earlier.isPresent() ? earlier.get() : TypeChoice.of(choose(calibrator, device));
    work.writeTypes(choice);
    divergence = choice.divergence();
    return choice.applyTo(withImportance(importance), budget.get().target());
  }

  private BudgetPlan choose(Calibrator calibrator, Device device) throws IOException, InterruptedException {
    BudgetPlanner planner = BudgetPlanner.of(
      model,
      withImportance(importance),
      target(calibrator),
      BudgetPlanner.LADDER
    );
    Optional<BudgetPlan> unchanged = planner.unchanged();
    if (unchanged.isPresent()) {
      warnOfNoChoice();
      return planned(unchanged.get(), withImportance(importance));
    }
    Set<String> names = new HashSet<>();
    planner.tensors().forEach(candidates -> names.add(candidates.tensor().name()));
    List<GramRequest> requests = new ArrayList<>();
    for (LinearInput input : calibrator.inputs()) {
      if (input.weights().stream().anyMatch(names::contains)) {
        requests.addAll(requests(input));
      }
    }
    memory.requireForChoosing(
      requests
        .stream()
        .mapToInt(request -> request.input().columns())
        .max()
        .orElse(0)
    );
    List<List<GramRequest>> passes = GramPlan.passes(requests, memory.forMatrices(), memory.tile());
    for (int i = 0; i < passes.size(); i++) {
      measuring = "measuring inputs (pass " + (i + 1) + " of " + passes.size() + ")";
      List<GramRequest> missing = new ArrayList<>();
      for (GramRequest request : passes.get(i)) {
        if (!isCollected(request)) {
          missing.add(request);
        }
      }
      if (!missing.isEmpty()) {
        calibrator.grams(missing, store);
      }
    }
    List<TensorErrors> errors = planner.errors(
      new StoredGrams(store, calibrator.inputs()),
      device,
      new OutputErrors.Settings(OutputErrors.Settings.DEFAULT_ROWS, options.threads()),
      (done, total, _) -> listener.at("measuring errors", done, total, "weights")
    );
    LossModel losses = planner.calibrate(errors, probes -> budget.get().meter().measure(runnable, probes));
    BudgetPlan choice = planner.choose(options.roundOnly() ? losses : losses.reduced(KEPT_LOSS));
    return planned(choice, withImportance(importance));
  }

  /** The target for what is planned, to which the file will add what GPTQ says of itself. */
  private SizeTarget target(Calibrator calibrator) {
    if (options.roundOnly() || !(budget.get().target() instanceof SizeTarget.FileSize size)) {
      return budget.get().target();
    }
    QuantizationPlan any = QuantizationPlan.quantize(model, withImportance(importance));
    Metadata after = settings.metadata(any.metadata(), calibrator.tokens(), sequential, List.of());
    long added = GgufLayout.of(after, List.of()).fileBytes() - GgufLayout.of(any.metadata(), List.of()).fileBytes();
    // Both are padded, so up to a padding more may be added.
    return new SizeTarget.FileSize(Math.max(1, size.bytes() - added - GgufLayout.of(after, List.of()).alignment()));
  }

  private QuantizeOptions withImportance(ImportanceMatrix measured) {
    return quantize.importance() != null
      ? quantize
      : quantize.withImportance(measured, options.texts().getFirst().getFileName().toString());
  }

  private void window(CalibrationListener.Phase phase, int done, int windows) {
    String name = switch (phase) {
      case IMPORTANCE -> "measuring importance";
      case GRAMS -> measuring;
      case INFLUENCE -> "measuring the influence of blocks";
    };
    listener.at(name, done, windows, "windows");
  }

  private ImportanceMatrix importance(Calibrator calibrator) throws IOException {
    Path file = work.resolve(WorkFolder.IMPORTANCE);
    if (Files.exists(file)) {
      try {
        return ImportanceMatrix.open(file);
      } catch (FormatException _) {
        // Damaged by a power cut, say: it is measured again and replaced.
      }
    }
    calibrator.importance(file);
    return ImportanceMatrix.open(file);
  }

  /** One pass over the text: the matrices that it collects, and the inputs of which no more are wanted after it. */
  private record Pass(List<GramRequest> requests, List<LinearInput> complete) {}

  private void quantizeLayers(Calibrator calibrator, Device device) throws IOException, InterruptedException {
    List<Pass> passes = passes(calibrator);
    int number = 0;
    for (Pass pass : passes) {
      number++;
      if (Thread.interrupted()) {
        throw new InterruptedException();
      }
      String which = " (pass " + number + " of " + passes.size() + ")";
      if (sequential) {
        settle(calibrator, pass.requests().getFirst().input());
      }
      measuring = "measuring " + pass.requests().getFirst().input().name() + which;
      collect(calibrator, pass);
      quantizing = "quantizing" + which;
      toQuantize = pass
        .complete()
        .stream()
        .flatMap(input -> left(input).stream())
        .mapToLong(weight -> plans.get(weight).source().elements())
        .sum();
      quantized = 0;
      for (LinearInput input : pass.complete()) {
        quantize(device, input);
        for (String weight : weights(input)) {
          if (sequential) {
            replace(calibrator, weight);
            store.deleteDrift(weight);
          }
        }
        for (GramRequest request : requests(input)) {
          store.delete(request);
        }
      }
    }
  }

  private void replace(Calibrator calibrator, String weight) throws IOException {
    calibrator.replace(weight, plans.get(weight).target(), work.tensorFile(weight));
    replaced = true;
  }

  /** Rounds the weights before an input that GPTQ does not do, so that the running model is the one to be written as far as that. */
  private void settle(Calibrator calibrator, LinearInput next) throws IOException, InterruptedException {
    List<LinearInput> inputs = calibrator.inputs();
    for (; !inputs.get(settled).equals(next); settled++) {
      LinearInput input = inputs.get(settled);
      for (String weight : input.weights()) {
        TensorPlan step = plans.get(weight);
        if (step != null && isRounded(step) && !isQuantized(step, input)) {
          if (!Files.exists(work.tensorFile(weight))) {
            round(weight);
          }
          replace(calibrator, weight);
        }
      }
    }
  }

  private void round(String weight) throws IOException, InterruptedException {
    work.writeParts(WorkFolder.tensorName(weight), file ->
      QuantizationRun.run(
        model,
        plan.only(weight),
        (_, offset, bytes, from, length) -> {
          ByteBuffer part = ByteBuffer.wrap(bytes, from, length);
          for (long at = offset; part.hasRemaining(); ) {
            at += file.write(part, at);
          }
        },
        options.threads(),
        (done, total, _) -> listener.at("rounding " + weight, done, total, "values")
      )
    );
  }

  /** Whether a tensor is rounded, unless it is quantized by GPTQ. */
  private static boolean isRounded(TensorPlan step) {
    return (!step.copies() && step.target().isQuantized() && TensorRole.of(step.name()) != TensorRole.TOKEN_EMBEDDING);
  }

  /** The weights of an input that are to be quantized with its statistics. */
  private List<String> weights(LinearInput input) {
    return input
      .weights()
      .stream()
      .filter(name -> isQuantized(plans.get(name), input))
      .toList();
  }

  private boolean isQuantized(TensorPlan step, LinearInput input) {
    return (
      step != null &&
      options.isWorkedOn(step) &&
      step.source().rowLength() == input.columns() &&
      step.source().rows() == step.source().dimension(1) * input.experts()
    );
  }

  private List<Pass> passes(Calibrator calibrator) throws IOException {
    List<List<GramRequest>> requests = new ArrayList<>();
    int widest = 0;
    long drifts = 0;
    for (LinearInput input : calibrator.inputs()) {
      if (weights(input).isEmpty()) {
        continue;
      }
      widest = Math.max(widest, input.columns());
      drifts = Math.max(drifts, driftBytes(input));
      requests.add(requests(input));
    }
    Set<String> measured = measured(calibrator);
    warningsOfRounded(plan, step -> measured.contains(step.name())).forEach(listener::warn);
    calibrator.fewTokens(widest).ifPresent(listener::warn);
    memory.requireForGptq(widest, drifts);
    long available = memory.forMatrices() - (sequential ? drifts : 0);
    List<List<GramRequest>> parts = new ArrayList<>();
    if (sequential) {
      // An input at a time: what is before it has been replaced by then.
      for (List<GramRequest> ofInput : requests) {
        parts.addAll(GramPlan.passes(ofInput, available, memory.tile()));
      }
    } else {
      parts.addAll(GramPlan.passes(requests.stream().flatMap(List::stream).toList(), available, memory.tile()));
    }
    Set<GramRequest> last = requests.stream().map(List::getLast).collect(Collectors.toSet());
    return parts
      .stream()
      .map(part -> new Pass(part, part.stream().filter(last::contains).map(GramRequest::input).toList()))
      .toList();
  }

  /** The matrices that an input is quantized with: of each expert, and of all together if there are several. */
  private static List<GramRequest> requests(LinearInput input) {
    List<GramRequest> requests = new ArrayList<>();
    for (int expert = 0; expert < input.experts(); expert++) {
      requests.add(new GramRequest(input, expert));
    }
    if (input.experts() > 1) {
      requests.add(new GramRequest(input, GramRequest.POOLED));
    }
    return requests;
  }

  /** What measuring the drifts of an input's weights takes. */
  private long driftBytes(LinearInput input) {
    long bytes = 0;
    for (String weight : input.experts() == 1 ? weights(input) : List.<String>of()) {
      bytes += memory.driftBytes(plans.get(weight).source());
    }
    return bytes;
  }

  /** The weights that are to be quantized by GPTQ. */
  private Set<String> measured(Calibrator calibrator) {
    return calibrator
      .inputs()
      .stream()
      .flatMap(input -> weights(input).stream())
      .collect(Collectors.toSet());
  }

  /**
   * Says which tensors of a plan are rounded though it is to be carried out by GPTQ, one line for each reason.
   *
   * @param quantized whether a tensor is quantized by GPTQ
   */
  public static List<String> warningsOfRounded(QuantizationPlan plan, Predicate<TensorPlan> quantized) {
    Map<String, Integer> rounded = new LinkedHashMap<>();
    for (TensorPlan step : plan.tensors()) {
      if (isRounded(step) && !quantized.test(step)) {
        boolean has = MatrixQuantizer.supports(step.target());
        String why = has ? "which no text passed through" : "to " + step.target() + ", which GPTQ does not do";
        rounded.merge(why, 1, Integer::sum);
      }
    }
    List<String> warnings = new ArrayList<>();
    rounded.forEach((why, count) ->
      warnings.add(count + (count == 1 ? " tensor is" : " tensors are") + " rounded " + why)
    );
    return warnings;
  }

  private void collect(Calibrator calibrator, Pass pass) throws IOException {
    List<GramRequest> missing = new ArrayList<>();
    List<String> drifts = new ArrayList<>();
    for (GramRequest request : pass.requests()) {
      if (left(request.input()).isEmpty()) {
        continue;
      }
      if (replaced && request.input().experts() == 1) {
        drifts.addAll(weights(request.input()));
      }
      // Matrix and drift belong to one pass: after an interruption between the two, both are measured again.
      if (sequential || !isCollected(request)) {
        missing.add(request);
      }
    }
    if (!missing.isEmpty()) {
      calibrator.grams(missing, drifts, store);
    }
  }

  /** Whether a matrix is there; one that a power cut has damaged is measured again. */
  private boolean isCollected(GramRequest request) throws IOException {
    try (Gram gram = store.find(request).orElse(null)) {
      return gram != null;
    } catch (FormatException _) {
      store.delete(request);
      return false;
    }
  }

  /** The weights of an input that are still to be quantized. */
  private List<String> left(LinearInput input) {
    return weights(input)
      .stream()
      .filter(weight -> !Files.exists(work.tensorFile(weight)))
      .toList();
  }

  private void quantize(Device device, LinearInput input) throws IOException, InterruptedException {
    List<String> left = left(input);
    if (!left.isEmpty()) {
      try (
        InputStatistics statistics = new InputStatistics(
          device,
          store,
          input,
          new PreparedGram.Use(options.damping(), order(left), sequential)
        );
        BandReader bands = needsAllRows(left) ? new BandReader(device, largest(left)) : new BandReader(device)
      ) {
        for (String weight : left) {
          add(weight, input, bands);
        }
        for (String weight : left) {
          if (Thread.interrupted()) {
            throw new InterruptedException();
          }
          listener.at(quantizing, quantized, toQuantize, "weights");
          quantize(device, statistics, bands, weight);
        }
        statistics.warnings().forEach(listener::warn);
      }
    }
  }

  /** The order in which columns are decided. Blocks of them remove their share of weights each, so pruning wants them well mixed. */
  private PreparedGram.Order order(List<String> weights) {
    if (weights.stream().anyMatch(weight -> options.prunes(plans.get(weight)))) {
      return PreparedGram.Order.NATURAL;
    }
    return options.effort().reach() > 0 ? PreparedGram.Order.GROUPED : PreparedGram.Order.SORTED;
  }

  private boolean needsAllRows(List<String> weights) {
    return (
      options.pruning().map(Pruning::needsAllRows).orElse(false) &&
      weights.stream().anyMatch(weight -> options.prunes(plans.get(weight)))
    );
  }

  /** Values of the largest of these matrices. */
  private int largest(List<String> weights) {
    return weights
      .stream()
      .map(weight -> plans.get(weight).source())
      .mapToInt(info -> Math.multiplyExact(Math.toIntExact(info.dimension(1)), Math.toIntExact(info.rowLength())))
      .max()
      .orElseThrow();
  }

  /** Adds a weight, one matrix after the other if there is one for each expert. */
  private void add(String name, LinearInput input, BandReader bands) {
    Tensor tensor = tensors.get(name);
    TensorInfo info = tensor.info();
    long plane = info.dimension(1);
    for (int expert = 0; expert < input.experts(); expert++) {
      long first = expert * plane;
      int columns = Math.toIntExact(info.rowLength());
      bands.add((from, rows, values) -> tensor.decodeRows(first + from, rows, values, 0), plane, columns);
    }
  }

  private void quantize(Device device, InputStatistics statistics, BandReader bands, String name) throws IOException {
    TensorPlan step = plans.get(name);
    TensorInfo info = step.source();
    Optional<Pruning> pruning = options.pruning().filter(_ -> options.prunes(step));
    MatrixQuantizer quantizer = new MatrixQuantizer(device, workers, options.effort(), step.target(), pruning);
    long plane = info.dimension(1);
    MatrixError[] error = { MatrixError.ZERO };
    try (Drift drift = store.findDrift(name).orElse(null)) {
      work.write(WorkFolder.tensorName(name), to -> {
        for (int expert = 0; expert < statistics.input().experts(); expert++) {
          PreparedGram gram = statistics.of(expert);
          MatrixError ofExpert = quantizer.quantize(
            gram,
            bands,
            drift == null ? null : (from, rows, values) -> copyRows(drift, from, rows, values),
            plane,
            weights(name, expert, gram),
            (encoded, length) -> {
              to.write(encoded, 0, length);
              quantized += (length / step.target().blockBytes()) * (long) step.target().blockLength();
              listener.at(quantizing, quantized, toQuantize, "weights");
            }
          );
          error[0] = error[0].plus(ofExpert);
        }
        // Before the tensor has its name, so that a resumed run finds both or none.
        work.writeReport(new TensorReport(name, step.target(), statistics.damping(), error[0].ratio()));
      });
    }
    listener.quantized(work.readReport(name));
  }

  private static void copyRows(Drift drift, long first, int rows, float[] to) {
    int columns = drift.columns();
    MemorySegment.copy(drift.values(), GridBand.FLOAT, first * columns * Float.BYTES, to, 0, rows * columns);
  }

  /** What the columns weigh when scales are searched: what the user says, or what was measured. */
  private float[] weights(String name, int expert, PreparedGram gram) {
    if (quantize.importance() == null) {
      return gram.importance();
    }
    float[] all = quantize.importance().weights(name).orElse(null);
    int n = gram.columns();
    return all == null ? gram.importance() : Arrays.copyOfRange(all, expert * n, (expert + 1) * n);
  }

  private void write(Calibrator calibrator) throws IOException, InterruptedException {
    Set<String> measured = measured(calibrator);
    for (TensorPlan step : plan.tensors()) {
      if (measured.contains(step.name()) && Files.exists(work.tensorFile(step.name()))) {
        reports.add(work.readReport(step.name()));
      }
    }
    if (!options.roundOnly()) {
      plan = plan.withMetadata(settings.metadata(plan.metadata(), calibrator.tokens(), sequential, reports));
    }
    Map<String, MemorySegment> encoded = new HashMap<>();
    List<MappedFile> files = new ArrayList<>();
    try {
      for (TensorPlan step : plan.tensors()) {
        Optional<MappedFile> file = work.tensor(step.name(), step.bytesAfter());
        file.ifPresent(mapped -> {
          files.add(mapped);
          encoded.put(step.name(), mapped.bytes());
        });
      }
      write(encoded);
    } finally {
      files.forEach(MappedFile::close);
    }
  }

  /** Writes the file. */
  private void write(Map<String, MemorySegment> encoded) throws IOException, InterruptedException {
    QuantizationRun.run(
      model,
      plan,
      encoded,
      out,
      options.overwrite(),
      options.threads(),
      listener::written,
      (done, total, _) -> listener.at("writing", done, total, "values")
    );
  }
}
