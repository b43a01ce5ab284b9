package dev.attar.quant.budget;

import dev.attar.compute.Device;
import dev.attar.formats.Model;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.gguf.GgufLayout;
import dev.attar.quant.ChosenTypes;
import dev.attar.quant.FileType;
import dev.attar.quant.QuantizationException;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizationRun;
import dev.attar.quant.QuantizeOptions;
import dev.attar.quant.TypeCandidates;
import java.io.IOException;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.EnumMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.function.Function;
import java.util.stream.Collectors;

/**
 * Chooses the type of each tensor so that the model just fits a size and loses least. In steps, of which each takes much longer than
 * the one before: {@link #of} finds what is possible at all; {@link #errors} measures tensors; {@link #calibrate} measures models; and
 * {@link #choose}, which takes no time.
 */
public final class BudgetPlanner {

  /** The types that are chosen from unless said otherwise. */
  public static final List<TensorType> LADDER = List.of(
    TensorType.Q2_K,
    TensorType.Q3_K,
    TensorType.IQ4_XS,
    TensorType.Q4_K,
    TensorType.Q5_K,
    TensorType.Q6_K,
    TensorType.Q8_0
  );

  /** Probes are made about as coarse as the target, within these bits per weight: losses are well seen there and still add up. */
  private static final double FINEST_PROBE = 4.5;

  private static final double COARSEST_PROBE = 3.4375;

  private final Model model;
  private final QuantizeOptions options;
  private final SizeTarget target;
  private final List<TypeCandidates> tensors;
  private final QuantizationPlan smallest;

  private BudgetPlanner(Model model, QuantizeOptions options, SizeTarget target, List<TypeCandidates> tensors) {
    this.model = model;
    this.options = options;
    this.target = target;
    this.tensors = tensors;
    this.smallest = plan(types(candidates -> candidates.types().getFirst()));
  }

  /**
   * A planner for a model.
   *
   * @param model the model
   * @param options the user's wishes; types that they name are kept, the file type does not matter
   * @param target the size
   * @param ladder the types to choose from, {@link #LADDER} for instance
   * @throws QuantizationException if the model cannot be quantized as wished, or cannot become so small
   */
  public static BudgetPlanner of(Model model, QuantizeOptions options, SizeTarget target, List<TensorType> ladder)
    throws QuantizationException {
    BudgetPlanner planner = new BudgetPlanner(model, options, target, TypeCandidates.of(model, options, ladder));
    planner.requireNoProblems();
    QuantizationPlan smallest = planner.smallest;
    if (!target.admits(smallest)) {
      boolean kept = smallest
        .tensors()
        .stream()
        .anyMatch(t -> t.copies() && t.target().isQuantized());
      throw new QuantizationException(
        model.source() +
          ": cannot become smaller than " +
          target.sizeText(smallest) +
          ", the target is " +
          target +
          (kept && !options.allowRequantize()
            ? "; what is quantized already stays as it is without --allow-requantize"
            : "")
      );
    }
    return planner;
  }

  /** Whatever may be chosen can be carried out. */
  private void requireNoProblems() throws QuantizationException {
    int most = tensors
      .stream()
      .mapToInt(t -> t.types().size())
      .max()
      .orElse(1);
    for (int i = 0; i < most; i++) {
      int level = i;
      plan(types(t -> t.types().get(Math.min(level, t.types().size() - 1)))).requireNoProblems();
    }
  }

  /** The tensors that may change, with the types that they may get, in the order of the file. */
  public List<TypeCandidates> tensors() {
    return tensors;
  }

  /** The plan in which each tensor has the smallest of its types. */
  public QuantizationPlan smallest() {
    return smallest;
  }

  /**
   * The choice of no change, if the target admits it: every tensor stays as it is, or gets the type that the user named. Nothing loses
   * less, and nothing has to be measured to know it.
   */
  public Optional<BudgetPlan> unchanged() {
    Map<String, TensorType> types = types(t -> t.pinned() ? t.types().getFirst() : t.tensor().type());
    QuantizationPlan plan = plan(types);
    if (!target.admits(plan)) {
      return Optional.empty();
    }
    List<BudgetPlan.Choice> choices = new ArrayList<>();
    for (TypeCandidates candidates : tensors) {
      TensorInfo tensor = candidates.tensor();
      TensorType type = types.get(tensor.name());
      double error = type == tensor.type() ? 0 : Double.NaN;
      choices.add(new BudgetPlan.Choice(tensor.withType(type), candidates.pinned(), error, error));
    }
    return Optional.of(new BudgetPlan(target, options(types), plan, choices, OptionalDouble.empty()));
  }

  /**
   * Measures what each type does to each tensor; see {@link OutputErrors#measure}.
   *
   * @throws IOException as said there
   * @throws InterruptedException if the calling thread is interrupted
   */
  public List<TensorErrors> errors(
    GramSource grams,
    Device device,
    OutputErrors.Settings settings,
    QuantizationRun.Progress progress
  ) throws IOException, InterruptedException {
    return OutputErrors.measure(model, tensors, options.importance(), grams, device, settings, progress);
  }

  /**
   * The choices whose divergences are worth measuring: for each kind of tensors one in which these alone are coarse, and last, if there
   * are several kinds, one in which all are.
   *
   * @param errors from {@link #errors}
   */
  public List<Probe> probes(List<TensorErrors> errors) {
    double mean = (8.0 * target.limit(smallest)) / smallest.elements();
    double wanted = Math.clamp(mean, COARSEST_PROBE, FINEST_PROBE);
    Map<String, TensorErrors> byName = errors.stream().collect(Collectors.toMap(TensorErrors::name, e -> e));
    Map<String, Map<String, TensorType>> kinds = new LinkedHashMap<>();
    Map<String, TensorType> all = new LinkedHashMap<>();
    for (TypeCandidates candidates : tensors) {
      String name = candidates.tensor().name();
      candidates
        .types()
        .stream()
        .filter(type -> isMeasurable(byName.get(name).relative().get(type)))
        .min(Comparator.comparingDouble(type -> Math.abs(type.bitsPerWeight() - wanted)))
        .ifPresent(type -> {
          kinds.computeIfAbsent(LossModel.kind(name), _ -> new LinkedHashMap<>()).put(name, type);
          all.put(name, type);
        });
    }
    List<Probe> probes = new ArrayList<>();
    kinds.forEach((kind, types) -> probes.add(probe(kind, types)));
    if (probes.size() > 1) {
      probes.add(probe(Probe.ALL, all));
    }
    return probes;
  }

  private static boolean isMeasurable(double error) {
    return error > 0 && error < Double.POSITIVE_INFINITY;
  }

  private Probe probe(String name, Map<String, TensorType> changed) {
    Map<String, TensorType> types = types(t -> changed.getOrDefault(t.tensor().name(), t.tensor().type()));
    return new Probe(name, changed, options.withChosen(fileType(types), new ChosenTypes(types, Map.of())));
  }

  /**
   * Calibrates the prediction.
   *
   * @param errors from {@link #errors}
   * @param meter measures the {@link #probes}
   * @throws IOException if they cannot be measured
   * @throws InterruptedException if the calling thread is interrupted
   */
  public LossModel calibrate(List<TensorErrors> errors, DivergenceMeter meter)
    throws IOException, InterruptedException {
    List<Probe> probes = probes(errors);
    // Without tensors to choose for there is nothing to predict either.
    return probes.isEmpty()
      ? LossModel.uncalibrated(errors)
      : LossModel.calibrate(errors, probes, meter.measure(probes));
  }

  /**
   * Chooses.
   *
   * @param model what is lost by each choice
   * @throws QuantizationException if there is no choice because types cannot hold the values of a tensor
   */
  public BudgetPlan choose(LossModel model) throws QuantizationException {
    long alignment = GgufLayout.of(smallest.metadata(), smallest.infos()).alignment();
    List<Knapsack.Item> items = new ArrayList<>();
    long capacity = target.limit(smallest) - target.bytes(smallest);
    for (TypeCandidates candidates : tensors) {
      TensorInfo tensor = candidates.tensor();
      List<TensorType> types = candidates.types();
      long[] sizes = types
        .stream()
        .mapToLong(t -> target.bytes(tensor.withType(t), alignment))
        .toArray();
      double[] losses = types
        .stream()
        .mapToDouble(t -> model.loss(tensor.name(), t))
        .toArray();
      items.add(new Knapsack.Item(sizes, losses));
      capacity += sizes[0];
    }
    int[] chosen = Knapsack.solve(items, capacity).orElseThrow(() ->
      new QuantizationException(
        this.model.source() + ": no types that hold the values of all tensors come to at most " + target
      )
    );
    Map<String, TensorType> types = new LinkedHashMap<>();
    List<BudgetPlan.Choice> choices = new ArrayList<>();
    for (int i = 0; i < chosen.length; i++) {
      TypeCandidates candidates = tensors.get(i);
      TensorInfo tensor = candidates.tensor();
      TensorType type = candidates.types().get(chosen[i]);
      double error = model.errors(tensor.name()).relative().get(type);
      double loss = model.loss(tensor.name(), type);
      types.put(tensor.name(), type);
      choices.add(new BudgetPlan.Choice(tensor.withType(type), candidates.pinned(), error, loss));
    }
    QuantizationPlan plan = plan(types);
    if (!target.admits(plan)) {
      throw new AssertionError(target.sizeText(plan) + " chosen for " + target);
    }
    OptionalDouble divergence = model.isCalibrated() ? OptionalDouble.of(model.loss(types)) : OptionalDouble.empty();
    return new BudgetPlan(target, options(types), plan, choices, divergence);
  }

  private Map<String, TensorType> types(Function<TypeCandidates, TensorType> choice) {
    Map<String, TensorType> types = new LinkedHashMap<>();
    tensors.forEach(candidates -> types.put(candidates.tensor().name(), choice.apply(candidates)));
    return types;
  }

  private QuantizeOptions options(Map<String, TensorType> types) {
    return options.withChosen(fileType(types), new ChosenTypes(types, target.metadata()));
  }

  private QuantizationPlan plan(Map<String, TensorType> types) {
    return QuantizationPlan.quantize(model, options(types));
  }

  /** The usual file type of the type that most weights have. */
  private FileType fileType(Map<String, TensorType> types) {
    Map<TensorType, Long> weights = new EnumMap<>(TensorType.class);
    for (TypeCandidates candidates : tensors) {
      weights.merge(types.get(candidates.tensor().name()), candidates.tensor().elements(), Long::sum);
    }
    return weights
      .entrySet()
      .stream()
      .max(Map.Entry.comparingByValue())
      .flatMap(most -> FileType.usual(most.getKey()))
      .orElse(FileType.F32);
  }
}
