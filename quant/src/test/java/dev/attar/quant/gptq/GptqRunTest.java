package dev.attar.quant.gptq;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.calibration.GramPlan;
import dev.attar.compute.DeviceChoice;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.OutputCheck;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.gguf.GgufModel;
import dev.attar.formats.imatrix.ImportanceMatrix;
import dev.attar.llama.LlamaModel;
import dev.attar.quant.FileType;
import dev.attar.quant.QuantizationException;
import dev.attar.quant.QuantizeOptions;
import dev.attar.quant.TensorTypeRule;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Optional;
import java.util.Set;
import java.util.TreeSet;
import java.util.function.Consumer;
import java.util.stream.Collectors;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class GptqRunTest {

  private static final Path SAMPLE = Path.of("../samples/sample");
  private static final Path EXPERTS = Path.of("../formats/src/test/resources/checkpoints/mixtral");
  private static final Path TEXT = Path.of("../samples/calibration.txt");
  private static final int CONTEXT = 128;
  private static final long MUCH = 8L << 30;

  /** 4 layers of 7 matrices; the head is tied to the embedding. */
  private static final int MATRICES = 28;

  @TempDir
  private static Path shared;

  /** The result of {@link #options} without interruption. */
  private static Path expected;

  private static GptqResult result;
  private static final Listener LISTENER = new Listener();

  @TempDir
  private Path folder;

  private Path out;

  /** Remembers what it hears. */
  private static final class Listener implements GptqListener {

    private final Set<String> phases = new LinkedHashSet<>();
    private final List<Long> quantized = new ArrayList<>();
    private long toQuantize;
    private final List<String> devices = new ArrayList<>();
    private final List<String> warnings = new ArrayList<>();
    private final List<TensorReport> tensors = new ArrayList<>();
    private Consumer<TensorReport> then = _ -> {};
    private OutputCheck check = OutputCheck.NONE;

    @Override
    public void at(String phase, long done, long total, String unit) {
      assertTrue(done >= 0 && done <= total, phase + " " + done + " of " + total + " " + unit);
      phases.add(phase);
      if (phase.startsWith("quantizing")) {
        assertEquals("weights", unit);
        quantized.add(done);
        toQuantize = total;
      }
    }

    @Override
    public void device(String line) {
      devices.add(line);
    }

    @Override
    public void warn(String message) {
      warnings.add(message);
    }

    @Override
    public void quantized(TensorReport report) {
      tensors.add(report);
      then.accept(report);
    }

    @Override
    public void written(Path file) throws IOException, InterruptedException {
      check.check(file);
    }
  }

  @BeforeAll
  static void quantizeOnce() throws IOException, InterruptedException {
    expected = shared.resolve("expected.gguf");
    result = run(SAMPLE, QuantizeOptions.of(FileType.Q4_K_S), options(false, MUCH), expected, LISTENER);
  }

  @BeforeEach
  void nameOutput() {
    out = folder.resolve("out.gguf");
  }

  private static GptqOptions options(boolean sequential, long maxMemory) {
    return options(2 * CONTEXT, CONTEXT, Optional.of(sequential), maxMemory, false, false);
  }

  private static GptqOptions options(
    long tokens,
    int context,
    Optional<Boolean> sequential,
    long maxMemory,
    boolean resume,
    boolean overwrite
  ) {
    return new GptqOptions(
      List.of(TEXT),
      tokens,
      context,
      false,
      Effort.of(1),
      GptqOptions.DEFAULT_DAMPING,
      sequential,
      maxMemory,
      1,
      DeviceChoice.CPU,
      resume,
      overwrite,
      Duration.ofMinutes(5)
    );
  }

  private static GptqOptions resumed(GptqOptions options) {
    return options(options.tokens(), options.context(), options.sequential(), options.maxMemory(), true, false);
  }

  private static GptqResult run(
    Path model,
    QuantizeOptions quantize,
    GptqOptions options,
    Path out,
    GptqListener listener
  ) throws IOException, InterruptedException {
    try (Model opened = Models.open(model)) {
      return GptqRun.run(opened, quantize, Optional.empty(), options, out, listener);
    }
  }

  private GptqResult run(QuantizeOptions quantize, GptqOptions options, Listener listener)
    throws IOException, InterruptedException {
    return run(SAMPLE, quantize, options, out, listener);
  }

  private static QuantizeOptions q4() {
    return QuantizeOptions.of(FileType.Q4_K_S);
  }

  private static long quantizedTensors(Path file, TensorType type) throws IOException {
    try (GgufModel model = GgufModel.open(file)) {
      return model
        .tensors()
        .stream()
        .map(Tensor::info)
        .filter(info -> info.type() == type && info.name().startsWith("blk."))
        .count();
    }
  }

  @Test
  void writesAFileThatLlamaRunsAndThatSaysHowItWasMade() throws IOException {
    assertFalse(Files.exists(WorkFolder.of(expected)));
    assertFalse(result.sequential());
    assertEquals(MATRICES, result.tensors().size());
    assertEquals(LISTENER.tensors.size(), result.tensors().size());
    assertTrue(result.errorRatio() > 0 && result.errorRatio() < 0.9, "" + result.errorRatio());
    assertEquals(1, LISTENER.devices.size());
    assertTrue(LISTENER.devices.getFirst().startsWith("device: cpu (OpenBLAS "), LISTENER.devices::toString);
    assertEquals(List.of("256 tokens are few for rows of 512, better take at least 2048"), LISTENER.warnings);
    assertEquals(
      List.of(
        "converting",
        "measuring importance",
        "measuring blk.0.attn_q.weight (pass 1 of 1)",
        "quantizing (pass 1 of 1)",
        "writing"
      ),
      List.copyOf(LISTENER.phases)
    );
    // Weight by weight, matrix after matrix.
    assertEquals(List.copyOf(new TreeSet<>(LISTENER.quantized)), LISTENER.quantized.stream().distinct().toList());
    assertEquals(MATRICES + 1, LISTENER.quantized.stream().distinct().count());
    assertEquals(LISTENER.toQuantize, LISTENER.quantized.getLast());
    Set<String> names = result.tensors().stream().map(TensorReport::name).collect(Collectors.toSet());
    long weights = result
      .plan()
      .tensors()
      .stream()
      .filter(step -> names.contains(step.name()))
      .mapToLong(step -> step.source().elements())
      .sum();
    assertEquals(weights, LISTENER.toQuantize);
    for (TensorReport report : result.tensors()) {
      assertTrue(report.errorRatio() < 1, report.toString());
      assertEquals(GptqOptions.DEFAULT_DAMPING, report.damping());
    }
    try (GgufModel model = GgufModel.open(expected)) {
      assertEquals(Optional.of("gptq"), model.metadata().string("attar.method"));
      assertEquals(2L * CONTEXT, model.metadata().integer("attar.gptq.tokens").orElseThrow());
      assertEquals(CONTEXT, model.metadata().integer("attar.gptq.context").orElseThrow());
      assertEquals(1, model.metadata().integer("attar.gptq.effort").orElseThrow());
      assertEquals(Optional.of(MetadataValue.bool(false)), model.metadata().get("attar.gptq.sequential"));
      assertEquals(Optional.of(MetadataValue.float32(0.01f)), model.metadata().get("attar.gptq.damping"));
      assertEquals(
        Optional.of(MetadataValue.strings(List.of("calibration.txt"))),
        model.metadata().get("attar.gptq.texts")
      );
      assertEquals(Optional.empty(), model.metadata().get("attar.gptq.raised_damping"));
    }
    try (LlamaModel model = LlamaModel.open(expected, LlamaModel.Options.defaults())) {
      assertEquals(4, model.layers());
    }
  }

  @Test
  void passesThatFitTheMemoryChangeNothing() throws IOException, InterruptedException {
    Listener listener = new Listener();
    // What collecting and then factoring the widest matrix takes: room for few at a time.
    long least = MemoryLimit.BASE + GramPlan.leastBytes(512, GramPlan.TILE);
    run(q4(), options(false, least), listener);
    long passes = listener.phases
      .stream()
      .filter(phase -> phase.matches("measuring \\S+ \\(pass \\d+ of \\d+\\)"))
      .count();
    assertTrue(passes >= 4, listener.phases.toString());
    assertEquals(-1, Files.mismatch(expected, out));
    Path second = folder.resolve("second.gguf");
    Listener none = new Listener();
    QuantizationException e = assertThrows(QuantizationException.class, () ->
      run(SAMPLE, q4(), options(false, least - 1), second, none)
    );
    assertEquals("GPTQ of rows of 512 needs 903 MiB of memory, --max-memory allows 902 MiB", e.getMessage());
    assertFalse(Files.exists(second));
    assertEquals(Set.of(), none.phases);
  }

  /** The shapes alone say what the drifts of all weights that meet an input take together. */
  @Test
  void tooLittleMemoryForDriftsIsToldBeforeAnythingIsDone() throws IOException, InterruptedException {
    long weights;
    try (Model model = Models.open(SAMPLE)) {
      weights = model
        .tensors()
        .stream()
        .mapToLong(tensor -> tensor.info().bytes())
        .sum();
    }
    // Of the inputs, that of gate and up, of 512 rows each, has the largest.
    long drifts = 2 * GramPlan.driftBytes(512, 256, CONTEXT);
    long least = MemoryLimit.BASE + weights + 20L * 512 * 512 + drifts;
    Listener none = new Listener();
    QuantizationException e = assertThrows(QuantizationException.class, () ->
      run(q4(), options(true, least - 1), none)
    );
    assertTrue(e.getMessage().startsWith("GPTQ of rows of 512 needs 9"), e.getMessage());
    assertEquals(Set.of(), none.phases);
    assertFalse(Files.exists(WorkFolder.of(out)));
    // What is known later is not more.
    IllegalStateException stop = new IllegalStateException("stopped");
    Listener stopping = new Listener();
    stopping.then = _ -> {
      throw stop;
    };
    assertSame(stop, assertThrows(IllegalStateException.class, () -> run(q4(), options(true, least), stopping)));
  }

  @Test
  void aStoppedRunGoesOnToTheSameFile() throws IOException, InterruptedException {
    IllegalStateException stop = new IllegalStateException("stopped");
    Listener stopping = new Listener();
    stopping.then = _ -> {
      if (stopping.tensors.size() == 9) {
        throw stop;
      }
    };
    assertSame(stop, assertThrows(IllegalStateException.class, () -> run(q4(), options(false, MUCH), stopping)));
    assertFalse(Files.exists(out));
    // A second time, by an interruption of the thread.
    Listener interrupting = new Listener();
    interrupting.then = _ -> {
      if (interrupting.tensors.size() == 4) {
        Thread.currentThread().interrupt();
      }
    };
    assertThrows(InterruptedException.class, () -> run(q4(), resumed(options(false, MUCH)), interrupting));
    assertFalse(Files.exists(out));
    assertFalse(Thread.interrupted());
    // A third time, by a look at the complete file.
    Listener refusing = new Listener();
    refusing.check = file -> {
      assertEquals(-1, Files.mismatch(expected, file));
      throw new IOException("refused");
    };
    IOException e = assertThrows(IOException.class, () -> run(q4(), resumed(options(false, MUCH)), refusing));
    assertEquals("refused", e.getMessage());
    assertEquals(MATRICES - 9 - 4, refusing.tensors.size());
    assertFalse(Files.exists(out));
    Listener last = new Listener();
    GptqResult resumed = run(q4(), resumed(options(false, MUCH)), last);
    assertEquals(List.of(), last.tensors);
    assertEquals(result.tensors(), resumed.tensors());
    assertEquals(-1, Files.mismatch(expected, out));
    assertFalse(Files.exists(WorkFolder.of(out)));
  }

  /** A model with a vector that no disk holds. */
  private record Vast(Model model) implements Model {
    private record Vector(TensorInfo info) implements Tensor {
      @Override
      public void readRows(long firstRow, int rows, byte[] out, int outOffset) {
        throw new AssertionError("nothing is read");
      }

      @Override
      public void decodeRows(long firstRow, int rows, float[] out, int outOffset) {
        throw new AssertionError("nothing is read");
      }
    }

    @Override
    public Path source() {
      return model.source();
    }

    @Override
    public List<Path> files() {
      return model.files();
    }

    @Override
    public Metadata metadata() {
      return model.metadata();
    }

    @Override
    public List<Tensor> tensors() {
      List<Tensor> tensors = new ArrayList<>(model.tensors());
      tensors.add(new Vector(new TensorInfo("blk.3.vast.bias", TensorType.F32, new long[] { 1L << 58 })));
      return tensors;
    }

    @Override
    public void close() throws IOException {
      model.close();
    }
  }

  @Test
  void tooLittleRoomOnTheDiskIsToldBeforeAnythingIsDone() throws IOException {
    Listener none = new Listener();
    try (Model vast = new Vast(Models.open(SAMPLE))) {
      IOException e = assertThrows(IOException.class, () ->
        GptqRun.run(vast, q4(), Optional.empty(), options(false, MUCH), out, none)
      );
      // Twice 2^60 bytes: the converted model and the result.
      assertTrue(
        e.getMessage().startsWith(WorkFolder.of(out) + ": needs 2,305,843,009,") &&
          e.getMessage().endsWith(" are free on the disk"),
        e.getMessage()
      );
    }
    assertEquals(Set.of(), none.phases);
    assertFalse(Files.exists(WorkFolder.of(out)));
  }

  /** What a power cut may leave of files that were there whole. */
  @Test
  void damagedFilesAreMadeAgain() throws IOException, InterruptedException {
    Listener stopping = new Listener();
    stopping.then = _ -> {
      if (stopping.tensors.size() == 3) {
        throw new IllegalStateException("stopped");
      }
    };
    assertThrows(IllegalStateException.class, () -> run(q4(), options(false, MUCH), stopping));
    Path work = WorkFolder.of(out);
    truncate(work.resolve("model.gguf"), 100_000);
    truncate(work.resolve(WorkFolder.IMPORTANCE), 0);
    truncate(work.resolve(WorkFolder.tensorName(stopping.tensors.getFirst().name())), 1000);
    Listener last = new Listener();
    GptqResult resumed = run(q4(), resumed(options(false, MUCH)), last);
    assertTrue(last.phases.containsAll(List.of("converting", "measuring importance")), last.phases.toString());
    assertEquals(MATRICES - 2, last.tensors.size());
    assertEquals(result.tensors(), resumed.tensors());
    assertEquals(-1, Files.mismatch(expected, out));
  }

  private static void truncate(Path file, long bytes) throws IOException {
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
      channel.truncate(bytes);
    }
  }

  @Test
  void aStoppedSequentialRunGoesOnToTheSameFile() throws IOException, InterruptedException {
    Path whole = folder.resolve("whole.gguf");
    GptqOptions options = options(CONTEXT, CONTEXT, Optional.of(true), MUCH, false, false);
    Listener uninterrupted = new Listener();
    GptqResult sequential = run(SAMPLE, q4(), options, whole, uninterrupted);
    assertTrue(sequential.sequential());
    assertEquals(
      16,
      uninterrupted.phases
        .stream()
        .filter(phase -> phase.matches("measuring .*\\(pass .*"))
        .count()
    );
    try (GgufModel model = GgufModel.open(whole)) {
      assertEquals(Optional.of(MetadataValue.bool(true)), model.metadata().get("attar.gptq.sequential"));
    }
    IllegalStateException stop = new IllegalStateException("stopped");
    Listener stopping = new Listener();
    stopping.then = report -> {
      // One of two weights that share an input, with layers before that have been replaced.
      if (report.name().equals("blk.2.ffn_gate.weight")) {
        throw stop;
      }
    };
    assertSame(stop, assertThrows(IllegalStateException.class, () -> run(q4(), options, stopping)));
    Listener last = new Listener();
    GptqResult resumed = run(q4(), resumed(options), last);
    assertEquals(MATRICES, stopping.tensors.size() + last.tensors.size());
    assertEquals(sequential.tensors(), resumed.tensors());
    assertEquals(-1, Files.mismatch(whole, out));
    assertNotEquals(-1, Files.mismatch(expected, out));
  }

  /** What GPTQ does not do counts for the layers after it all the same, also in a resumed run. */
  @Test
  void sequentialStatisticsSeeRoundedTensors() throws IOException, InterruptedException {
    GptqOptions options = options(CONTEXT, CONTEXT, Optional.of(true), MUCH, false, false);
    List<Path> files = new ArrayList<>();
    for (String type : List.of("iq3_s", "tq2_0")) {
      files.add(folder.resolve(type + ".gguf"));
      run(SAMPLE, rounding(type), options, files.getLast(), new Listener());
    }
    assertEquals(
      List.of("attn_output", "attn_v", "ffn_down", "ffn_gate", "ffn_up"),
      different(files.getFirst(), files.getLast())
        .stream()
        .filter(name -> name.startsWith("blk.0."))
        .map(name -> name.split("\\.")[2])
        .toList()
    );
    IllegalStateException stop = new IllegalStateException("stopped");
    Listener stopping = new Listener();
    stopping.then = report -> {
      if (report.name().equals("blk.1.attn_output.weight")) {
        throw stop;
      }
    };
    assertSame(stop, assertThrows(IllegalStateException.class, () -> run(rounding("tq2_0"), options, stopping)));
    GptqResult resumed = run(rounding("tq2_0"), resumed(options), new Listener());
    assertEquals(MATRICES - 2, resumed.tensors().size());
    assertEquals(-1, Files.mismatch(files.getLast(), out));
  }

  private static QuantizeOptions rounding(String type) {
    return q4().withTensorTypes(List.of(TensorTypeRule.parse("blk.0.(attn_v|ffn_down)=" + type)));
  }

  /** The names of the tensors whose bytes differ, sorted. */
  private static List<String> different(Path a, Path b) throws IOException {
    List<String> names = new ArrayList<>();
    try (GgufModel first = GgufModel.open(a); GgufModel second = GgufModel.open(b)) {
      for (int i = 0; i < first.tensors().size(); i++) {
        if (!Arrays.equals(values(first.tensors().get(i)), values(second.tensors().get(i)))) {
          names.add(first.tensors().get(i).info().name());
        }
      }
    }
    return names.stream().sorted().toList();
  }

  private static float[] values(Tensor tensor) throws IOException {
    float[] values = new float[Math.toIntExact(tensor.info().elements())];
    tensor.decodeRows(0, Math.toIntExact(tensor.info().rows()), values, 0);
    return values;
  }

  @Test
  void resumesOnlyWithTheSameSettings() throws IOException {
    Listener stopping = new Listener();
    stopping.then = _ -> {
      throw new IllegalStateException("stopped");
    };
    assertThrows(IllegalStateException.class, () -> run(q4(), options(false, MUCH), stopping));
    Path work = WorkFolder.of(out);
    FileAlreadyExistsException left = assertThrows(FileAlreadyExistsException.class, () ->
      run(q4(), options(false, MUCH), new Listener())
    );
    assertTrue(left.getMessage().endsWith("--resume goes on with it, --overwrite starts anew"), left.getMessage());
    GptqOptions longer = options(3 * CONTEXT, CONTEXT, Optional.of(false), MUCH, true, false);
    assertEquals(
      work + ": the interrupted run had tokens 256, this one has 384; --overwrite starts anew",
      assertThrows(QuantizationException.class, () -> run(q4(), longer, new Listener())).getMessage()
    );
    assertEquals(
      work + ": the interrupted run had type Q4_K_S, this one has Q4_K_M; --overwrite starts anew",
      assertThrows(QuantizationException.class, () ->
        run(QuantizeOptions.of(FileType.Q4_K_M), resumed(options(false, MUCH)), new Listener())
      ).getMessage()
    );
    // How much memory there is does not show in the result.
    Path report = work.resolve("tensors").resolve(stopping.tensors.getFirst().name() + ".report");
    Files.writeString(report, "damaged");
    assertEquals(
      report + ": damaged or missing; --overwrite starts anew",
      assertThrows(QuantizationException.class, () ->
        run(q4(), resumed(options(false, MUCH / 2)), new Listener())
      ).getMessage()
    );
    assertFalse(Files.exists(out));
  }

  @Test
  void refusesToReplaceAFileBeforeAnythingIsDone() throws IOException {
    Files.writeString(out, "mine");
    assertThrows(FileAlreadyExistsException.class, () -> run(q4(), options(false, MUCH), new Listener()));
    assertFalse(Files.exists(WorkFolder.of(out)));
    assertEquals("mine", Files.readString(out));
  }

  @Test
  void warnsOfTypesThatItDoesNotDo() throws IOException, InterruptedException {
    Listener listener = new Listener();
    GptqOptions brief = options(CONTEXT, CONTEXT, Optional.of(false), MUCH, false, false);
    GptqResult mixed = run(QuantizeOptions.of(FileType.IQ3_M), brief, listener);
    long others = quantizedTensors(out, TensorType.IQ3_S);
    assertTrue(others > 0 && !mixed.tensors().isEmpty());
    assertEquals(MATRICES, others + mixed.tensors().size());
    assertEquals(
      List.of(
        others + " tensors are rounded to IQ3_S, which GPTQ does not do",
        "128 tokens are few for rows of 256, better take at least 1024"
      ),
      listener.warnings
    );
  }

  @Test
  void theUsersImportanceSearchesTheScales() throws IOException, InterruptedException {
    try (ImportanceMatrix importance = ImportanceMatrix.open(SAMPLE.resolve("imatrix.gguf"))) {
      GptqResult weighed = run(q4().withImportance(importance, "imatrix.gguf"), options(false, MUCH), new Listener());
      assertEquals(MATRICES, weighed.tensors().size());
      assertNotEquals(-1, Files.mismatch(expected, out));
    }
    try (GgufModel model = GgufModel.open(out)) {
      assertEquals(Optional.of("imatrix.gguf"), model.metadata().string("quantize.imatrix.file"));
    }
  }

  @Test
  void expertsHaveStatisticsOfTheirOwn() throws IOException, InterruptedException {
    // The tiny model's down projections have rows of 48, which no block divides.
    GptqOptions all = options(128, 64, Optional.of(false), MUCH, false, false);
    Listener listener = new Listener();
    GptqResult whole = run(EXPERTS, QuantizeOptions.of(FileType.Q4_0), all, out, listener);
    assertEquals(List.of(), listener.warnings);
    List<String> names = whole.tensors().stream().map(TensorReport::name).toList();
    assertTrue(names.contains("blk.0.ffn_gate_exps.weight"), names.toString());
    assertTrue(names.contains("blk.1.ffn_up_exps.weight"), names.toString());
    for (TensorReport report : whole.tensors()) {
      assertTrue(report.errorRatio() < 1, report.toString());
    }
    try (LlamaModel model = LlamaModel.open(out, LlamaModel.Options.defaults())) {
      assertEquals(2, model.layers());
    }
    // So little memory that an input's experts are measured in several passes.
    long little = MemoryLimit.BASE + 300_000;
    for (boolean sequential : new boolean[] { false, true }) {
      Path parts = folder.resolve("parts-" + sequential + ".gguf");
      Listener heard = new Listener();
      // A sequential run holds the model, and the drift of the head is the largest.
      long more = sequential ? whole.plan().bytesBefore() + GramPlan.driftBytes(330, 32, 64) : 0;
      GptqOptions options = options(128, 64, Optional.of(sequential), little + more, false, false);
      GptqResult again = run(EXPERTS, QuantizeOptions.of(FileType.Q4_0), options, parts, heard);
      assertEquals(names, again.tensors().stream().map(TensorReport::name).toList());
      long passes = heard.phases
        .stream()
        .filter(phase -> phase.contains("_exps.weight (pass "))
        .count();
      assertTrue(passes >= 4, heard.phases.toString());
      if (!sequential) {
        assertEquals(-1, Files.mismatch(out, parts));
      }
    }
  }

  @Test
  void expertsThatSawTooLittleAreWarnedOf() throws IOException, InterruptedException {
    GptqOptions few = options(8, 8, Optional.of(false), MUCH, false, false);
    Listener listener = new Listener();
    GptqResult pooled = run(EXPERTS, QuantizeOptions.of(FileType.Q4_0), few, out, listener);
    assertTrue(pooled.tensors().size() > 4);
    List<String> experts = listener.warnings
      .stream()
      .filter(line -> line.contains("experts"))
      .toList();
    assertFalse(experts.isEmpty(), listener.warnings.toString());
    for (String line : experts) {
      assertTrue(
        line.matches(
          "blk\\.[01]\\.ffn_\\w+_exps\\.weight: [123] of 3 experts saw too few tokens and get the statistics of all together"
        ),
        line
      );
    }
  }
}
