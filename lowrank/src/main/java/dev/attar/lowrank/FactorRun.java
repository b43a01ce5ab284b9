package dev.attar.lowrank;

import dev.attar.calibration.Calibrator;
import dev.attar.calibration.DivergenceMeter;
import dev.attar.calibration.GramPlan;
import dev.attar.calibration.GramRequest;
import dev.attar.calibration.GramStore;
import dev.attar.calibration.LinearInput;
import dev.attar.calibration.linear.InputStatistics;
import dev.attar.calibration.linear.MatrixRoom;
import dev.attar.calibration.linear.MatrixRows;
import dev.attar.calibration.linear.PreparedGram;
import dev.attar.compute.Device;
import dev.attar.compute.DeviceChoice;
import dev.attar.compute.DeviceException;
import dev.attar.compute.Devices;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import dev.attar.compute.Workers;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.block.BlockDecoders;
import dev.attar.formats.block.BlockEncoder;
import dev.attar.formats.block.BlockEncoders;
import java.io.IOException;
import java.io.OutputStream;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
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

/** Factorizes the linear layers of a model's blocks, one after the other. */
public final class FactorRun {

  /** Multiplications that measuring what each tensor's error does may take: about an hour of two processors. */
  static final double PROBE_WORK = 2e13;

  /** Tokens that each tensor's error is tried out on, about. */
  private static final int PROBE_TOKENS = 4096;

  /** The least loss that a divergence is divided by, and the least weight that a tensor gets, as a part of the mean. */
  private static final double LEAST_LOSS = 1e-9;

  private static final double LEAST_WEIGHT = 0.01;

  /** Values that are read at a time. */
  private static final int BAND = 1 << 20;

  /**
   * A tensor to be factorized.
   *
   * @param tensor as it is
   * @param base what is subtracted from it; {@code null} for nothing
   * @param rank the rank that is computed
   */
  private record Work(Tensor tensor, Tensor base, int rank) {
    TensorInfo info() {
      return tensor.info();
    }

    String name() {
      return info().name();
    }

    int rows() {
      return Math.toIntExact(info().dimension(1));
    }

    int columns() {
      return Math.toIntExact(info().rowLength());
    }

    int matrices() {
      return Math.toIntExact(info().rows() / info().dimension(1));
    }
  }

  /**
   * What was found for one.
   *
   * @param before the squared error that there was without a product, in the first round
   * @param a the file of its factors A
   * @param b the file of its factors B
   * @param base the file of what its base is to be; empty for what it is
   */
  private record Found(
    Work work,
    Spectrum spectrum,
    double before,
    Path a,
    Path b,
    Optional<Path> base,
    double damping
  ) {
    FactoredTensor withRank(int rank) {
      return new FactoredTensor(work.info(), rank, work.rank, a, b, base, spectrum.error(rank), before, damping);
    }
  }

  private final Model model;
  private final FactorOptions options;
  private final Device device;
  private final Path folder;
  private final LowRankListener listener;
  private final Workers workers;
  private final Map<String, Work> works = new LinkedHashMap<>();
  private final Map<String, Found> found = new HashMap<>();
  private final Set<String> warned = new LinkedHashSet<>();
  private long weightsDone;
  private String measuring = "";

  private FactorRun(
    Model model,
    FactorOptions options,
    Device device,
    Workers workers,
    Path folder,
    LowRankListener listener
  ) {
    this.model = model;
    this.options = options;
    this.device = device;
    this.folder = folder;
    this.listener = listener;
    this.workers = workers;
  }

  /**
   * Finds for each linear layer of the blocks the best product of two thin matrices.
   *
   * @param model the model
   * @param base what the products come on top of: a model with tensors of the same names and shapes, whose tensors of quantized types are
   *     corrected; empty to put the products in the place of the model's own
   * @param runnable the model as a file that llama.cpp can load; not used if the metric is {@link Metric#PLAIN}
   * @param folder an empty folder for what is measured meanwhile and for the files of the result
   * @param meter measures what a tensor's error does to the predictions, for ranks that share a size: if the model is small enough, see
   *     {@link #PROBE_WORK}; empty to let the errors count alike
   * @throws LowRankException if a rank exceeds the smaller dimension of a matrix, a size is too small for any factors, there is nothing
   *     to factorize, or the memory does not suffice
   * @throws IOException if a file cannot be read or written, or the model cannot be run on the texts
   */
  public static Factorization run(
    Model model,
    Optional<Model> base,
    Path runnable,
    FactorOptions options,
    Path folder,
    Optional<DivergenceMeter> meter,
    LowRankListener listener
  ) throws IOException, InterruptedException {
    try (
      Devices.Opened opened = Devices.open(options.device(), options.threads());
      Workers workers = new Workers(options.threads())
    ) {
      Device device = opened.device();
      listener.device(opened.line());
      FactorRun run = new FactorRun(model, options, device, workers, folder, listener);
      run.choose(base);
      run.requireMemory();
      long tokens = options.metric() == Metric.PLAIN ? run.withoutText() : run.onText(runnable);
      return run.result(meter, tokens);
    } catch (DeviceException e) {
      throw new IOException(e.getMessage(), e);
    } catch (IOException e) {
      if (Thread.interrupted()) {
        // An interrupted thread gets this from whatever it was doing.
        throw (InterruptedException) new InterruptedException().initCause(e);
      }
      throw e;
    }
  }

  /**
   * The tensors that a run factorizes: the weights of the linear layers of the blocks, but for the routers of experts.
   *
   * @param base as {@link #run} has it
   */
  public static List<TensorInfo> tensors(Model model, Optional<Model> base) {
    Map<String, TensorInfo> ofBase = new HashMap<>();
    base.ifPresent(other -> other.tensors().forEach(tensor -> ofBase.put(tensor.info().name(), tensor.info())));
    return model
      .tensors()
      .stream()
      .map(Tensor::info)
      .filter(FactorRun::isLinear)
      .filter(info -> base.isEmpty() || isQuantized(info, ofBase.get(info.name())))
      .toList();
  }

  private static boolean isLinear(TensorInfo info) {
    return (
      info.name().startsWith("blk.") &&
      info.name().endsWith(".weight") &&
      info.rank() > 1 &&
      info.rank() < 4 &&
      !info.name().contains("ffn_gate_inp")
    );
  }

  /** Whether a base has something else than the tensor itself. */
  private static boolean isQuantized(TensorInfo info, TensorInfo base) {
    return base != null && base.type().isQuantized() && base.type() != info.type();
  }

  /**
   * Checks a rank for tensors.
   *
   * @throws LowRankException if it is above the smaller dimension of one
   */
  public static void requireRank(Path model, List<TensorInfo> tensors, int rank) throws LowRankException {
    TensorInfo least = tensors.stream().min(Comparator.comparingLong(FactorRun::smaller)).orElse(null);
    if (least != null && rank > smaller(least)) {
      throw new LowRankException(
        model +
          ": tensor " +
          least.name() +
          ": rank " +
          rank +
          " for matrices of " +
          least.rowLength() +
          " x " +
          least.dimension(1) +
          ", expected at most " +
          smaller(least)
      );
    }
  }

  private static long smaller(TensorInfo info) {
    return Math.min(info.rowLength(), info.dimension(1));
  }

  private void choose(Optional<Model> base) throws LowRankException {
    List<TensorInfo> chosen = tensors(model, base);
    if (chosen.isEmpty()) {
      throw new LowRankException(
        model.source() +
          (base.isEmpty()
            ? ": no linear layers to factorize, expected weights blk.N"
            : ": no linear layer is quantized in " + base.get().source() + ", there is nothing to correct")
      );
    }
    if (options.ranks() instanceof RankChoice.Same(int rank)) {
      requireRank(model.source(), chosen, rank);
    }
    Map<String, Tensor> own = byName(model);
    Map<String, Tensor> others = base.isEmpty() ? Map.of() : byName(base.get());
    for (TensorInfo info : chosen) {
      Tensor other = others.get(info.name());
      if (other != null && !Arrays.equals(other.info().shape(), info.shape())) {
        throw new LowRankException(
          base.get().source() +
            ": tensor " +
            info.name() +
            ": shape " +
            other.info().shapeText() +
            ", expected " +
            info.shapeText() +
            " as " +
            model.source() +
            " has it"
        );
      }
      if (other != null && options.rounds() > 1 && BlockEncoders.of(other.info().type()).isEmpty()) {
        throw new LowRankException(
          base.get().source() +
            ": tensor " +
            info.name() +
            ": " +
            other.info().type() +
            " is written by llama.cpp's library only, expected another type for several rounds"
        );
      }
      works.put(info.name(), new Work(own.get(info.name()), other, rank(info)));
    }
  }

  private static Map<String, Tensor> byName(Model model) {
    Map<String, Tensor> tensors = new HashMap<>();
    model.tensors().forEach(tensor -> tensors.put(tensor.info().name(), tensor));
    return tensors;
  }

  /** The rank that has to be computed. */
  private int rank(TensorInfo info) {
    return options.ranks() instanceof RankChoice.Same(int rank) ? rank : Math.max(1, Spectrum.largestUseful(info));
  }

  /** Checks, before time is spent, that there is memory for the matrices. */
  private void requireMemory() throws LowRankException {
    for (Work work : works.values()) {
      // Besides what the product takes: the matrix and its base.
      long others = work.base == null ? 0 : 2L * Float.BYTES * work.rows() * work.columns();
      long needed = Factorizer.bytes(work.rows(), work.columns(), work.rank()) + others;
      if (options.metric() == Metric.ACTIVATION) {
        needed = Math.max(needed, GramPlan.leastBytes(work.columns(), GramPlan.tile(device)));
      }
      Optional<String> problem = room().problem(needed);
      if (problem.isPresent()) {
        throw new LowRankException(model.source() + ": tensor " + work.name() + " " + problem.get());
      }
    }
  }

  private MatrixRoom room() {
    return new MatrixRoom(device, options.maxMemory(), 0);
  }

  private long withoutText() throws IOException, InterruptedException {
    for (Work work : works.values()) {
      factorize(work, null);
    }
    return 0;
  }

  private long onText(Path runnable) throws IOException, InterruptedException {
    // What this process may not have is not tried again by the worker.
    DeviceChoice theirs = device.hasOwnMemory() ? options.device() : DeviceChoice.CPU;
    Calibrator.Settings settings = new Calibrator.Settings(
      options.texts(),
      options.tokens(),
      options.context(),
      options.threads(),
      theirs,
      false,
      false,
      options.patience()
    );
    try (
      Calibrator calibrator = Calibrator.open(runnable, settings, (_, done, all) ->
        listener.at(measuring, done, all, "windows")
      )
    ) {
      calibrator.warnings().forEach(this::warn);
      requireMeasured(calibrator);
      forAllMeasured(calibrator);
      return calibrator.tokens();
    }
  }

  private void requireMeasured(Calibrator calibrator) throws LowRankException {
    int widest = 0;
    Set<String> measured = new LinkedHashSet<>();
    for (LinearInput input : calibrator.inputs()) {
      measured.addAll(input.weights());
    }
    for (Work work : works.values()) {
      if (!measured.contains(work.name())) {
        throw new LowRankException(
          model.source() + ": tensor " + work.name() + ": no text passes through it as through a matrix in llama.cpp"
        );
      }
      widest = Math.max(widest, work.columns());
    }
    calibrator.fewTokens(widest).ifPresent(this::warn);
  }

  private void forAllMeasured(Calibrator calibrator) throws IOException, InterruptedException {
    GramStore store = GramStore.open(folder.resolve("gram"), "lowrank");
    List<GramRequest> requests = new ArrayList<>();
    for (LinearInput input : calibrator.inputs()) {
      if (input.weights().stream().anyMatch(works::containsKey)) {
        for (int expert = 0; expert < input.experts(); expert++) {
          requests.add(new GramRequest(input, expert));
        }
        if (input.experts() > 1) {
          requests.add(GramRequest.all(input));
        }
      }
    }
    List<List<GramRequest>> passes = passes(requests);
    for (int pass = 0; pass < passes.size(); pass++) {
      measuring =
        "measuring inputs" + (passes.size() == 1 ? "" : " (pass " + (pass + 1) + " of " + passes.size() + ")");
      calibrator.grams(passes.get(pass), store);
      for (GramRequest request : passes.get(pass)) {
        // The last of an input's is the one after which all are there.
        if (request.equals(GramRequest.all(request.input()))) {
          factorize(request.input(), store);
        }
      }
    }
  }

  private List<List<GramRequest>> passes(List<GramRequest> requests) throws LowRankException {
    try {
      return GramPlan.passes(requests, room().bytes(), GramPlan.tile(device));
    } catch (IOException e) {
      throw new LowRankException(model.source() + ": " + e.getMessage(), e);
    }
  }

  private void factorize(LinearInput input, GramStore store) throws IOException, InterruptedException {
    try (
      InputStatistics statistics = new InputStatistics(
        device,
        store,
        input,
        PreparedGram.Use.solving(options.damping())
      )
    ) {
      for (String weight : input.weights()) {
        if (works.containsKey(weight)) {
          factorize(works.get(weight), statistics);
        }
      }
      statistics.warnings().forEach(this::warn);
    }
    for (int expert = 0; expert < input.experts(); expert++) {
      store.delete(new GramRequest(input, expert));
    }
    store.delete(GramRequest.all(input));
  }

  /**
   * Factorizes the matrices of a tensor.
   *
   * @param statistics {@code null} without a text
   */
  private void factorize(Work work, InputStatistics statistics) throws IOException, InterruptedException {
    Path a = folder.resolve(work.name() + ".a");
    Path b = folder.resolve(work.name() + ".b");
    Path base = folder.resolve(work.name() + ".base");
    double[] squares = {};
    double energy = 0;
    double before = 0;
    try (
      OutputStream toA = Files.newOutputStream(a);
      OutputStream toB = Files.newOutputStream(b);
      OutputStream toBase = options.rounds() > 1 ? Files.newOutputStream(base) : OutputStream.nullOutputStream()
    ) {
      for (int expert = 0; expert < work.matrices(); expert++) {
        if (Thread.interrupted()) {
          throw new InterruptedException();
        }
        listener.at("factorizing", weightsDone, weightsInAll(), "weights");
        try (Scope scope = device.scope()) {
          PreparedGram gram = statistics == null ? null : statistics.of(expert);
          Corrected corrected = correct(work, expert, gram, scope);
          squares = add(squares, corrected.product.squares());
          energy += corrected.product.energy();
          before += corrected.before;
          write(corrected.product, scope, toA, toB);
          toBase.write(corrected.base);
        }
        weightsDone += (long) work.rows() * work.columns();
      }
    }
    Optional<Path> anew = options.rounds() > 1 ? Optional.of(base) : Optional.empty();
    double damping = statistics == null ? 0 : statistics.damping();
    found.put(work.name(), new Found(work, new Spectrum(work.info(), squares, energy), before, a, b, anew, damping));
    listener.at("factorizing", weightsDone, weightsInAll(), "weights");
  }

  /**
   * A product and what it comes on top of.
   *
   * @param before the squared error without one, in the first round
   * @param base encoded; nothing if nobody asks for it
   */
  @SuppressWarnings("ArrayRecordComponent") // only passed on
  private record Corrected(Factorizer.Product product, double before, byte[] base) {}

  /** Finds the product for a matrix; if there are several rounds, for what its base becomes, as long as each leaves less error. */
  private Corrected correct(Work work, int expert, PreparedGram gram, Scope scope) throws IOException {
    Matrix root = gram == null ? null : gram.root();
    try (Scope meanwhile = device.scope()) {
      Matrix whole = read(work.tensor, work, expert, meanwhile);
      if (work.base == null) {
        Factorizer.Product product = new Factorizer(device).product(scope, whole, root, work.rank);
        return new Corrected(product, product.energy(), new byte[0]);
      }
      Matrix base = read(work.base, work, expert, meanwhile);
      Factorizer.Product product = lacking(work, whole, base, root, scope);
      double before = product.energy();
      byte[] rounded = options.rounds() > 1 ? bytes(work, expert) : new byte[0];
      float[] importance = gram == null ? null : gram.importance();
      for (int round = 1; round < options.rounds(); round++) {
        byte[] anew = round(work, whole, product, importance, base);
        Factorizer.Product next = lacking(work, whole, base, root, scope);
        if (next.error(work.rank) >= product.error(work.rank)) {
          break;
        }
        product = next;
        rounded = anew;
      }
      return new Corrected(product, before, rounded);
    }
  }

  /** The product for what a base lacks. */
  private Factorizer.Product lacking(Work work, Matrix whole, Matrix base, Matrix root, Scope scope) {
    try (Scope meanwhile = device.scope()) {
      Matrix error = meanwhile.matrix(work.rows(), work.columns());
      device.add(1, whole, error);
      device.add(-1, base, error);
      return new Factorizer(device).product(scope, error, root, work.rank);
    }
  }

  private static byte[] bytes(Work work, int expert) throws IOException {
    byte[] bytes = new byte[Math.toIntExact(work.base.info().rowBytes() * work.rows())];
    work.base.readRows((long) expert * work.rows(), work.rows(), bytes, 0);
    return bytes;
  }

  /**
   * Rounds what a product leaves of a matrix to the base's type.
   *
   * @param importance how much each column weighs; {@code null} for alike
   * @param rounded gets the result
   * @return the same, encoded
   */
  private byte[] round(Work work, Matrix whole, Factorizer.Product product, float[] importance, Matrix rounded) {
    TensorInfo info = work.base.info();
    BlockEncoder encoder = encoder(info);
    int columns = work.columns();
    int rowBytes = Math.toIntExact(info.rowBytes());
    byte[] encoded = new byte[Math.multiplyExact(rowBytes, work.rows())];
    try (Scope meanwhile = device.scope()) {
      Matrix left = meanwhile.matrix(work.rows(), columns);
      device.add(1, whole, left);
      device.gemm(-1, product.b(), true, product.a(), false, 1, left);
      int most = Math.clamp(BAND / columns, 1, work.rows());
      float[] band = new float[Math.multiplyExact(most, columns)];
      for (int first = 0; first < work.rows(); first += most) {
        int count = Math.min(most, work.rows() - first);
        MemorySegment values = MemorySegment.ofArray(band).asSlice(0, (long) count * columns * Float.BYTES);
        device.download(left.rows(first, count), values);
        int to = first * rowBytes;
        workers.share(0, count, 1, (from, end) ->
          encoder.encode(band, from * columns, columns, end - from, importance, 0, encoded, to + from * rowBytes)
        );
        BlockDecoders.of(info.type()).decode(encoded, to, band, 0, count * columns);
        device.upload(values, rounded.rows(first, count));
      }
    }
    return encoded;
  }

  private static BlockEncoder encoder(TensorInfo info) {
    return BlockEncoders.of(info.type()).orElseThrow(() ->
      new IllegalArgumentException(info + " cannot be rounded here")
    );
  }

  private long weightsInAll() {
    return works
      .values()
      .stream()
      .mapToLong(work -> work.info().elements())
      .sum();
  }

  private static double[] add(double[] sums, double[] more) {
    if (sums.length == 0) {
      return more;
    }
    for (int i = 0; i < sums.length; i++) {
      sums[i] += more[i];
    }
    return sums;
  }

  /** Writes factors whose parts that are multiplied with each other are equally long: neither is to leave the range of half precision. */
  private void write(Factorizer.Product product, Scope scope, OutputStream toA, OutputStream toB) throws IOException {
    double[] ofA = MatrixRows.squares(device, product.a());
    double[] ofB = MatrixRows.squares(device, product.b());
    Matrix a = scope.matrix(product.a().rows(), product.a().columns());
    Matrix b = scope.matrix(product.b().rows(), product.b().columns());
    for (int i = 0; i < ofA.length; i++) {
      double scale = ofA[i] > 0 && ofB[i] > 0 ? Math.pow(ofA[i] / ofB[i], 0.25) : 1;
      device.add((float) (1 / scale), product.a().rows(i, 1), a.rows(i, 1));
      device.add((float) scale, product.b().rows(i, 1), b.rows(i, 1));
    }
    Matrix rows = scope.matrix(b.columns(), b.rows());
    device.transpose(b, rows);
    MatrixRows.write(device, a, toA);
    MatrixRows.write(device, rows, toB);
  }

  /** A matrix of a tensor, or of its base. */
  private Matrix read(Tensor tensor, Work work, int expert, Scope scope) throws IOException {
    int columns = work.columns();
    Matrix matrix = scope.matrix(work.rows(), columns);
    int most = Math.clamp(BAND / columns, 1, work.rows());
    float[] values = new float[Math.multiplyExact(most, columns)];
    long before = (long) expert * work.rows();
    for (int first = 0; first < work.rows(); first += most) {
      int count = Math.min(most, work.rows() - first);
      tensor.decodeRows(before + first, count, values, 0);
      for (int i = 0; i < count * columns; i++) {
        if (!Float.isFinite(values[i])) {
          throw new LowRankException(
            model.source() +
              ": tensor " +
              work.name() +
              ", row " +
              (before + first + i / columns) +
              ": found " +
              values[i] +
              ", expected a finite number"
          );
        }
      }
      device.upload(
        MemorySegment.ofArray(values).asSlice(0, (long) count * columns * Float.BYTES),
        matrix.rows(first, count)
      );
    }
    return matrix;
  }

  private void warn(String warning) {
    if (warned.add(warning)) {
      listener.warn(warning);
    }
  }

  private Factorization result(Optional<DivergenceMeter> meter, long tokens) throws IOException, InterruptedException {
    List<Found> all = works.keySet().stream().map(found::get).toList();
    int[] ranks = ranks(all, meter);
    List<FactoredTensor> tensors = new ArrayList<>();
    List<TensorInfo> whole = new ArrayList<>();
    for (int i = 0; i < ranks.length; i++) {
      Found of = all.get(i);
      if (ranks[i] == RankBudget.WHOLE) {
        whole.add(of.work.info());
      } else {
        tensors.add(of.withRank(ranks[i]));
      }
    }
    return new Factorization(tensors, whole, tokens);
  }

  private int[] ranks(List<Found> all, Optional<DivergenceMeter> meter) throws IOException, InterruptedException {
    return switch (options.ranks()) {
      case RankChoice.Same(int rank) -> all
        .stream()
        .mapToInt(_ -> rank)
        .toArray();
      case RankChoice.Energy(double kept) -> all
        .stream()
        .mapToInt(of -> RankBudget.forEnergy(of.spectrum, kept))
        .toArray();
      case RankChoice.Size(double kept) -> {
        double[] weights = new double[all.size()];
        Arrays.fill(weights, 1);
        if (meter.isPresent() && isSmall()) {
          weights = measured(all, kept, meter.get());
        } else if (meter.isPresent()) {
          warn(
            "what each tensor's error does to the predictions is not measured, that would take too long for this model"
          );
        }
        try {
          yield RankBudget.forSize(all.stream().map(Found::spectrum).toList(), weights, (long) (kept * weightsInAll()));
        } catch (IllegalArgumentException e) {
          throw new LowRankException(model.source() + ": " + e.getMessage(), e);
        }
      }
    };
  }

  private boolean isSmall() {
    double weights = 0;
    for (Tensor tensor : model.tensors()) {
      weights += tensor.info().rank() > 1 ? tensor.info().elements() : 0;
    }
    return works.size() * weights * PROBE_TOKENS <= PROBE_WORK;
  }

  /** What a tensor's loss does to the predictions, per loss: measured where it alone has the rank that would be its share of the size. */
  private double[] measured(List<Found> all, double kept, DivergenceMeter meter)
    throws IOException, InterruptedException {
    List<Model> trials = new ArrayList<>();
    List<String> names = new ArrayList<>();
    List<FactoredTensor> alone = new ArrayList<>();
    try {
      for (Found of : all) {
        long share = (long) ((kept * of.work.info().elements()) / of.spectrum.numbersPerRank());
        FactoredTensor tensor = of.withRank((int) Math.clamp(share, 1, of.work.rank));
        alone.add(tensor);
        names.add("with " + of.work.name() + " of rank " + tensor.rank());
        trials.add(FactoredModel.of(model, new Factorization(List.of(tensor), List.of(), 0)));
      }
      return perLoss(alone, meter.measure(trials, names));
    } finally {
      for (Model trial : trials) {
        trial.close();
      }
    }
  }

  private static double[] perLoss(List<FactoredTensor> alone, double[] divergences) {
    double[] weights = new double[divergences.length];
    double sum = 0;
    for (int i = 0; i < weights.length; i++) {
      weights[i] = divergences[i] / Math.max(alone.get(i).loss(), LEAST_LOSS);
      sum += weights[i];
    }
    for (int i = 0; i < weights.length; i++) {
      // What is too little to be measured is no reason to leave nothing of a tensor.
      weights[i] = sum > 0 ? Math.max(weights[i], (LEAST_WEIGHT * sum) / weights.length) : 1;
    }
    return weights;
  }
}
