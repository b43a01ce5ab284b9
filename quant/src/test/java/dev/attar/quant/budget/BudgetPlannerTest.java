package dev.attar.quant.budget;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.compute.Device;
import dev.attar.compute.Devices;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.TensorType;
import dev.attar.formats.gguf.GgufModel;
import dev.attar.quant.FileType;
import dev.attar.quant.QuantizationException;
import dev.attar.quant.QuantizationPlan;
import dev.attar.quant.QuantizationRun;
import dev.attar.quant.QuantizeOptions;
import dev.attar.quant.TensorPlan;
import dev.attar.quant.TensorTypeRule;
import dev.attar.quant.TestModels;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.Set;
import java.util.stream.Collectors;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class BudgetPlannerTest {

  private static final Path SAMPLE = Path.of("../samples/sample");
  private static final QuantizeOptions NO_WISHES = QuantizeOptions.of(FileType.Q8_0);
  private static final OutputErrors.Settings SOME_ROWS = new OutputErrors.Settings(64, 2);

  private static Device device;
  private static Model sample;
  private static GramSource grams;
  private static List<TensorErrors> errors;
  private static LossModel losses;

  @TempDir
  private Path folder;

  @BeforeAll
  static void measureTheSample() throws IOException, InterruptedException {
    device = Devices.cpu(2);
    sample = Models.open(SAMPLE);
    Map<String, Integer> columns = new HashMap<>();
    sample.tensors().forEach(t -> columns.put(t.info().name(), (int) t.info().rowLength()));
    Map<Integer, TestGram> made = new HashMap<>();
    grams = (name, _) -> {
      boolean lookedUp = name.equals("token_embd.weight");
      return lookedUp
        ? Optional.empty()
        : Optional.of(made.computeIfAbsent(columns.get(name), n -> TestGram.correlated(n, 100, n)));
    };
    BudgetPlanner planner = planner(new SizeTarget.BitsPerWeight(8), NO_WISHES);
    errors = planner.errors(grams, device, SOME_ROWS, (_, _, _) -> {});
    losses = planner.calibrate(errors, BudgetPlannerTest::madeUp);
  }

  @AfterAll
  static void close() throws IOException {
    sample.close();
    device.close();
  }

  private static BudgetPlanner planner(SizeTarget target, QuantizeOptions wishes) throws QuantizationException {
    return BudgetPlanner.of(sample, wishes, target, BudgetPlanner.LADDER);
  }

  /** Divergences that differ from kind to kind. */
  private static double[] madeUp(List<Probe> probes) {
    return probes
      .stream()
      .mapToDouble(probe -> 0.001 * probe.types().size() * (1 + probe.name().length()))
      .toArray();
  }

  @Test
  void hitsFileSizes() throws IOException, InterruptedException {
    double last = Double.POSITIVE_INFINITY;
    for (long size = 1_350_000; size < 5_000_000; size += 171_001) {
      SizeTarget target = new SizeTarget.FileSize(size);
      BudgetPlan chosen = planner(target, NO_WISHES).choose(losses);
      assertTrue(chosen.plan().fileBytes() <= size, chosen.plan().fileBytes() + " for " + size);
      assertTrue(chosen.plan().fileBytes() >= 0.98 * size, chosen.plan().fileBytes() + " for " + size);
      assertEquals(List.of(), chosen.plan().problems());
      double divergence = chosen.divergence().orElseThrow();
      assertTrue(divergence <= last, divergence + " after " + last);
      assertEquals(chosen.choices().stream().mapToDouble(BudgetPlan.Choice::loss).sum(), divergence, 1e-12);
      last = divergence;
    }
  }

  @Test
  void writesTheFileOfThatSize() throws IOException, InterruptedException {
    BudgetPlan chosen = planner(new SizeTarget.FileSize(2_000_000), NO_WISHES).choose(losses);
    Path out = folder.resolve("out.gguf");
    QuantizationRun.run(sample, chosen.plan(), out, false, 2, (_, _, _) -> {});
    assertTrue(Files.size(out) <= 2_000_000 && Files.size(out) > 1_960_000, Files.size(out) + " bytes");
    try (GgufModel written = GgufModel.open(out)) {
      Map<String, TensorType> types = new HashMap<>();
      written.tensors().forEach(t -> types.put(t.info().name(), t.info().type()));
      chosen.choices().forEach(c -> assertEquals(c.type(), types.get(c.tensor().name())));
      Map<String, MetadataValue> metadata = written.metadata().values();
      assertEquals(MetadataValue.uint64(2_000_000), metadata.get("attar.quantize.target_size"));
      assertFalse(metadata.containsKey("attar.quantize.type"));
    }
    // The options alone lead to the same plan.
    assertEquals(chosen.plan(), QuantizationPlan.quantize(sample, chosen.options()));
  }

  @Test
  void hitsBitsPerWeight() throws IOException {
    Set<TensorType> used = EnumSet.noneOf(TensorType.class);
    for (double bits : new double[] { 2.9, 3.5, 4.25, 4.5, 5, 6.5625, 8.1 }) {
      BudgetPlan chosen = planner(new SizeTarget.BitsPerWeight(bits), NO_WISHES).choose(losses);
      double found = chosen.plan().bitsPerWeight();
      assertTrue(found <= bits && found > 0.98 * bits, found + " for " + bits);
      MetadataValue noted = chosen.plan().metadata().values().get("attar.quantize.target_bpw");
      assertEquals(MetadataValue.float32((float) bits), noted);
      chosen.choices().forEach(c -> used.add(c.type()));
    }
    assertTrue(used.containsAll(BudgetPlanner.LADDER.subList(0, 6)), used.toString());
  }

  @Test
  void nothingChangesWhereTheTargetAdmitsIt() throws IOException {
    assertTrue(planner(new SizeTarget.BitsPerWeight(16), NO_WISHES).unchanged().isEmpty());
    BudgetPlan all = planner(new SizeTarget.BitsPerWeight(16.1), NO_WISHES).unchanged().orElseThrow();
    assertTrue(all.plan().tensors().stream().allMatch(TensorPlan::copies));
    assertTrue(
      all
        .choices()
        .stream()
        .allMatch(c -> c.error() == 0 && c.loss() == 0)
    );
    assertEquals(OptionalDouble.empty(), all.divergence());
    // What the user names is kept, and makes room.
    QuantizeOptions wishes = NO_WISHES.withTensorTypes(List.of(TensorTypeRule.parse("ffn_down=q4_0")));
    BudgetPlan some = planner(new SizeTarget.BitsPerWeight(16), wishes).unchanged().orElseThrow();
    for (BudgetPlan.Choice choice : some.choices()) {
      assertEquals(choice.pinned() ? TensorType.Q4_0 : TensorType.BF16, choice.type());
      assertEquals(choice.pinned(), Double.isNaN(choice.error()));
    }
  }

  @Test
  void namesTheFileTypeThatMostWeightsHave() throws IOException {
    QuantizationPlan small = planner(new SizeTarget.BitsPerWeight(2.8), NO_WISHES).choose(losses).plan();
    assertEquals(FileType.Q2_K.id(), small.metadata().integer("general.file_type").orElseThrow());
    QuantizationPlan large = planner(new SizeTarget.BitsPerWeight(32), NO_WISHES).choose(losses).plan();
    assertEquals(FileType.BF16.id(), large.metadata().integer("general.file_type").orElseThrow());
    assertTrue(large.tensors().stream().allMatch(TensorPlan::copies));
  }

  @Test
  void keepsWhatTheUserNames() throws IOException, InterruptedException {
    QuantizeOptions wishes = NO_WISHES.withTokenEmbeddingType(TensorType.Q8_0).withTensorTypes(
      List.of(TensorTypeRule.parse("attn_v=q6_k"))
    );
    BudgetPlanner planner = planner(new SizeTarget.BitsPerWeight(5), wishes);
    BudgetPlan chosen = planner.choose(losses);
    int pinned = 0;
    for (BudgetPlan.Choice choice : chosen.choices()) {
      String name = choice.tensor().name();
      boolean embedding = name.equals("token_embd.weight");
      boolean named = embedding || name.contains("attn_v");
      assertEquals(named, choice.pinned());
      if (named) {
        assertEquals(embedding ? TensorType.Q8_0 : TensorType.Q6_K, choice.type());
        pinned++;
      }
    }
    assertEquals(5, pinned);
    assertTrue(chosen.plan().bitsPerWeight() <= 5 && chosen.plan().bitsPerWeight() > 4.9);
    assertTrue(chosen.plan().metadata().values().containsKey("attar.quantize.tensor_types"));
    for (Probe probe : planner.probes(errors)) {
      probe.types().forEach((name, type) -> assertTrue(!name.contains("attn_v") || type == TensorType.Q6_K));
    }
  }

  @Test
  void probesEachKindAloneAndAllTogether() throws IOException {
    List<Probe> probes = planner(new SizeTarget.BitsPerWeight(3), NO_WISHES).probes(errors);
    assertEquals(
      List.of("token_embd", "attn_k", "attn_output", "attn_q", "attn_v", "ffn_down", "ffn_gate", "ffn_up", "all"),
      probes.stream().map(Probe::name).toList()
    );
    for (Probe probe : probes) {
      QuantizationPlan plan = QuantizationPlan.quantize(sample, probe.options());
      assertEquals(List.of(), plan.problems());
      Map<String, TensorType> changed = plan
        .tensors()
        .stream()
        .filter(t -> !t.copies())
        .collect(Collectors.toMap(TensorPlan::name, TensorPlan::target));
      assertEquals(probe.types(), changed);
      assertEquals(Set.of(TensorType.Q3_K), Set.copyOf(changed.values()));
    }
    assertEquals(29, probes.getLast().types().size());
  }

  @Test
  void predictsNoDivergenceWithoutMeasurements() throws IOException, InterruptedException {
    BudgetPlanner planner = planner(new SizeTarget.BitsPerWeight(4.5), NO_WISHES);
    LossModel model = planner.calibrate(errors, DivergenceMeter.NONE);
    BudgetPlan chosen = planner.choose(model);
    assertEquals(OptionalDouble.empty(), chosen.divergence());
    assertTrue(chosen.plan().bitsPerWeight() <= 4.5 && chosen.plan().bitsPerWeight() > 4.4);
  }

  @Test
  void saysHowSmallItCanBecome() throws IOException {
    String message = assertThrows(QuantizationException.class, () ->
      planner(new SizeTarget.FileSize(1_000_000), NO_WISHES)
    ).getMessage();
    assertTrue(
      message.matches(".*sample: cannot become smaller than \\d+ bytes, the target is 1000000 bytes"),
      message
    );
    long least = Long.parseLong(message.replaceAll(".*than (\\d+) bytes.*", "$1"));
    BudgetPlan chosen = planner(new SizeTarget.FileSize(least), NO_WISHES).choose(losses);
    assertEquals(least, chosen.plan().fileBytes());
    assertThrows(QuantizationException.class, () -> planner(new SizeTarget.FileSize(least - 1), NO_WISHES));

    message = assertThrows(QuantizationException.class, () ->
      planner(new SizeTarget.BitsPerWeight(2), NO_WISHES)
    ).getMessage();
    assertTrue(message.endsWith("the target is 2 bits per weight"), message);
    double bits = Double.parseDouble(message.replaceAll(".*than ([0-9.]+) bits.*", "$1"));
    assertTrue(planner(new SizeTarget.BitsPerWeight(bits), NO_WISHES).choose(losses).plan().bitsPerWeight() <= bits);
  }

  @Test
  void takesWhatFitsRowsOfAnyLength() throws IOException, InterruptedException {
    Path file = new TestModels()
      .tensor("token_embd.weight", TensorType.BF16, 256, 64)
      .tensor("output_norm.weight", TensorType.F32, 256)
      .tensor("blk.0.attn_q.weight", TensorType.BF16, 288, 100)
      .tensor("blk.0.attn_k.weight", TensorType.F32, 40, 100)
      .tensor("blk.0.attn_v.weight", TensorType.BF16, 256, 1)
      .tensor("blk.0.ffn_up_exps.weight", TensorType.BF16, 256, 30, 4)
      .tensor("blk.0.ffn_gate_inp.weight", TensorType.F32, 256, 4)
      .write(folder.resolve("m.gguf"));
    try (Model model = GgufModel.open(file)) {
      BudgetPlanner planner = BudgetPlanner.of(
        model,
        NO_WISHES,
        new SizeTarget.FileSize(Files.size(file) / 2),
        BudgetPlanner.LADDER
      );
      Map<String, List<TensorType>> types = planner
        .tensors()
        .stream()
        .collect(Collectors.toMap(t -> t.tensor().name(), t -> t.types()));
      assertEquals(
        Set.of("token_embd.weight", "blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.ffn_up_exps.weight"),
        types.keySet()
      );
      assertEquals(
        EnumSet.of(
          TensorType.Q4_0,
          TensorType.IQ4_NL,
          TensorType.Q5_0,
          TensorType.Q5_1,
          TensorType.Q8_0,
          TensorType.BF16
        ),
        EnumSet.copyOf(types.get("blk.0.attn_q.weight"))
      );
      assertEquals(List.of(TensorType.F16, TensorType.F32), types.get("blk.0.attn_k.weight"));
      List<TensorErrors> measured = planner.errors(GramSource.NONE, device, SOME_ROWS, (_, _, _) -> {});
      BudgetPlan chosen = planner.choose(LossModel.uncalibrated(measured));
      assertTrue(chosen.plan().fileBytes() <= Files.size(file) / 2);
      assertTrue(chosen.plan().fileBytes() >= 0.9 * (Files.size(file) / 2), chosen.plan().fileBytes() + " bytes");
    }
  }

  @Test
  void leavesQuantizedTensorsAloneUnlessAllowed() throws IOException {
    Path file = new TestModels()
      .tensor("token_embd.weight", TensorType.BF16, 256, 64)
      .tensor("blk.0.attn_q.weight", TensorType.Q8_0, 256, 256)
      .write(folder.resolve("m.gguf"));
    try (Model model = GgufModel.open(file)) {
      SizeTarget target = new SizeTarget.BitsPerWeight(5);
      String message = assertThrows(QuantizationException.class, () ->
        BudgetPlanner.of(model, NO_WISHES, target, BudgetPlanner.LADDER)
      ).getMessage();
      assertTrue(message.endsWith("; what is quantized already stays as it is without --allow-requantize"), message);
      QuantizeOptions allowed = NO_WISHES.withAllowRequantize(true);
      BudgetPlanner planner = BudgetPlanner.of(model, allowed, target, BudgetPlanner.LADDER);
      assertEquals(8, planner.tensors().get(1).types().size() + 1);
    }
  }

  @Test
  void refusesTypesThatNeedAnImportanceMatrix() {
    List<TensorType> ladder = List.of(TensorType.Q2_K, TensorType.IQ3_XXS, TensorType.Q8_0);
    String message = assertThrows(QuantizationException.class, () ->
      BudgetPlanner.of(sample, NO_WISHES, new SizeTarget.BitsPerWeight(4), ladder)
    ).getMessage();
    assertTrue(message.contains("IQ3_XXS requires an importance matrix"), message);
  }

  @Test
  void passesOverTypesThatCannotHoldAValue() throws IOException, InterruptedException {
    Path file = new TestModels()
      .tensor("token_embd.weight", TensorType.BF16, x -> x[3] = 3e38f, 256, 64)
      .tensor("blk.0.attn_q.weight", TensorType.BF16, 256, 256)
      .write(folder.resolve("m.gguf"));
    List<TensorType> ladder = List.of(TensorType.Q2_K, TensorType.Q4_K, TensorType.Q8_0);
    try (Model model = GgufModel.open(file)) {
      BudgetPlanner roomy = BudgetPlanner.of(model, NO_WISHES, new SizeTarget.BitsPerWeight(7), ladder);
      LossModel measured = LossModel.uncalibrated(roomy.errors(GramSource.NONE, device, SOME_ROWS, (_, _, _) -> {}));
      List<TensorType> chosen = roomy.choose(measured).choices().stream().map(BudgetPlan.Choice::type).toList();
      assertEquals(List.of(TensorType.BF16, TensorType.Q4_K), chosen);
      BudgetPlanner tight = BudgetPlanner.of(model, NO_WISHES, new SizeTarget.BitsPerWeight(4), ladder);
      String message = assertThrows(QuantizationException.class, () -> tight.choose(measured)).getMessage();
      String expected = "no types that hold the values of all tensors come to at most 4 bits per weight";
      assertTrue(message.endsWith(expected), message);
    }
  }
}
