package dev.attar.quant;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorType;
import dev.attar.formats.Version;
import dev.attar.formats.architecture.HuggingFaceModel;
import dev.attar.formats.architecture.OutputType;
import dev.attar.formats.gguf.GgufModel;
import dev.attar.formats.imatrix.ImportanceMatrix;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.zip.GZIPInputStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * Whole checkpoints against llama-quantize's results: every file type, plain, with importance, pure, and both. The sample is tested
 * always; the system property {@code attar.models} names a folder with more checkpoints, each with {@code imatrix.gguf} and {@code
 * quantized.manifests.json}.
 */
class ReferenceTest {

  private static final Path SAMPLE = Path.of("../samples/sample");
  private static final int THREADS = 2;
  private static final QuantizationRun.Progress QUIET = (_, _, _) -> {};

  @TempDir
  private Path folder;

  static List<Path> checkpoints() throws IOException {
    List<Path> all = new ArrayList<>(List.of(SAMPLE));
    String more = System.getProperty("attar.models");
    if (more != null) {
      try (var folders = Files.list(Path.of(more))) {
        folders
          .filter(f -> Files.exists(f.resolve("quantized.manifests.json")))
          .sorted()
          .forEach(all::add);
      }
    }
    return all;
  }

  @ParameterizedTest
  @MethodSource("checkpoints")
  void equalsLlamaQuantize(Path checkpoint) throws IOException, InterruptedException {
    Map<String, Reference> references = references(checkpoint);
    assertEquals(120, references.size());
    Digests digests = new Digests();
    int compared = 0;
    int refused = 0;
    try (
      Model model = HuggingFaceModel.open(checkpoint);
      ImportanceMatrix importance = ImportanceMatrix.open(checkpoint.resolve("imatrix.gguf"))
    ) {
      for (Reference reference : references.values()) {
        QuantizationPlan plan = QuantizationPlan.quantize(model, options(reference, importance));
        if (reference.refused() != null) {
          assertRefused(reference, plan);
          refused++;
          continue;
        }
        assertEquals(List.of(), plan.problems(), reference.variant());
        assertTypes(reference, plan);
        assertMetadata(reference, plan.metadata());
        digests.add(model, plan);
        for (TensorPlan tensor : plan.tensors()) {
          String expected = reference.tensors().get(tensor.name()).sha256();
          assertEquals(expected, digests.of(tensor), () -> reference.variant() + " " + tensor);
          compared++;
        }
      }
    }
    assertEquals(21, refused);
    assertTrue(compared >= 99 * 38, compared + " tensors");
  }

  /** The way through files: the checkpoint is converted, and the file quantized. */
  @ParameterizedTest
  @ValueSource(strings = { "Q4_K_M", "Q8_0", "IQ4_XS+imatrix", "Q5_1+pure+imatrix", "F16", "TQ2_0" })
  void equalsLlamaQuantizeByWayOfAConvertedFile(String variant) throws IOException, InterruptedException {
    Reference reference = references(SAMPLE).get(variant);
    Path converted = folder.resolve("bf16.gguf");
    try (Model model = HuggingFaceModel.open(SAMPLE)) {
      QuantizationPlan plan = QuantizationPlan.convert(model, OutputType.BF16);
      QuantizationRun.run(model, plan, converted, false, THREADS, QUIET);
    }
    Path out = folder.resolve("out.gguf");
    try (
      Model model = GgufModel.open(converted);
      ImportanceMatrix importance = ImportanceMatrix.open(SAMPLE.resolve("imatrix.gguf"))
    ) {
      QuantizationPlan plan = QuantizationPlan.quantize(model, options(reference, importance));
      QuantizationRun.run(model, plan, out, false, THREADS, QUIET);
      assertEquals(plan.fileBytes(), Files.size(out));
    }
    try (Model written = GgufModel.open(out); Model model = HuggingFaceModel.open(SAMPLE)) {
      assertMetadata(reference, written.metadata());
      assertEquals(Version.current(), written.metadata().string("attar.version").orElseThrow());
      List<String> names = new ArrayList<>();
      for (Tensor tensor : written.tensors()) {
        Reference.Digest expected = reference.tensors().get(tensor.info().name());
        assertEquals(expected.type(), tensor.info().type());
        byte[] bytes = new byte[(int) tensor.info().bytes()];
        tensor.readRows(0, (int) tensor.info().rows(), bytes, 0);
        assertEquals(expected.sha256(), HexFormat.of().formatHex(sha256().digest(bytes)), tensor.info().toString());
        names.add(tensor.info().name());
      }
      assertEquals(List.copyOf(reference.tensors().keySet()), names);
      // All else in the metadata is the checkpoint's.
      for (Map.Entry<String, MetadataValue> entry : model.metadata().values().entrySet()) {
        if (!reference.metadata().has(entry.getKey())) {
          assertEquals(entry.getValue(), written.metadata().values().get(entry.getKey()), entry.getKey());
        }
      }
    }
  }

  @Test
  void convertsToEveryType() throws IOException, InterruptedException {
    try (Model model = HuggingFaceModel.open(SAMPLE)) {
      for (OutputType type : OutputType.values()) {
        Path out = folder.resolve(type + ".gguf");
        QuantizationPlan plan = QuantizationPlan.convert(model, type);
        QuantizationRun.run(model, plan, out, false, THREADS, QUIET);
        try (GgufModel written = GgufModel.open(out)) {
          OutputType resolved = type == OutputType.AUTO ? OutputType.BF16 : type;
          assertEquals(resolved.fileType(), written.metadata().integer("general.file_type").orElseThrow());
          for (Tensor tensor : written.tensors()) {
            boolean norm = tensor.info().name().endsWith("_norm.weight");
            TensorType matrix = TensorType.byName(resolved.name()).orElseThrow();
            assertEquals(norm ? TensorType.F32 : matrix, tensor.info().type(), tensor.info().toString());
          }
        }
      }
    }
  }

  private static Map<String, Reference> references(Path checkpoint) throws IOException {
    Path manifest = checkpoint.resolve("quantized.manifests.json");
    if (Files.exists(manifest)) {
      try (InputStream in = Files.newInputStream(manifest)) {
        return Reference.read(in);
      }
    }
    InputStream resource = ReferenceTest.class.getResourceAsStream("sample.manifests.json.gz");
    assertNotNull(resource);
    try (InputStream in = new GZIPInputStream(resource)) {
      return Reference.read(in);
    }
  }

  private static QuantizeOptions options(Reference reference, ImportanceMatrix importance) {
    QuantizeOptions options = QuantizeOptions.of(reference.fileType()).withPure(reference.pure());
    // The file is named in the metadata as it was given to llama-quantize.
    String file = reference.metadata().path("quantize.imatrix.file").path("value").asText("imatrix.gguf");
    return reference.importance() ? options.withImportance(importance, file) : options;
  }

  private static void assertRefused(Reference reference, QuantizationPlan plan) {
    assertFalse(plan.problems().isEmpty(), reference.variant());
    if (reference.refused().startsWith("aborts")) {
      String expected =
        "token_embd.weight: has no importance in the matrix, which " + reference.fileType().defaultType();
      assertTrue(
        plan
          .problems()
          .stream()
          .anyMatch(p -> p.startsWith(expected)),
        () -> reference.variant() + plan.problems()
      );
    } else {
      assertEquals("requires an importance matrix", reference.refused());
      assertTrue(
        plan
          .problems()
          .stream()
          .allMatch(p -> p.contains(reference.refused())),
        () -> reference.variant() + plan.problems()
      );
    }
  }

  private static void assertTypes(Reference reference, QuantizationPlan plan) {
    Map<String, TensorType> expected = new LinkedHashMap<>();
    reference.tensors().forEach((name, tensor) -> expected.put(name, tensor.type()));
    Map<String, TensorType> types = new LinkedHashMap<>();
    plan.tensors().forEach(t -> types.put(t.name(), t.target()));
    // The order counts too.
    assertEquals(List.copyOf(expected.entrySet()), List.copyOf(types.entrySet()), reference.variant());
  }

  private static void assertMetadata(Reference reference, Metadata metadata) {
    List<String> keys = new ArrayList<>();
    for (Map.Entry<String, JsonNode> entry : reference.metadata().properties()) {
      MetadataValue value = metadata.get(entry.getKey()).orElseThrow();
      assertEquals(entry.getValue().get("type").asText().toUpperCase(java.util.Locale.ROOT), value.type().name());
      assertEquals(entry.getValue().get("value").asText(), value.toString(), entry.getKey());
      keys.add(entry.getKey());
    }
    List<String> all = metadata
      .values()
      .keySet()
      .stream()
      .filter(key -> !key.startsWith("attar."))
      .toList();
    assertEquals(keys, all.subList(all.size() - keys.size(), all.size()));
  }

  private static MessageDigest sha256() {
    try {
      return MessageDigest.getInstance("SHA-256");
    } catch (NoSuchAlgorithmException e) {
      throw new AssertionError(e);
    }
  }

  /** What each tensor's bytes come to. Variants share most of them, and each is encoded once. */
  private static final class Digests {

    private final Map<TensorPlan, String> known = new HashMap<>();

    void add(Model model, QuantizationPlan plan) throws IOException, InterruptedException {
      List<TensorPlan> steps = plan
        .tensors()
        .stream()
        .map(Digests::key)
        .filter(t -> !known.containsKey(t))
        .toList();
      byte[][] bytes = steps
        .stream()
        .map(step -> new byte[(int) step.bytesAfter()])
        .toArray(byte[][]::new);
      QuantizationPlan missing = new QuantizationPlan(
        plan.source(),
        plan.metadata(),
        steps,
        plan.importance(),
        0,
        List.of()
      );
      QuantizationRun.run(
        model,
        missing,
        (tensor, offset, in, from, length) -> System.arraycopy(in, from, bytes[tensor], (int) offset, length),
        THREADS,
        QUIET
      );
      for (int i = 0; i < bytes.length; i++) {
        known.put(steps.get(i), HexFormat.of().formatHex(sha256().digest(bytes[i])));
      }
    }

    String of(TensorPlan step) {
      return known.get(key(step));
    }

    private static TensorPlan key(TensorPlan step) {
      return new TensorPlan(step.source(), step.target(), step.importance(), "");
    }
  }
}
