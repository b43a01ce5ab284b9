package dev.attar.quant.gptq;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.compute.DeviceChoice;
import dev.attar.formats.Model;
import dev.attar.formats.TensorType;
import dev.attar.formats.gguf.GgufModel;
import dev.attar.quant.ChosenTypes;
import dev.attar.quant.FileType;
import dev.attar.quant.QuantizeOptions;
import dev.attar.quant.TensorTypeRule;
import dev.attar.quant.TestModels;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Set;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class RunSettingsTest {

  @TempDir
  private Path folder;

  private Path file;
  private Path text;
  private Path namesake;

  @BeforeEach
  void write() throws IOException {
    file = new TestModels().tensor("blk.0.attn_q.weight", TensorType.BF16, 256, 4).write(folder.resolve("m.gguf"));
    text = Files.writeString(folder.resolve("a.txt"), "hen");
    namesake = Files.writeString(Files.createDirectory(folder.resolve("b")).resolve("a.txt"), "fox");
  }

  private static GptqOptions options(List<Path> texts, int effort, double damping, long tokens, int context) {
    Optional<Boolean> sequential = Optional.of(false);
    Effort level = Effort.of(effort);
    Duration patience = Duration.ofMinutes(1);
    return new GptqOptions(
      texts,
      tokens,
      context,
      false,
      level,
      damping,
      sequential,
      1L << 30,
      1,
      DeviceChoice.CPU,
      false,
      false,
      patience
    );
  }

  private GptqOptions usual() {
    return options(List.of(text), 2, 0.01, 1024, 64);
  }

  private static QuantizeOptions quantize() {
    return QuantizeOptions.of(FileType.Q4_K_M);
  }

  private Map<String, String> settings(QuantizeOptions quantize, GptqOptions options) throws IOException {
    try (Model model = GgufModel.open(file)) {
      return RunSettings.of(model, quantize, Optional.empty(), options, false).values();
    }
  }

  /** The names of settings in which a run differs from the usual one. */
  private Set<String> differences(QuantizeOptions quantize, GptqOptions options) throws IOException {
    Map<String, String> usual = settings(quantize(), usual());
    Map<String, String> other = settings(quantize, options);
    Set<String> names = new LinkedHashSet<>(usual.keySet());
    names.addAll(other.keySet());
    names.removeIf(name -> usual.getOrDefault(name, "").equals(other.getOrDefault(name, "")));
    return names;
  }

  @Test
  void whatTheResultDependsOnDiffers() throws IOException {
    assertEquals(Set.of(), differences(quantize(), usual()));
    assertEquals(Set.of("effort"), differences(quantize(), options(List.of(text), 3, 0.01, 1024, 64)));
    assertEquals(Set.of("damping"), differences(quantize(), options(List.of(text), 2, 0.02, 1024, 64)));
    assertEquals(Set.of("tokens", "context"), differences(quantize(), options(List.of(text), 2, 0.01, 512, 32)));
    assertEquals(Set.of("type"), differences(QuantizeOptions.of(FileType.Q4_0), usual()));
    assertEquals(Set.of("pure"), differences(quantize().withPure(true), usual()));
    assertEquals(
      Set.of("tensor types"),
      differences(quantize().withTensorTypes(List.of(TensorTypeRule.parse("attn_q=Q8_0"))), usual())
    );
    assertEquals(Set.of("output tensor type"), differences(quantize().withOutputTensorType(TensorType.Q6_K), usual()));
    assertEquals(
      Set.of("token embedding type"),
      differences(quantize().withTokenEmbeddingType(TensorType.Q6_K), usual())
    );
    assertEquals(Set.of("leave output tensor"), differences(quantize().withLeaveOutputTensor(true), usual()));
    ChosenTypes chosen = new ChosenTypes(Map.of("blk.0.attn_q.weight", TensorType.Q5_K), Map.of());
    assertEquals(Set.of("chosen types"), differences(quantize().withChosen(FileType.Q4_K_M, chosen), usual()));
  }

  @Test
  void textsCountByContentAndPlace() throws IOException {
    List<Path> both = List.of(text, namesake);
    assertEquals(Set.of("text 1"), differences(quantize(), options(List.of(namesake), 2, 0.01, 1024, 64)));
    assertEquals(Set.of("text 2"), differences(quantize(), options(both, 2, 0.01, 1024, 64)));
    assertEquals(Set.of("text 1", "text 2"), differences(quantize(), options(both.reversed(), 2, 0.01, 1024, 64)));
  }

  @Test
  void anotherModelInTheSamePlaceDiffers() throws IOException {
    Map<String, String> before = settings(quantize(), usual());
    assertTrue(before.containsKey("file m.gguf"), before.toString());
    new TestModels().tensor("blk.0.attn_q.weight", TensorType.BF16, 256, 5).write(file);
    Map<String, String> after = settings(quantize(), usual());
    assertTrue(!before.get("file m.gguf").equals(after.get("file m.gguf")), after.toString());
    after.put("file m.gguf", before.get("file m.gguf"));
    assertEquals(before, after);
  }

  @Test
  void theIdentityIsOneLineWithEverySetting() throws IOException {
    try (Model model = GgufModel.open(file)) {
      RunSettings settings = RunSettings.of(model, quantize(), Optional.empty(), usual(), true);
      String identity = settings.identity();
      assertEquals(1, identity.lines().count());
      settings.values().forEach((name, value) -> assertTrue(identity.contains(name + "=" + value), name));
      assertEquals("true", settings.values().get("sequential"));
    }
  }
}
