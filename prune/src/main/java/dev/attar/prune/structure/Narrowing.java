package dev.attar.prune.structure;

import dev.attar.calibration.Calibrator;
import dev.attar.calibration.DivergenceMeter;
import dev.attar.calibration.Drift;
import dev.attar.calibration.GramPlan;
import dev.attar.calibration.GramRequest;
import dev.attar.calibration.GramStore;
import dev.attar.calibration.LinearInput;
import dev.attar.calibration.linear.BandReader;
import dev.attar.calibration.linear.InputStatistics;
import dev.attar.calibration.linear.MatrixRoom;
import dev.attar.calibration.linear.MatrixRows;
import dev.attar.calibration.linear.PreparedGram;
import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import dev.attar.formats.MappedFile;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorType;
import dev.attar.prune.PruneException;
import dev.attar.prune.structure.StructureResult.LayerReport;
import dev.attar.prune.structure.StructureResult.Widths;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import java.util.stream.IntStream;

/** Makes layers narrower: removes neurons, or groups of heads, where their outputs are added up, and fits the others. */
final class Narrowing {

  /** The part of the drift that a layer makes up for: measured on a small model, where all of it fits the text too closely. */
  private static final float PART = 0.5f;

  /**
   * A weight that loses columns.
   *
   * @param layer its layer's number
   * @param units neurons or groups that meet it
   * @param size columns of each
   */
  private record Weight(int layer, Tensor tensor, int units, int size) {
    String name() {
      return tensor.info().name();
    }

    int rows() {
      return Math.toIntExact(tensor.info().rows());
    }

    int columns() {
      return units * size;
    }
  }

  /**
   * What has become of a weight.
   *
   * @param kept the neurons or groups that are left
   * @param file its new values; {@code null} if they are the old ones
   */
  @SuppressWarnings("ArrayRecordComponent") // only passed on
  private record Fit(int[] kept, double error, double refitError, Path file) {}

  /**
   * In which order a weight's units go.
   *
   * @param energy what the costs are a part of
   */
  private record Ranking(Elimination.Order order, double energy) {
    double loss(int removed) {
      return removed == 0 || energy == 0 ? 0 : order.costs()[removed - 1] / energy;
    }
  }

  private final Model model;
  private final Anatomy anatomy;
  private final StructureOptions options;
  private final boolean sequential;
  private final Device device;
  private final Path folder;
  private final DivergenceMeter meter;
  private final StructureListener listener;
  private final List<Weight> weights = new ArrayList<>();
  private final Set<String> warned = new LinkedHashSet<>();
  private GramStore store;
  private Calibrator calibrator;
  private String measuring = "";

  Narrowing(
    Model model,
    Anatomy anatomy,
    StructureOptions options,
    boolean sequential,
    Device device,
    Path folder,
    DivergenceMeter meter,
    StructureListener listener
  ) throws PruneException {
    this.model = model;
    this.anatomy = anatomy;
    this.options = options;
    this.sequential = sequential;
    this.device = device;
    this.folder = folder;
    this.meter = meter;
    this.listener = listener;
    Map<String, Tensor> tensors = new HashMap<>();
    model.tensors().forEach(tensor -> tensors.put(tensor.info().name(), tensor));
    for (int i = 0; i < anatomy.layers().size(); i++) {
      Anatomy.Part part = anatomy.layers().get(i);
      int units = neurons() ? part.neurons() : part.groups();
      if (units > 0) {
        String name = "blk." + i + (neurons() ? ".ffn_down.weight" : ".attn_output.weight");
        int size = neurons() ? 1 : part.headsPerGroup() * part.headSize();
        Tensor tensor = tensors.get(name);
        if (tensor == null || tensor.info().rowLength() != (long) units * size) {
          String found = tensor == null ? "missing" : "rows of " + tensor.info().rowLength();
          throw new PruneException(
            model.source() + ": tensor " + name + ": " + found + ", expected rows of " + units * size
          );
        }
        weights.add(new Weight(i, tensor, units, size));
      }
    }
  }

  private boolean neurons() {
    return options.structure() == Structure.FFN;
  }

  /** What may not be cut further. */
  private int grain() {
    return neurons() ? options.multiple() : 1;
  }

  /** Checks, before time is spent, that there is memory for the matrices. */
  void requireMemory() throws PruneException {
    for (Weight weight : weights) {
      int columns = weight.columns();
      long collecting = GramPlan.leastBytes(columns, GramPlan.tile(device)) + driftBytes(weight);
      long needed = Math.max(collecting, Elimination.bytes(columns, weight.rows()));
      Optional<String> problem = room().problem(needed);
      if (problem.isPresent()) {
        throw new PruneException(weight.name() + " " + problem.get());
      }
    }
  }

  private long driftBytes(Weight weight) {
    return sequential ? GramPlan.driftBytes(weight.rows(), weight.columns(), options.context()) : 0;
  }

  private MatrixRoom room() {
    // Weights that are replaced are no longer the file's.
    long replaced = model
      .tensors()
      .stream()
      .mapToLong(tensor -> tensor.info().bytes())
      .sum();
    return new MatrixRoom(device, options.maxMemory(), sequential ? replaced : 0);
  }

  /** Hears how far a pass is. */
  void window(int done, int all) {
    listener.at(measuring, done, all, "windows");
  }

  StructureResult run(Calibrator running) throws IOException, InterruptedException {
    calibrator = running;
    store = GramStore.open(folder.resolve("gram"), "structure");
    int widest = weights.stream().mapToInt(Weight::columns).max().orElse(1);
    running.fewTokens(widest).ifPresent(this::warn);
    int[] left = even();
    Optional<Widths> widths = Optional.empty();
    List<Fit> fits = null;
    if (options.nonUniform()) {
      Chosen chosen = choose(left);
      left = chosen.left;
      fits = chosen.fits;
      widths = Optional.of(chosen.widths);
    }
    if (sequential) {
      fits = fitSequentially(left);
    } else if (fits == null) {
      fits = fitPassByPass(left);
    }
    return result(fits, widths);
  }

  private StructureResult result(List<Fit> fits, Optional<Widths> widths) {
    Map<String, Path> refitted = new LinkedHashMap<>();
    Map<Integer, Fit> byLayer = new HashMap<>();
    for (int i = 0; i < fits.size(); i++) {
      byLayer.put(weights.get(i).layer, fits.get(i));
      if (fits.get(i).file != null) {
        refitted.put(weights.get(i).name(), fits.get(i).file);
      }
    }
    List<LayerReport> reports = new ArrayList<>();
    for (int i = 0; i < anatomy.layers().size(); i++) {
      Fit fit = byLayer.get(i);
      double error = fit == null ? Double.NaN : fit.error;
      double refitError = fit == null ? Double.NaN : fit.refitError;
      reports.add(new LayerReport(i, Double.NaN, error, refitError, 0, Double.NaN));
    }
    return new StructureResult(cut(fits), refitted, reports, calibrator.tokens(), sequential, widths);
  }

  /** How many units are left of each weight if all layers lose as much, as nearly as their grain allows. */
  private int[] even() {
    Ladder ladder = Ladder.of(anatomy, options.structure(), options.nonUniform(), options.multiple());
    Cut example = ladder.example(anatomy, options.step());
    return weights
      .stream()
      .mapToInt(weight -> {
        Cut.Layer layer = example.layers().get(weight.layer);
        return neurons() ? layer.neurons().length : layer.groups().length;
      })
      .toArray();
  }

  private Cut cut(List<Fit> fits) {
    List<Cut.Layer> layers = new ArrayList<>(anatomy.whole().layers());
    for (int i = 0; i < fits.size(); i++) {
      Fit fit = fits.get(i);
      if (fit != null) {
        layers.set(weights.get(i).layer, cut(layers.get(weights.get(i).layer), fit.kept));
      }
    }
    return new Cut(layers);
  }

  private Cut.Layer cut(Cut.Layer layer, int[] kept) {
    return neurons() ? layer.withNeurons(kept) : layer.withGroups(kept);
  }

  private LinearInput input(Weight weight) throws PruneException {
    return calibrator
      .inputs()
      .stream()
      .filter(input -> input.weights().contains(weight.name()))
      .filter(input -> input.experts() == 1 && input.columns() == weight.columns())
      .findFirst()
      .orElseThrow(() ->
        new PruneException(
          model.source() + ": tensor " + weight.name() + ": no text passes through it as through a matrix in llama.cpp"
        )
      );
  }

  /** What is done with a weight whose Gram matrix is known. */
  @FunctionalInterface
  private interface Work {
    void run(int number, Weight weight) throws IOException;
  }

  /** Measures all weights, as many in a pass as fit the memory. */
  private void forAllMeasured(String doing, Work work) throws IOException, InterruptedException {
    List<GramRequest> requests = new ArrayList<>();
    Map<GramRequest, Integer> numbers = new HashMap<>();
    for (int i = 0; i < weights.size(); i++) {
      GramRequest request = GramRequest.all(input(weights.get(i)));
      requests.add(request);
      numbers.put(request, i);
    }
    List<List<GramRequest>> passes = GramPlan.passes(requests, room().bytes(), GramPlan.tile(device));
    int done = 0;
    for (int pass = 0; pass < passes.size(); pass++) {
      measuring =
        "measuring inputs" + (passes.size() == 1 ? "" : " (pass " + (pass + 1) + " of " + passes.size() + ")");
      calibrator.grams(passes.get(pass), store);
      for (GramRequest request : passes.get(pass)) {
        checkInterrupted();
        listener.at(doing, done++, weights.size(), "layers");
        int number = numbers.get(request);
        work.run(number, weights.get(number));
      }
    }
    listener.at(doing, done, weights.size(), "layers");
  }

  private String removing() {
    return neurons() ? "removing neurons" : "removing heads";
  }

  private static void checkInterrupted() throws InterruptedException {
    if (Thread.interrupted()) {
      throw new InterruptedException();
    }
  }

  private List<Fit> fitPassByPass(int[] left) throws IOException, InterruptedException {
    List<Fit> fits = new ArrayList<>();
    forAllMeasured(removing(), (number, weight) -> {
      fits.add(fit(weight, left[number], null, "result"));
      store.delete(GramRequest.all(input(weight)));
    });
    return fits;
  }

  /** Fits each weight to what enters it from the layers before, which have been narrowed, and to how far they have drifted. */
  private List<Fit> fitSequentially(int[] left) throws IOException, InterruptedException {
    List<Fit> fits = new ArrayList<>();
    for (int i = 0; i < weights.size(); i++) {
      checkInterrupted();
      Weight weight = weights.get(i);
      measuring = "measuring what enters " + weight.name();
      GramRequest request = GramRequest.all(input(weight));
      calibrator.grams(List.of(request), i == 0 ? List.of() : List.of(weight.name()), store);
      listener.at(removing(), i, weights.size(), "layers");
      Fit fit = fit(weight, left[i], null, "result");
      fits.add(fit);
      store.delete(request);
      store.deleteDrift(weight.name());
      if (fit.file != null && i + 1 < weights.size()) {
        replace(weight, fit);
      }
    }
    listener.at(removing(), weights.size(), weights.size(), "layers");
    return fits;
  }

  /** Puts the new weight into the running model, zeros where columns are gone: what they met does not count any more. */
  private void replace(Weight weight, Fit fit) throws IOException {
    Path whole = folder.resolve("replacement.f32");
    int kept = fit.kept.length * weight.size;
    try (MappedFile file = MappedFile.open(fit.file); OutputStream out = Files.newOutputStream(whole)) {
      byte[] row = new byte[Math.multiplyExact(weight.columns(), Float.BYTES)];
      int bytes = weight.size * Float.BYTES;
      for (int r = 0; r < weight.rows(); r++) {
        for (int i = 0; i < fit.kept.length; i++) {
          long from = ((long) r * kept + (long) i * weight.size) * Float.BYTES;
          MemorySegment.copy(file.bytes(), ValueLayout.JAVA_BYTE, from, row, fit.kept[i] * bytes, bytes);
        }
        out.write(row);
      }
    }
    calibrator.replace(weight.name(), TensorType.F32, whole);
    Files.delete(whole);
  }

  /** Widths of layers. */
  private record Chosen(int[] left, List<Fit> fits, Widths widths) {}

  /**
   * Chooses a width for each layer: what a layer's removal costs, times what as much cost did to the model's predictions where it was
   * tried out in this layer alone. Takes it only if it is measured to be better than the same in all layers.
   */
  private Chosen choose(int[] even) throws IOException, InterruptedException {
    Ranking[] rankings = new Ranking[weights.size()];
    forAllMeasured("ranking " + (neurons() ? "neurons" : "heads"), (number, weight) ->
      rankings[number] = rank(weight, weight.units - least(weight))
    );
    double[] sensitivity = sensitivity(even, rankings);
    int[] counts = weights.stream().mapToInt(Weight::units).toArray();
    int[] chosen = Allocation.of(
      counts,
      grain(),
      options.step().units(),
      (layer, left) -> sensitivity[layer] * rankings[layer].loss(counts[layer] - left)
    );
    List<List<Fit>> fits = new ArrayList<>();
    for (int[] left : List.of(even, chosen)) {
      List<Fit> of = new ArrayList<>();
      for (int i = 0; i < weights.size(); i++) {
        checkInterrupted();
        of.add(fit(weights.get(i), left[i], rankings[i].order, fits.isEmpty() ? "even" : "chosen"));
      }
      fits.add(of);
    }
    for (Weight weight : weights) {
      store.delete(GramRequest.all(input(weight)));
    }
    double[] divergences = measure(fits, List.of("the same width in all layers", "a width for each layer"));
    Widths widths = new Widths(divergences[0], divergences[1]);
    return widths.differ() ? new Chosen(chosen, fits.get(1), widths) : new Chosen(even, fits.get(0), widths);
  }

  /** The fewest units that a layer keeps. */
  private int least(Weight weight) {
    return Math.min(weight.units, grain());
  }

  /** What each layer's cost does to the model's predictions, per cost. */
  private double[] sensitivity(int[] even, Ranking[] rankings) throws IOException, InterruptedException {
    List<List<Fit>> alone = new ArrayList<>();
    List<String> names = new ArrayList<>();
    double[] costs = new double[weights.size()];
    for (int i = 0; i < weights.size(); i++) {
      checkInterrupted();
      Weight weight = weights.get(i);
      int left = Math.max(least(weight), Math.min(even[i], weight.units - grain()));
      List<Fit> fits = new ArrayList<>(Collections.nCopies(weights.size(), null));
      fits.set(i, fit(weight, left, rankings[i].order, "alone"));
      alone.add(fits);
      names.add("layer " + weight.layer + " alone");
      costs[i] = rankings[i].loss(weight.units - left);
    }
    double[] divergences = measure(alone, names);
    return IntStream.range(0, costs.length)
      .mapToDouble(i -> Math.max(0, divergences[i]) / Math.max(costs[i], 1e-9))
      .toArray();
  }

  private double[] measure(List<List<Fit>> fits, List<String> names) throws IOException, InterruptedException {
    List<MappedFile> files = new ArrayList<>();
    try {
      List<Model> models = new ArrayList<>();
      for (List<Fit> of : fits) {
        Map<String, MemorySegment> refitted = new HashMap<>();
        for (int i = 0; i < of.size(); i++) {
          if (of.get(i) != null && of.get(i).file != null) {
            files.add(MappedFile.open(of.get(i).file));
            refitted.put(weights.get(i).name(), files.getLast().bytes());
          }
        }
        models.add(CutModel.of(model, cut(of), refitted));
      }
      return meter.measure(models, names);
    } finally {
      files.forEach(MappedFile::close);
    }
  }

  /** What is done with a weight on the device. */
  @FunctionalInterface
  private interface Eliminating<R> {
    R run(Elimination elimination, Scope scope) throws IOException;
  }

  private <R> R with(Weight weight, Eliminating<R> work) throws IOException {
    PreparedGram.Use use = PreparedGram.Use.solving(options.damping());
    try (
      InputStatistics statistics = new InputStatistics(device, store, input(weight), use);
      Scope scope = device.scope();
      Drift drift = store.findDrift(weight.name()).orElse(null)
    ) {
      PreparedGram input = statistics.of(0);
      BandReader.RowSource source = (from, rows, values) -> weight.tensor.decodeRows(from, rows, values, 0);
      Matrix values = BandReader.transposed(device, scope, source, 0, weight.rows(), weight.columns());
      if (drift != null) {
        makeUp(input, drift, values);
      }
      R result = work.run(new Elimination(device, input, values, weight.size), scope);
      statistics.warnings().forEach(this::warn);
      return result;
    }
  }

  /** Moves weights by {@code PART D inverse(H)}: the whole of it would bring the outputs as near to the base's as this layer can. */
  private void makeUp(PreparedGram input, Drift drift, Matrix values) throws IOException {
    int columns = drift.columns();
    try (Scope scope = device.scope()) {
      BandReader.RowSource source = (from, rows, to) ->
        MemorySegment.copy(drift.values(), Elimination.FLOAT, from * columns * Float.BYTES, to, 0, rows * columns);
      Matrix solution = BandReader.transposed(device, scope, source, 0, drift.rows(), columns);
      input.solve(solution);
      device.add(PART, solution, values);
    }
  }

  private void warn(String warning) {
    if (warned.add(warning)) {
      listener.warn(warning);
    }
  }

  private Elimination.Order order(Elimination elimination, int most) {
    return options.refit() ? elimination.withRefit(most) : elimination.withoutRefit(most);
  }

  private Ranking rank(Weight weight, int most) throws IOException {
    return with(weight, (elimination, _) -> new Ranking(order(elimination, most), elimination.energy()));
  }

  /**
   * Removes units of a weight and fits what is left.
   *
   * @param known the order in which they go, if it is known already; otherwise {@code null}
   * @param kind begins the name of the file
   */
  private Fit fit(Weight weight, int left, Elimination.Order known, String kind) throws IOException {
    return with(weight, (elimination, scope) -> {
      int removed = weight.units - left;
      Elimination.Order order = known == null ? order(elimination, removed) : known;
      int[] kept = order.left(removed, weight.units);
      double energy = elimination.energy();
      double error = part(elimination.error(kept), energy);
      if (!options.refit()) {
        return new Fit(kept, error, Double.NaN, null);
      }
      Matrix fitted = elimination.refit(kept, scope);
      Path file = folder.resolve(kind + "-" + weight.name() + ".f32");
      write(fitted, scope, file);
      return new Fit(kept, error, part(elimination.error(kept, fitted), energy), file);
    });
  }

  private static double part(double error, double energy) {
    return energy == 0 ? 0 : error / energy;
  }

  /** Writes a matrix with a row for each of its columns. */
  private void write(Matrix fitted, Scope scope, Path file) throws IOException {
    Matrix rows = scope.matrix(fitted.columns(), fitted.rows());
    device.transpose(fitted, rows);
    try (OutputStream out = Files.newOutputStream(file)) {
      MatrixRows.write(device, rows, out);
    }
  }
}
