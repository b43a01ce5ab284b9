package dev.attar.formats.architecture;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import dev.attar.formats.FormatException;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.gguf.GgufModel;
import dev.attar.formats.gguf.GgufWriter;
import dev.attar.formats.safetensors.ElementType;
import dev.attar.formats.safetensors.SafetensorsCheckpoint;
import dev.attar.formats.safetensors.StoredTensor;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.UnaryOperator;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.MethodSource;

class HuggingFaceWriterTest {

  private static final ObjectMapper MAPPER = new ObjectMapper();
  private static final Path CHECKPOINTS = Path.of("src/test/resources/checkpoints");

  @TempDir
  private Path folder;

  static List<Path> checkpoints() throws IOException {
    try (Stream<Path> entries = Files.list(CHECKPOINTS)) {
      return Stream.concat(entries.filter(Files::isDirectory), Stream.of(Path.of("../samples/sample")))
        .sorted()
        .toList();
    }
  }

  private static void write(Model model, Path checkpoint, int[] layers, Path out, boolean overwrite) throws Exception {
    HuggingFaceWriter.write(model, checkpoint, layers, out, overwrite, (_, _, _) -> {}, _ -> {});
  }

  private static int[] all(Model model) {
    int layers = (int) model.metadata().integer(model.metadata().architecture() + ".block_count").orElseThrow();
    return IntStream.range(0, layers).toArray();
  }

  private static JsonNode config(Path checkpoint) throws IOException {
    return MAPPER.readTree(checkpoint.resolve("config.json").toFile());
  }

  /** A stored tensor by itself. */
  @SuppressWarnings("ArrayRecordComponent")
  private record Stored(ElementType type, long[] shape, byte[] bytes) {
    static Stored of(StoredTensor tensor) {
      return new Stored(tensor.type(), tensor.shape(), tensor.bytes().toArray(JAVA_BYTE));
    }

    /** Single precision in the place of double. */
    Stored withoutDoubles() {
      if (type != ElementType.F64) {
        return this;
      }
      ByteBuffer in = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
      ByteBuffer out = ByteBuffer.allocate(bytes.length / 2).order(ByteOrder.LITTLE_ENDIAN);
      while (in.hasRemaining()) {
        out.putFloat((float) in.getDouble());
      }
      return new Stored(ElementType.F32, shape, out.array());
    }
  }

  private static Map<String, Stored> stored(Path checkpoint) throws IOException {
    try (SafetensorsCheckpoint tensors = SafetensorsCheckpoint.open(checkpoint)) {
      return tensors
        .tensors()
        .stream()
        .collect(Collectors.toMap(StoredTensor::name, Stored::of, (a, _) -> a, TreeMap::new));
    }
  }

  private static void assertStored(Map<String, Stored> expected, Map<String, Stored> found) {
    assertEquals(expected.keySet(), found.keySet());
    expected.forEach((name, tensor) -> {
      assertEquals(tensor.type, found.get(name).type, name);
      assertArrayEquals(tensor.shape, found.get(name).shape, name);
      assertArrayEquals(tensor.bytes, found.get(name).bytes, name);
    });
  }

  private static void assertSameTensors(Model expected, Model found) throws IOException {
    Map<String, Tensor> byName = new TreeMap<>();
    found.tensors().forEach(tensor -> byName.put(tensor.info().name(), tensor));
    assertEquals(expected.tensors().size(), byName.size());
    for (Tensor tensor : expected.tensors()) {
      Tensor other = byName.get(tensor.info().name());
      assertEquals(tensor.info(), other.info());
      assertArrayEquals(
        MemoryModel.Content.of(tensor).bytes(),
        MemoryModel.Content.of(other).bytes(),
        tensor.info().name()
      );
    }
  }

  @ParameterizedTest
  @MethodSource("checkpoints")
  void everyCheckpointComesBack(Path checkpoint) throws Exception {
    // Of the same name, by which general.name and others are the same.
    Path out = folder.resolve(checkpoint.getFileName());
    try (Model model = HuggingFaceModel.open(checkpoint)) {
      write(model, checkpoint, all(model), out, false);
      try (Model again = HuggingFaceModel.open(out)) {
        assertEquals(model.metadata(), again.metadata());
        assertSameTensors(model, again);
      }
    }
    Map<String, Stored> expected = stored(checkpoint);
    boolean doubles = expected
      .values()
      .stream()
      .anyMatch(tensor -> tensor.type == ElementType.F64);
    expected.replaceAll((_, tensor) -> tensor.withoutDoubles());
    assertStored(expected, stored(out));
    assertEquals(config(checkpoint), config(out));
    assertEquals(keys(config(checkpoint)), keys(config(out)));
    if (!doubles && Files.exists(checkpoint.resolve("model.safetensors"))) {
      // The reference implementation wrote these.
      assertEquals(-1, Files.mismatch(checkpoint.resolve("model.safetensors"), out.resolve("model.safetensors")));
    }
    Set<String> files = names(checkpoint);
    files.removeIf(name -> name.equals("manifest.json") || name.equals("imatrix.gguf") || name.startsWith("model"));
    files.add("model.safetensors");
    assertEquals(files, names(out));
    for (String name : files) {
      if (!name.equals("config.json") && Files.isRegularFile(out.resolve(name)) && !name.startsWith("model")) {
        assertEquals(-1, Files.mismatch(checkpoint.resolve(name), out.resolve(name)), name);
      }
    }
    assertEquals(List.of(out.getFileName().toString()), List.copyOf(names(folder)));
  }

  private static List<String> keys(JsonNode object) {
    List<String> keys = new ArrayList<>();
    object.fieldNames().forEachRemaining(keys::add);
    return keys;
  }

  private static Set<String> names(Path folder) throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files.map(file -> file.getFileName().toString()).collect(Collectors.toCollection(TreeSet::new));
    }
  }

  @ParameterizedTest
  @MethodSource("checkpoints")
  void theGgufOfACheckpointGivesTheSame(Path checkpoint) throws Exception {
    Path direct = folder.resolve("direct");
    Path gguf = folder.resolve("model.gguf");
    Path out = folder.resolve("out");
    try (Model model = HuggingFaceModel.open(checkpoint)) {
      write(model, checkpoint, all(model), direct, false);
      List<TensorInfo> infos = model.tensors().stream().map(Tensor::info).toList();
      try (GgufWriter writer = GgufWriter.create(gguf, model.metadata(), infos, false)) {
        for (int i = 0; i < infos.size(); i++) {
          byte[] bytes = MemoryModel.Content.of(model.tensors().get(i)).bytes();
          writer.write(i, 0, bytes, 0, bytes.length);
        }
        writer.commit();
      }
    }
    try (GgufModel model = GgufModel.open(gguf)) {
      write(model, checkpoint, all(model), out, false);
    }
    assertEquals(names(direct), names(out));
    for (String name : names(direct)) {
      if (Files.isRegularFile(direct.resolve(name))) {
        assertEquals(-1, Files.mismatch(direct.resolve(name), out.resolve(name)), name);
      }
    }
  }

  /** Rows and columns of a matrix, of which some are left. */
  private static byte[] select(byte[] bytes, int rows, int columns, int size, int[] rowsLeft, int[] columnsLeft) {
    assertEquals(rows * columns * size, bytes.length);
    ByteBuffer out = ByteBuffer.allocate(rowsLeft.length * columnsLeft.length * size);
    for (int row : rowsLeft) {
      for (int column : columnsLeft) {
        out.put(bytes, (row * columns + column) * size, size);
      }
    }
    return out.array();
  }

  /** The rows that belong to heads. */
  private static int[] rowsOf(int[] heads, int headSize) {
    return Arrays.stream(heads)
      .flatMap(head -> IntStream.range(head * headSize, (head + 1) * headSize))
      .toArray();
  }

  private static int[] upTo(long n) {
    return IntStream.range(0, (int) n).toArray();
  }

  private static final int[] NEURONS = IntStream.range(0, 48)
    .filter(i -> i % 3 != 1)
    .toArray();

  /** What is left of layers, neurons and heads. */
  @SuppressWarnings("ArrayRecordComponent")
  private record Cut(int[] layers, int[] neurons, int[] heads, int[] keyValueHeads, int headSize) {
    private int[] rows(String kind, long n) {
      return switch (kind) {
        case "q" -> rowsOf(heads, headSize);
        case "k" -> rowsOf(keyValueHeads, headSize);
        case "up" -> neurons;
        default -> upTo(n);
      };
    }

    private int[] columns(String kind, long n) {
      return switch (kind) {
        case "o" -> rowsOf(heads, headSize);
        case "down" -> neurons;
        default -> upTo(n);
      };
    }

    MemoryModel of(Model model) throws IOException {
      List<MemoryModel.Content> tensors = new ArrayList<>();
      for (Tensor tensor : model.tensors()) {
        TensorInfo info = tensor.info();
        String[] name = info.name().split("\\.", -1);
        if (!name[0].equals("blk")) {
          tensors.add(MemoryModel.Content.of(tensor));
          continue;
        }
        int layer = Arrays.binarySearch(layers, Integer.parseInt(name[1]));
        if (layer < 0) {
          continue;
        }
        String kind = switch (name[2]) {
          case "attn_q" -> "q";
          case "attn_k", "attn_v" -> "k";
          case "attn_output" -> name[3].equals("bias") ? "" : "o";
          case "ffn_gate", "ffn_up", "ffn_gate_exps", "ffn_up_exps" -> "up";
          case "ffn_down", "ffn_down_exps" -> name[3].equals("bias") ? "" : "down";
          default -> "";
        };
        boolean vector = info.shape().length == 1;
        int rows = (int) (vector ? info.dimension(0) : info.dimension(1));
        int columns = (int) (vector ? 1 : info.dimension(0));
        int planes = (int) info.dimension(2);
        byte[] bytes = MemoryModel.Content.of(tensor).bytes();
        ByteBuffer left = ByteBuffer.allocate(bytes.length);
        int[] rowsLeft = rows(kind, rows);
        int[] columnsLeft = columns(kind, columns);
        for (int plane = 0; plane < planes; plane++) {
          int from = (plane * bytes.length) / planes;
          byte[] part = Arrays.copyOfRange(bytes, from, from + bytes.length / planes);
          left.put(select(part, rows, columns, info.type().blockBytes(), rowsLeft, columnsLeft));
        }
        long[] shape = vector
          ? new long[] { rowsLeft.length }
          : planes == 1
            ? new long[] { columnsLeft.length, rowsLeft.length }
            : new long[] { columnsLeft.length, rowsLeft.length, planes };
        TensorInfo cut = new TensorInfo("blk." + layer + "." + name[2] + "." + name[3], info.type(), shape);
        tensors.add(new MemoryModel.Content(cut, Arrays.copyOf(left.array(), left.position())));
      }
      String prefix = model.metadata().architecture() + ".";
      return new MemoryModel(
        model.source(),
        model
          .metadata()
          .with(prefix + "attention.key_length", MetadataValue.uint32(headSize))
          .with(prefix + "attention.value_length", MetadataValue.uint32(headSize))
          .with(prefix + "block_count", MetadataValue.uint32(layers.length))
          .with(prefix + "feed_forward_length", MetadataValue.uint32(neurons.length))
          .with(prefix + "attention.head_count", MetadataValue.uint32(heads.length))
          .with(prefix + "attention.head_count_kv", MetadataValue.uint32(keyValueHeads.length)),
        tensors
      );
    }

    /** The same for the checkpoint, by its names and with its order of rows. */
    Map<String, Stored> of(Map<String, Stored> tensors) {
      Map<String, Stored> left = new TreeMap<>();
      tensors.forEach((name, tensor) -> {
        String[] parts = name.split("\\.", -1);
        if (!name.startsWith("model.layers.")) {
          left.put(name, tensor);
          return;
        }
        int layer = Arrays.binarySearch(layers, Integer.parseInt(parts[2]));
        if (layer < 0) {
          return;
        }
        boolean vector = tensor.shape.length == 1;
        String kind = switch (parts[parts.length - 2]) {
          case "q_proj" -> "q";
          case "k_proj", "v_proj" -> "k";
          case "o_proj" -> vector ? "" : "o";
          case "gate_proj", "up_proj", "w1", "w3" -> "up";
          case "down_proj", "w2" -> vector ? "" : "down";
          default -> "";
        };
        int rows = (int) tensor.shape[0];
        int columns = (int) (vector ? 1 : tensor.shape[1]);
        int[] rowsLeft = rows(kind, rows);
        int[] columnsLeft = columns(kind, columns);
        byte[] bytes = select(tensor.bytes, rows, columns, tensor.type.bytes(), rowsLeft, columnsLeft);
        long[] shape = vector ? new long[] { rowsLeft.length } : new long[] { rowsLeft.length, columnsLeft.length };
        parts[2] = Integer.toString(layer);
        left.put(String.join(".", parts), new Stored(tensor.type, shape, bytes));
      });
      return left;
    }
  }

  static List<String> cuttable() {
    return List.of("llama-f16-sharded", "llama-f32-hf", "llama-yarn", "llama3-bpe", "mistral", "mixtral", "qwen3");
  }

  @ParameterizedTest
  @MethodSource("cuttable")
  void whatIsLeftOfAModelIsLeftOfTheCheckpoint(String name) throws Exception {
    Path checkpoint = CHECKPOINTS.resolve(name);
    JsonNode before = config(checkpoint);
    int headSize = before.path("head_dim").asInt(8);
    Cut cut = new Cut(new int[] { 1 }, NEURONS, new int[] { 2, 3 }, new int[] { 1 }, headSize);
    Path out = folder.resolve(name);
    try (Model source = HuggingFaceModel.open(checkpoint)) {
      MemoryModel model = cut.of(source);
      assertEquals(
        model
          .tensors()
          .stream()
          .filter(t -> !t.info().name().equals("rope_freqs.weight"))
          .mapToLong(t -> t.info().elements())
          .sum(),
        cut
          .of(stored(checkpoint))
          .values()
          .stream()
          .mapToLong(t -> t.bytes.length / t.type.bytes())
          .sum()
      );
      write(model, checkpoint, cut.layers, out, false);
      assertStored(cut.of(stored(checkpoint)), stored(out));
      ObjectNode expected = before.deepCopy();
      expected.put("num_hidden_layers", 1).put("intermediate_size", 32);
      expected.put("num_attention_heads", 2).put("num_key_value_heads", 1).put("head_dim", headSize);
      assertEquals(expected, config(out));
      try (Model again = HuggingFaceModel.open(out)) {
        assertSameTensors(model, again);
        List.of("block_count", "feed_forward_length", "attention.head_count", "attention.head_count_kv").forEach(
          key -> {
            String full = model.metadata().architecture() + "." + key;
            assertEquals(model.metadata().get(full), again.metadata().get(full), full);
          }
        );
        MetadataValue size = MetadataValue.uint32(headSize);
        String full = model.metadata().architecture() + ".attention.key_length";
        assertEquals(size, again.metadata().get(full).orElseThrow());
      }
    }
  }

  @Test
  void withOneGroupPerHeadTheirNumberStaysImplied() throws Exception {
    Path checkpoint = CHECKPOINTS.resolve("llama-linear");
    int[] left = { 0, 3 };
    Cut cut = new Cut(upTo(2), NEURONS, left, left, 8);
    Path out = folder.resolve("out");
    try (Model source = HuggingFaceModel.open(checkpoint)) {
      write(cut.of(source), checkpoint, cut.layers, out, false);
    }
    assertStored(cut.of(stored(checkpoint)), stored(out));
    ObjectNode expected = config(checkpoint).deepCopy();
    expected.put("intermediate_size", 32).put("num_attention_heads", 2).put("head_dim", 8);
    assertEquals(expected, config(out));
  }

  @Test
  void listsOfLayersAreCutToo() throws Exception {
    Path checkpoint = copyOf("qwen2-yarn");
    ObjectNode config = (ObjectNode) config(checkpoint);
    config.putArray("layer_types").add("full_attention").add("sliding_attention");
    config.putArray("eos_token_id").add(262).add(263);
    config.put("max_window_layers", 1);
    MAPPER.writeValue(checkpoint.resolve("config.json").toFile(), config);
    Path out = folder.resolve("out");
    Path whole = folder.resolve("whole");
    Cut cut = new Cut(new int[] { 1 }, upTo(48), upTo(4), upTo(2), 8);
    try (Model source = HuggingFaceModel.open(checkpoint)) {
      write(cut.of(source), checkpoint, cut.layers, out, false);
      write(source, checkpoint, upTo(2), whole, false);
    }
    assertEquals(config, config(whole));
    config.put("num_hidden_layers", 1).put("max_window_layers", 0);
    config.putArray("layer_types").add("sliding_attention");
    assertEquals(config, config(out));
    HuggingFaceModel.open(out).close();
  }

  @Test
  void theTextOfTheConfigurationIsPythons() throws Exception {
    Path out = folder.resolve("sample");
    Path checkpoint = Path.of("../samples/sample");
    try (Model model = HuggingFaceModel.open(checkpoint)) {
      write(model, checkpoint, upTo(4), out, false);
    }
    String expected = Files.readString(checkpoint.resolve("config.json"));
    assertEquals(expected.replace("1e-05", "1.0E-5"), Files.readString(out.resolve("config.json")));
  }

  @Test
  void tensorsAreSharedOutToFiles() throws Exception {
    Path checkpoint = CHECKPOINTS.resolve("mixtral");
    Path out = folder.resolve("mixtral");
    long limit = 10_000;
    try (Model model = HuggingFaceModel.open(checkpoint)) {
      HuggingFaceWriter.write(model, checkpoint, upTo(2), out, false, (_, _, _) -> {}, _ -> {}, limit);
      try (Model again = HuggingFaceModel.open(out)) {
        assertEquals(model.metadata(), again.metadata());
        assertSameTensors(model, again);
        assertTrue(again.files().size() > 5, again.files().toString());
      }
    }
    Map<String, Stored> expected = stored(checkpoint);
    assertStored(expected, stored(out));
    JsonNode index = MAPPER.readTree(out.resolve("model.safetensors.index.json").toFile());
    long total = expected
      .values()
      .stream()
      .mapToLong(tensor -> tensor.bytes.length)
      .sum();
    assertEquals(total, index.at("/metadata/total_size").asLong());
    assertEquals(List.copyOf(expected.keySet()), keys(index.path("weight_map")));
    Set<String> shards = names(out);
    shards.removeIf(name -> !name.endsWith(".safetensors"));
    int count = shards.size();
    int number = 0;
    for (String name : shards) {
      assertEquals(String.format("model-%05d-of-%05d.safetensors", ++number, count), name);
      Map<String, Stored> content = stored(out.resolve(name));
      long bytes = content
        .values()
        .stream()
        .mapToLong(tensor -> tensor.bytes.length)
        .sum();
      assertTrue(bytes <= limit || content.size() == 1, name);
      content.keySet().forEach(tensor -> assertEquals(name, index.path("weight_map").path(tensor).asText()));
    }
  }

  @Test
  void aVectorHasItsOldTypeUnlessThatLosesSomething() throws Exception {
    Path checkpoint = CHECKPOINTS.resolve("llama-yarn");
    Path out = folder.resolve("out");
    try (Model source = HuggingFaceModel.open(checkpoint)) {
      MemoryModel model = MemoryModel.of(source).with(
        info -> info.name().equals("blk.1.attn_norm.weight") || info.name().equals("blk.0.attn_q.bias"),
        tensor -> {
          float[] values = new float[32];
          for (int i = 0; i < values.length; i++) {
            values[i] = i + 1 / 3f;
          }
          return tensor.with(TensorType.F32, values);
        }
      );
      write(model, checkpoint, upTo(2), out, false);
      try (Model again = HuggingFaceModel.open(out)) {
        assertSameTensors(model, again);
      }
    }
    Map<String, Stored> tensors = stored(out);
    assertEquals(ElementType.F32, tensors.get("model.layers.1.input_layernorm.weight").type);
    assertEquals(ElementType.F32, tensors.get("model.layers.0.self_attn.q_proj.bias").type);
    assertEquals(ElementType.BF16, tensors.get("model.layers.0.input_layernorm.weight").type);
    assertEquals(ElementType.BF16, tensors.get("model.layers.1.self_attn.q_proj.bias").type);
    // Halves apart: 0, 2, 4 … of each head of 8, then 1, 3, 5 …
    ByteBuffer bias = ByteBuffer.wrap(tensors.get("model.layers.0.self_attn.q_proj.bias").bytes);
    bias.order(ByteOrder.LITTLE_ENDIAN);
    for (int value : new int[] { 0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9 }) {
      assertEquals(value + 1 / 3f, bias.getFloat());
    }
    assertEquals("bfloat16", config(out).path("dtype").asText());
  }

  @ParameterizedTest
  @CsvSource({ "llama-yarn, dtype, F32, float32", "mistral, torch_dtype, F16, float16" })
  void theTypeInTheConfigurationFollowsTheTensors(String name, String key, TensorType type, String expected)
    throws Exception {
    Path checkpoint = CHECKPOINTS.resolve(name);
    Path out = folder.resolve(name);
    try (Model source = HuggingFaceModel.open(checkpoint)) {
      MemoryModel model = MemoryModel.of(source).with(info -> info.shape().length == 2, tensor -> tensor.as(type));
      write(model, checkpoint, upTo(2), out, false);
      try (Model again = HuggingFaceModel.open(out)) {
        assertSameTensors(model, again);
      }
    }
    assertEquals(((ObjectNode) config(checkpoint)).put(key, expected), config(out));
  }

  private void assertRefused(String checkpoint, UnaryOperator<MemoryModel> change, String expected) throws IOException {
    Path folderBefore = CHECKPOINTS.resolve(checkpoint);
    try (Model source = HuggingFaceModel.open(folderBefore)) {
      MemoryModel model = change.apply(MemoryModel.of(source));
      String message = assertThrows(FormatException.class, () ->
        write(model, folderBefore, upTo(2), folder.resolve("out"), false)
      ).getMessage();
      assertTrue(message.startsWith(folderBefore + ": ") && message.contains(expected), message);
      assertEquals(1, message.lines().count());
    }
    assertEquals(List.of(), List.copyOf(names(folder)));
  }

  private static TensorInfo quantized(TensorInfo info) {
    return info.withType(TensorType.Q8_0);
  }

  @Test
  void whatNoCheckpointExpressesIsRefused() throws IOException {
    String same = "expected the same sizes in all layers, as config.json has no others (write GGUF instead)";
    MetadataValue widths = MetadataValue.int32s(new int[] { 48, 32 });
    assertRefused(
      "mistral",
      model -> model.with("general.architecture", MetadataValue.string("deci")),
      "general.architecture: found deci, " + same
    );
    assertRefused(
      "mistral",
      model -> model.with("llama.feed_forward_length", widths),
      "llama.feed_forward_length: found a list, [48, 32], " + same
    );
    assertRefused("mistral", model -> model.with("llama.attention.head_count_kv", widths), same);
    assertRefused(
      "mistral",
      model ->
        model.with(
          info -> info.name().equals("blk.1.ffn_up.weight"),
          tensor -> new MemoryModel.Content(quantized(tensor.info()), new byte[0])
        ),
      "tensor blk.1.ffn_up.weight: found type Q8_0, expected F32, F16 or BF16"
    );
    assertRefused(
      "qwen3",
      model -> model.with("qwen3.attention.value_length", MetadataValue.uint32(14)),
      "qwen3.attention.value_length: found 14, expected 12 as for keys"
    );
  }

  @Test
  void whatWasNotMadeOfTheCheckpointIsRefused() throws IOException {
    assertRefused(
      "mistral",
      model -> model.with("general.architecture", MetadataValue.string("qwen2")),
      "general.architecture: found qwen2, expected llama as in "
    );
    assertRefused(
      "mistral",
      model -> model.with("llama.rope.freq_base", MetadataValue.float32(5)),
      "llama.rope.freq_base: found 5.0, expected 1000000.0 as in the checkpoint "
    );
    assertRefused(
      "mistral",
      model -> model.with("tokenizer.ggml.tokens", MetadataValue.strings(List.of("a"))),
      "tokenizer.ggml.tokens: found other tokens"
    );
    assertRefused(
      "mistral",
      model -> model.with("llama.embedding_length", MetadataValue.uint32(64)),
      "llama.embedding_length: found 64, expected 32 as in the checkpoint "
    );
    assertRefused(
      "mistral",
      model -> model.with("llama.feed_forward_length", MetadataValue.uint32(32)),
      "found shape 48 x 32, expected 32 x 32"
    );
    assertRefused(
      "mistral",
      model -> model.with("llama.feed_forward_length", MetadataValue.string("48")),
      "llama.feed_forward_length: found 48, expected a size"
    );
    assertRefused(
      "mistral",
      model -> model.with("llama.attention.head_count", MetadataValue.uint32(3)),
      "num_key_value_heads: found 2, expected a divisor of num_attention_heads 3"
    );
    assertRefused("mistral", model -> model.without("output.weight"), "tensor output.weight is missing");
    assertRefused(
      "mistral",
      model -> model.without("blk.1.attn_norm.weight"),
      "tensor blk.1.attn_norm.weight is missing"
    );
    assertRefused("mistral", model -> model.with(HuggingFaceWriterTest::isNorm, named("x")), "x has no place");
    assertRefused(
      "mistral",
      model -> model.with(HuggingFaceWriterTest::isNorm, named("rope_freqs.weight")),
      "no place"
    );
    assertRefused(
      "mistral",
      model -> model.with(HuggingFaceWriterTest::isNorm, named("blk.2.attn_norm.weight")),
      "tensor blk.2.attn_norm.weight: found layer 2, expected below the number of layers 2"
    );
    assertRefused(
      "llama-f16-sharded",
      model -> model.with(info -> info.name().equals("blk.0.attn_norm.weight"), named("blk.0.attn_output.bias")),
      "tensor blk.0.attn_output.bias: the checkpoint has no model.layers.0.self_attn.o_proj.bias"
    );
  }

  private static boolean isNorm(TensorInfo info) {
    return info.name().equals("output_norm.weight");
  }

  private static UnaryOperator<MemoryModel.Content> named(String name) {
    return tensor -> tensor.renamed(name);
  }

  @ParameterizedTest
  @CsvSource({ "blk.1.attn_k.weight, NaN", "blk.0.attn_norm.weight, Infinity", "output.weight, -Infinity" })
  void whatIsNotFiniteIsRefusedAndNothingIsLeft(String name, float value) throws IOException {
    assertRefused(
      "mistral",
      model ->
        model.with(
          info -> info.name().equals(name),
          tensor -> {
            float[] values = new float[(int) tensor.info().elements()];
            values[values.length - 1] = value;
            return tensor.with(tensor.info().type(), values);
          }
        ),
      ": found " + value + ", expected a finite number"
    );
  }

  @Test
  void layersThatDoNotFitAreRefused() throws IOException {
    Path checkpoint = CHECKPOINTS.resolve("mistral");
    try (Model model = HuggingFaceModel.open(checkpoint)) {
      for (int[] layers : new int[][] { {}, { 0 }, { 0, 1, 2 }, { 1, 0 }, { 0, 0 }, { 0, 2 }, { -1, 0 } }) {
        assertThrows(IllegalArgumentException.class, () -> HuggingFaceWriter.check(model, checkpoint, layers));
      }
      long bytes = HuggingFaceWriter.check(model, checkpoint, upTo(2));
      assertEquals(
        stored(checkpoint)
          .values()
          .stream()
          .mapToLong(tensor -> tensor.bytes.length)
          .sum(),
        bytes
      );
    }
  }

  @Test
  void theCheckpointMayBeGivenByItsFile() throws Exception {
    Path checkpoint = CHECKPOINTS.resolve("mistral");
    try (Model model = HuggingFaceModel.open(checkpoint.resolve("model.safetensors"))) {
      write(model, checkpoint.resolve("model.safetensors"), upTo(2), folder.resolve("out"), false);
    }
    assertStored(stored(checkpoint), stored(folder.resolve("out")));
  }

  @Test
  void progressIsReportedAndAFailedCheckLeavesNothing() throws IOException {
    Path checkpoint = CHECKPOINTS.resolve("mistral");
    Path out = folder.resolve("out");
    List<Long> reported = new ArrayList<>();
    List<Set<String>> seen = new ArrayList<>();
    try (Model model = HuggingFaceModel.open(checkpoint)) {
      IOException e = assertThrows(IOException.class, () ->
        HuggingFaceWriter.write(
          model,
          checkpoint,
          upTo(2),
          out,
          false,
          (done, total, tensor) -> {
            assertTrue(done <= total && tensor.endsWith("weight"));
            reported.add(done);
          },
          finished -> {
            assertFalse(Files.exists(out));
            HuggingFaceModel.open(finished).close();
            seen.add(names(finished));
            throw new IOException("not good");
          }
        )
      );
      assertEquals("not good", e.getMessage());
      assertEquals(HuggingFaceWriter.check(model, checkpoint, upTo(2)), reported.getLast());
    }
    assertEquals(reported.stream().sorted().distinct().toList(), reported);
    assertEquals(1, seen.size());
    assertEquals(List.of(), List.copyOf(names(folder)));
  }

  @Test
  void anInterruptedThreadLeavesNothing() throws IOException {
    Path checkpoint = CHECKPOINTS.resolve("mistral");
    Path out = folder.resolve("out");
    try (Model model = HuggingFaceModel.open(checkpoint)) {
      long total = HuggingFaceWriter.check(model, checkpoint, upTo(2));
      for (long when : new long[] { 1, total / 2, total }) {
        assertThrows(InterruptedException.class, () ->
          HuggingFaceWriter.write(
            model,
            checkpoint,
            upTo(2),
            out,
            false,
            (done, _, _) -> {
              if (done >= when) {
                Thread.currentThread().interrupt();
              }
            },
            _ -> {}
          )
        );
        assertFalse(Thread.interrupted());
      }
      Thread.currentThread().interrupt();
      assertThrows(InterruptedException.class, () -> write(model, checkpoint, upTo(2), out, false));
    }
    assertEquals(List.of(), List.copyOf(names(folder)));
  }

  private Path copyOf(String name) throws IOException {
    return copy(CHECKPOINTS.resolve(name), folder.resolve(name));
  }

  private static Path copy(Path source, Path copy) throws IOException {
    Files.createDirectories(copy);
    try (Stream<Path> files = Files.list(source)) {
      for (Path file : files.filter(Files::isRegularFile).toList()) {
        Files.copy(file, copy.resolve(file.getFileName()));
      }
    }
    return copy;
  }
}
