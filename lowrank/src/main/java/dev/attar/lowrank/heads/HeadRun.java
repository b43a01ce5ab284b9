package dev.attar.lowrank.heads;

import dev.attar.calibration.Calibrator;
import dev.attar.calibration.Gram;
import dev.attar.calibration.GramPlan;
import dev.attar.calibration.GramRequest;
import dev.attar.calibration.GramStore;
import dev.attar.calibration.LinearInput;
import dev.attar.calibration.linear.InputStatistics;
import dev.attar.calibration.linear.MatrixRoom;
import dev.attar.calibration.linear.PreparedGram;
import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import dev.attar.formats.Tensor;
import dev.attar.lowrank.LowRankException;
import dev.attar.lowrank.LowRankListener;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;

/** A run over the layers: measures what enters queries and outputs, as many at once as fit the memory, and works on each. */
final class HeadRun {

  /** What a matrix is measured for. */
  @FunctionalInterface
  private interface Work {
    void run(LinearInput input) throws IOException;
  }

  private final HeadLayout layout;
  private final HeadOptions options;
  private final Device device;
  private final Path folder;
  private final LowRankListener listener;
  private final Rotations rotations;
  private final Map<HeadLayout.Layer, PairMoments[]> moments = new LinkedHashMap<>();
  private final List<HeadResult.LayerReport> reports = new ArrayList<>();
  private final Map<String, Path> values = new LinkedHashMap<>();
  private final Set<String> warned = new LinkedHashSet<>();
  private GramStore store;
  private String measuring = "";

  HeadRun(HeadLayout layout, HeadOptions options, Device device, Path folder, LowRankListener listener)
    throws LowRankException {
    this.layout = layout;
    this.options = options;
    this.device = device;
    this.folder = folder;
    this.listener = listener;
    rotations = Rotations.of(layout.frequencies(), layout.longestDistance());
  }

  /** Checks, before time is spent, that there is memory for the matrices. */
  void requireMemory() throws LowRankException {
    for (HeadLayout.Layer layer : layout.layers()) {
      int columns = layer.heads() * layout.size();
      require(layer.queries(), layer.embedding(), PairMoments.bytes(layer.embedding(), layout.size()));
      require(layer.output(), columns, ValueFit.bytes(layer, layout.size(), options.size()));
    }
  }

  private void require(Tensor tensor, int columns, long working) throws LowRankException {
    long needed = Math.max(GramPlan.leastBytes(columns, GramPlan.tile(device)), working);
    Optional<String> problem = room().problem(needed);
    if (problem.isPresent()) {
      throw new LowRankException(layout.name() + ": " + tensor.info().name() + " " + problem.get());
    }
  }

  private MatrixRoom room() {
    return new MatrixRoom(device, options.maxMemory(), 0);
  }

  /** Hears how far a pass is. */
  void window(int done, int all) {
    listener.at(measuring, done, all, "windows");
  }

  HeadResult run(Calibrator calibrator) throws IOException, InterruptedException {
    store = GramStore.open(folder.resolve("gram"), "heads");
    Map<GramRequest, Work> work = new HashMap<>();
    int widest = 0;
    for (HeadLayout.Layer layer : layout.layers()) {
      int columns = layer.heads() * layout.size();
      widest = Math.max(widest, Math.max(columns, layer.embedding()));
      work.put(request(calibrator, layer.queries(), layer.embedding()), input -> measureMoments(layer, input));
      work.put(request(calibrator, layer.output(), columns), input -> fit(layer, input));
    }
    calibrator.fewTokens(widest).ifPresent(this::warn);
    measure(calibrator, work);
    reports.sort(Comparator.comparingInt(HeadResult.LayerReport::layer));
    FoldChoice.Chosen chosen = fold();
    return new HeadResult(
      layout.size(),
      options.size(),
      chosen.folds(),
      chosen.lost(),
      reports,
      values,
      calibrator.tokens()
    );
  }

  /** Chooses what becomes of rotary pairs, and writes queries and keys. */
  private FoldChoice.Chosen fold() throws IOException {
    List<PairMoments> groups = moments.values().stream().flatMap(Arrays::stream).toList();
    FoldChoice.Chosen chosen = FoldChoice.of(groups, rotations, options.size() / 2);
    for (HeadLayout.Layer layer : layout.layers()) {
      QueryKeyFit fit = new QueryKeyFit(layer, moments.get(layer), layout.size(), chosen.folds());
      fit.queries(layer.queries(), file(layer.queries()));
      fit.keys(layer.keys(), file(layer.keys()));
      if (layer.queryBias() != null) {
        fit.queries(layer.queryBias(), file(layer.queryBias()));
      }
      if (layer.keyBias() != null) {
        fit.keys(layer.keyBias(), file(layer.keyBias()));
      }
    }
    return chosen;
  }

  private GramRequest request(Calibrator calibrator, Tensor weight, int columns) throws LowRankException {
    String name = weight.info().name();
    return calibrator
      .inputs()
      .stream()
      .filter(input -> input.weights().contains(name))
      .filter(input -> input.experts() == 1 && input.columns() == columns)
      .findFirst()
      .map(GramRequest::all)
      .orElseThrow(() ->
        new LowRankException(
          layout.name() + ": tensor " + name + ": no text passes through it as through a matrix in llama.cpp"
        )
      );
  }

  private void measure(Calibrator calibrator, Map<GramRequest, Work> work) throws IOException, InterruptedException {
    List<GramRequest> requests = new ArrayList<>();
    for (LinearInput input : calibrator.inputs()) {
      GramRequest request = GramRequest.all(input);
      if (work.containsKey(request)) {
        requests.add(request);
      }
    }
    List<List<GramRequest>> passes = GramPlan.passes(requests, room().bytes(), GramPlan.tile(device));
    int done = 0;
    for (int pass = 0; pass < passes.size(); pass++) {
      measuring =
        "measuring inputs" + (passes.size() == 1 ? "" : " (pass " + (pass + 1) + " of " + passes.size() + ")");
      calibrator.grams(passes.get(pass), store);
      for (GramRequest request : passes.get(pass)) {
        if (Thread.interrupted()) {
          throw new InterruptedException();
        }
        listener.at("making heads smaller", done++, requests.size(), "inputs");
        work.get(request).run(request.input());
        store.delete(request);
      }
    }
    listener.at("making heads smaller", done, requests.size(), "inputs");
  }

  private void measureMoments(HeadLayout.Layer layer, LinearInput input) throws IOException {
    try (Gram gram = store.find(GramRequest.all(input)).orElseThrow(); Scope scope = device.scope()) {
      Matrix matrix = scope.matrix(gram.columns(), gram.columns());
      PreparedGram.upload(device, gram, matrix);
      device.mirror(matrix);
      moments.put(layer, PairMoments.of(device, layer, layout.size(), matrix, rotations.spread()));
    }
  }

  private void fit(HeadLayout.Layer layer, LinearInput input) throws IOException {
    PreparedGram.Use use = PreparedGram.Use.solving(options.damping());
    try (InputStatistics statistics = new InputStatistics(device, store, input, use)) {
      ValueFit fit = new ValueFit(device, statistics.of(0), layer, layout.size(), options.size());
      reports.add(fit.fit(file(layer.values()), file(layer.valueBias()), file(layer.output())));
      statistics.warnings().forEach(this::warn);
    }
  }

  /** Where the new values of a tensor go; {@code null} if there is no tensor. */
  private Path file(Tensor tensor) {
    if (tensor == null) {
      return null;
    }
    String name = tensor.info().name();
    Path file = folder.resolve(name + ".f32");
    values.put(name, file);
    return file;
  }

  private void warn(String warning) {
    if (warned.add(warning)) {
      listener.warn(warning);
    }
  }
}
