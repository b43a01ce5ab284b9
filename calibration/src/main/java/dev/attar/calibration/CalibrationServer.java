package dev.attar.calibration;

import dev.attar.compute.Device;
import dev.attar.compute.DeviceException;
import dev.attar.compute.Devices;
import dev.attar.llama.Frame;
import dev.attar.llama.LlamaModel;
import dev.attar.llama.NodeObserver;
import dev.attar.llama.WeightTensor;
import dev.attar.llama.WorkerChannel;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.Set;

/**
 * Carries out a parent's requests on one model, on one thread: what decodes and what multiplies matrices take turns. Each pass over
 * the windows has a context of its own, whose memory is free between passes.
 */
final class CalibrationServer implements AutoCloseable {

  private final WorkerChannel channel;
  private Path file;
  private Calibrator.Settings settings;
  private LlamaModel model;
  private LlamaModel base; // the model as it was, once a drift is wanted
  private Device device;
  private TokenWindows windows;
  private List<LinearInput> inputs;
  private Map<String, WeightTensor> weights;
  private Set<String> residual; // weights whose result is added to the residual stream
  private boolean stops; // whether the computation may end early

  CalibrationServer(WorkerChannel channel) {
    this.channel = channel;
  }

  void serve() throws IOException {
    for (Optional<Frame> frame = channel.receive(); frame.isPresent(); frame = channel.receive()) {
      channel.send(Reply.toFrame(reply(Request.of(frame.get()))));
    }
  }

  private Reply reply(Request request) throws IOException {
    try {
      return switch (request) {
        case Request.Open open -> open(open);
        case Request.CollectImportance _ -> collectImportance();
        case Request.CollectGrams collect -> collectGrams(collect);
        case Request.MeasureInfluence _ -> measureInfluence();
        case Request.Replace replace -> {
          WeightReplacement.run(weight(replace.tensor()), replace.type(), replace.encoded(), this::alive);
          yield new Reply.Done();
        }
      };
    } catch (DeviceException e) {
      throw new IOException(e.getMessage(), e); // for the parent, in one line
    }
  }

  private void alive() {
    try {
      channel.alive();
    } catch (IOException _) {
      // The parent is gone; the end of the input will say so.
    }
  }

  private Reply open(Request.Open open) throws IOException {
    file = open.model();
    settings = open.settings();
    // The text first: it is sooner known to be of no use than the weights are loaded.
    try (LlamaModel vocabulary = load(true, true)) {
      windows = TokenWindows.read(
        vocabulary.tokens(),
        settings.texts(),
        OptionalLong.of(settings.tokens()),
        settings.context(),
        this::alive
      );
    } catch (IllegalStateException e) {
      throw new IOException(e.getMessage(), e); // there is none
    }
    model = load(false, !settings.writable());
    List<String> warnings = new ArrayList<>(windows.warnings());
    if (settings.context() > model.trainedContext()) {
      warnings.add("windows of " + settings.context() + " tokens, the model was trained on " + model.trainedContext());
    }
    Devices.Opened opened = Devices.open(settings.device(), settings.threads());
    device = opened.device();
    opened
      .problem()
      .ifPresent(problem -> warnings.add("Gram matrices are summed up by the processor, since " + problem));
    InputDiscovery discovery = new InputDiscovery(settings.output());
    try (WindowRunner runner = runner(model, discovery)) {
      runner.runFirstBatch();
    }
    inputs = discovery.inputs();
    weights = discovery.weights();
    residual = discovery.residual();
    stops = !discovery.repeats();
    if (inputs.isEmpty()) {
      throw new IOException(file + ": llama.cpp multiplies by no weight of this model: nothing to calibrate");
    }
    return new Reply.Opened(windows.count(), windows.tokens(), inputs, warnings);
  }

  private LlamaModel load(boolean vocabularyOnly, boolean mmap) throws IOException {
    return LlamaModel.open(file, new LlamaModel.Options(OptionalInt.of(0), vocabularyOnly, mmap, _ -> alive()));
  }

  private Reply collectImportance() throws IOException {
    ImportanceSums sums = new ImportanceSums(inputs);
    run(inputs, sums);
    for (ImportanceSums.Sums ofInput : sums.sums().values()) {
      channel.send(Reply.toFrame(new Reply.Importance(ofInput.squares, ofInput.counts)));
    }
    return new Reply.Done();
  }

  private Reply collectGrams(Request.CollectGrams collect) throws IOException {
    Set<GramRequest> requests = new HashSet<>();
    for (Request.Wanted wanted : collect.wanted()) {
      requests.add(new GramRequest(inputs.get(wanted.input()), wanted.expert()));
    }
    // In the order of the computation, which decides after which input it may end.
    List<GramRequest> ordered = new ArrayList<>(requests);
    ordered.sort((a, b) -> Integer.compare(inputs.indexOf(a.input()), inputs.indexOf(b.input())));
    GramStore store = GramStore.open(collect.folder(), collect.identity());
    try (GramSums sums = new GramSums(device, ordered)) {
      if (collect.drifts().isEmpty()) {
        run(sums.inputs(), sums);
        sums.write(store, this::alive);
      } else {
        collectDrifts(collect.drifts(), sums, store);
      }
    }
    return new Reply.Done();
  }

  /** Runs the base and the running model by turns, window by window. */
  private void collectDrifts(List<String> wanted, GramSums grams, GramStore store) throws IOException {
    if (base == null) {
      base = load(false, true);
    }
    Map<String, LinearInput> met = new LinkedHashMap<>();
    List<WeightTensor> tensors = new ArrayList<>();
    for (LinearInput input : inputs) {
      for (String name : input.weights()) {
        if (wanted.contains(name)) {
          met.put(name, input);
          tensors.add(weight(name));
        }
      }
    }
    List<LinearInput> observed = inputs
      .stream()
      .filter(input -> met.containsValue(input) || grams.inputs().contains(input))
      .toList();
    try (DriftSums drifts = new DriftSums(device, met, tensors, Math.min(WindowRunner.BATCH, windows.window()))) {
      InputObserver.Sink both = (input, activations) -> {
        grams.accept(input, activations);
        drifts.input(input, activations);
      };
      InputObserver inputsOf = new InputObserver(file.toString(), observed, stops, both, this::alive);
      OutputObserver outputsOf = outputs(met.keySet(), drifts::running);
      OutputObserver outputsOfBase = outputs(met.keySet(), drifts::base);
      try (
        WindowRunner baseRunner = runner(base, outputsOfBase);
        WindowRunner runner = runner(model, new ObserverPair(inputsOf, outputsOf))
      ) {
        for (int window = 0; window < windows.count(); window++) {
          drifts.begin();
          outputsOfBase.begin(window + 1);
          baseRunner.run(window);
          inputsOf.begin(window + 1);
          outputsOf.begin(window + 1);
          runner.run(window);
          channel.send(Reply.toFrame(new Reply.Window(window + 1)));
        }
      }
      grams.write(store, this::alive);
      drifts.write(store, this::alive);
    }
  }

  private Reply measureInfluence() throws IOException {
    BlockInfluence influence = new BlockInfluence(file.toString(), model.layers(), this::alive);
    try (WindowRunner runner = runner(model, influence.observer())) {
      for (int window = 0; window < windows.count(); window++) {
        influence.begin(window + 1);
        runner.run(window);
        channel.send(Reply.toFrame(new Reply.Window(window + 1)));
      }
    }
    return new Reply.Influence(influence.influence());
  }

  private OutputObserver outputs(Set<String> of, OutputObserver.Sink sink) {
    return new OutputObserver(file.toString(), of, residual, stops, sink, this::alive);
  }

  private void run(List<LinearInput> observed, InputObserver.Sink sink) throws IOException {
    InputObserver observer = new InputObserver(file.toString(), observed, stops, sink, this::alive);
    try (WindowRunner runner = runner(model, observer)) {
      for (int window = 0; window < windows.count(); window++) {
        observer.begin(window + 1);
        runner.run(window);
        channel.send(Reply.toFrame(new Reply.Window(window + 1)));
      }
    }
  }

  private WindowRunner runner(LlamaModel of, NodeObserver observer) throws IOException {
    return new WindowRunner(file, of, windows, settings.threads(), observer);
  }

  private WeightTensor weight(String name) throws IOException {
    WeightTensor weight = weights.get(name);
    if (weight == null) {
      throw new IOException(file + ": tensor " + name + " enters no multiplication, expected the weight of a layer");
    }
    return weight;
  }

  @Override
  public void close() {
    if (device != null) {
      device.close();
    }
    if (model != null) {
      model.close();
    }
    if (base != null) {
      base.close();
    }
  }
}
