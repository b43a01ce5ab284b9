package dev.attar.prune.structure;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.calibration.MemoryModel;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.prune.PruneException;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import org.junit.jupiter.api.Test;

class CutModelTest {

  private static final int[] NONE = {};

  private static Cut cut(Cut.Layer... layers) {
    return new Cut(List.of(layers));
  }

  private static Cut.Layer layer(int number, int[] neurons, int[] groups) {
    return new Cut.Layer(number, neurons, groups);
  }

  private static MetadataValue uint(int value) {
    return MetadataValue.uint32(value);
  }

  private static MetadataValue ints(int... values) {
    return MetadataValue.int32s(values);
  }

  private static MetadataValue uints(long... values) {
    return new MetadataValue(MetadataValue.Type.ARRAY, MetadataValue.Type.UINT32, values);
  }

  private static MemorySegment segment(float... values) {
    MemorySegment out = MemorySegment.ofArray(new byte[4 * values.length]);
    for (int i = 0; i < values.length; i++) {
      out.set(ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN), 4L * i, values[i]);
    }
    return out;
  }

  /** Checks the keys of the architecture and the tool, and that no others have changed. */
  private static void assertMetadata(Metadata source, Metadata cut, Map<String, MetadataValue> changed) {
    Map<String, MetadataValue> expected = new LinkedHashMap<>(source.values());
    changed.forEach((key, value) -> {
      if (value == null) {
        expected.remove(key);
      } else {
        expected.put(key, value);
      }
    });
    assertEquals(expected, cut.values());
  }

  @Test
  void nothingChangesIfEverythingIsLeft() throws IOException {
    TestModel source = TestModel.llama();
    Model whole = CutModel.of(source, Anatomy.of(source).whole(), Map.of());
    assertEquals(source.tensors().size(), whole.tensors().size());
    for (int i = 0; i < source.tensors().size(); i++) {
      assertSame(source.tensors().get(i), whole.tensors().get(i));
    }
    assertMetadata(
      source.metadata(),
      whole.metadata(),
      Map.of(
        "attar.prune.layers",
        ints(0, 1, 2, 3),
        "attar.prune.neurons",
        ints(64, 64, 64, 64),
        "attar.prune.groups",
        ints(4, 4, 4, 4)
      )
    );
    assertEquals(source.source(), whole.source());
    whole.close();
  }

  @Test
  void metadataOfNeurons() throws IOException {
    TestModel source = TestModel.llama().with("general.size_label", MetadataValue.string("7B"));
    int[] some = { 3, 5, 63 };
    Model left = CutModel.of(
      source,
      cut(
        layer(0, some, Cut.all(4)),
        layer(1, some, Cut.all(4)),
        layer(2, some, Cut.all(4)),
        layer(3, some, Cut.all(4))
      ),
      Map.of()
    );
    // 2 x 96 x 48 for tokens, 48, and for each of 4 layers 96, 2 x 48 x 64, 2 x 48 x 32, 3 x 3 x 48: 48 K.
    assertMetadata(
      source.metadata(),
      left.metadata(),
      Map.of(
        "llama.feed_forward_length",
        uint(3),
        "general.size_label",
        MetadataValue.string("48K"),
        "attar.prune.layers",
        ints(0, 1, 2, 3),
        "attar.prune.neurons",
        ints(3, 3, 3, 3),
        "attar.prune.groups",
        ints(4, 4, 4, 4)
      )
    );
  }

  @Test
  void metadataOfHeads() throws IOException {
    TestModel source = new TestModel.Builder("llama", 2, 48, 64, 6, 6, 8).llamaLayers(64, 48, 48).build();
    source = source.without("llama.attention.head_count_kv");
    int[] some = { 0, 2, 5 };
    Model left = CutModel.of(source, cut(layer(0, Cut.all(64), some), layer(1, Cut.all(64), some)), Map.of());
    assertMetadata(
      source.metadata(),
      left.metadata(),
      Map.of(
        "llama.attention.head_count",
        uint(3),
        "llama.attention.head_count_kv",
        uint(3),
        "llama.attention.key_length",
        uint(8),
        "llama.attention.value_length",
        uint(8),
        "attar.prune.layers",
        ints(0, 1),
        "attar.prune.neurons",
        ints(64, 64),
        "attar.prune.groups",
        ints(3, 3)
      )
    );
  }

  @Test
  void metadataOfLayers() throws IOException {
    TestModel source = TestModel.llama()
      .with("llama.some_list", MetadataValue.float32s(new float[] { 0, 1, 2, 3 }))
      .with(
        "llama.flags",
        new MetadataValue(MetadataValue.Type.ARRAY, MetadataValue.Type.BOOL, new boolean[] { true, false, false, true })
      )
      .with("llama.rope.dimension_sections", ints(1, 2, 3, 4))
      .with("llama.attention.head_count", uints(8, 8, 8, 8))
      .with("llama.other", ints(1, 2, 3))
      .with("general.tags", MetadataValue.strings(List.of("a", "b", "c", "d")))
      .with("attar.prune.structure", MetadataValue.string("an earlier cut's"));
    Cut whole = Anatomy.of(source).whole();
    Model left = CutModel.of(source, cut(whole.layers().get(1), whole.layers().get(3)), Map.of());
    Map<String, MetadataValue> changed = new LinkedHashMap<>();
    changed.put("llama.block_count", uint(2));
    changed.put("llama.some_list", MetadataValue.float32s(new float[] { 1, 3 }));
    changed.put(
      "llama.flags",
      new MetadataValue(MetadataValue.Type.ARRAY, MetadataValue.Type.BOOL, new boolean[] { false, true })
    );
    changed.put("llama.attention.head_count", uints(8, 8));
    changed.put("attar.prune.structure", null);
    changed.put("attar.prune.layers", ints(1, 3));
    changed.put("attar.prune.neurons", ints(64, 64));
    changed.put("attar.prune.groups", ints(4, 4));
    assertMetadata(source.metadata(), left.metadata(), changed);
    List<String> names = TestModel.names(source)
      .stream()
      .filter(name -> !name.startsWith("blk.0.") && !name.startsWith("blk.2."))
      .map(name -> name.replace("blk.1.", "blk.0.").replace("blk.3.", "blk.1."))
      .toList();
    assertEquals(names, TestModel.names(left));
    assertArrayEquals(
      MemoryModel.bytes(MemoryModel.tensor(source, "blk.3.attn_q.weight")),
      MemoryModel.bytes(MemoryModel.tensor(left, "blk.1.attn_q.weight"))
    );
  }

  @Test
  void metadataOfLayersThatDiffer() throws IOException {
    TestModel source = TestModel.qwen2();
    Model left = CutModel.of(
      source,
      cut(layer(0, Cut.all(7), Cut.all(3)), layer(1, NONE, new int[] { 1 }), layer(2, Cut.all(64), NONE)),
      Map.of()
    );
    Map<String, MetadataValue> expected = new LinkedHashMap<>();
    source
      .metadata()
      .values()
      .forEach((key, value) -> expected.put(key.replaceFirst("^qwen2\\.", "deci."), value));
    expected.put("general.architecture", MetadataValue.string("deci"));
    expected.put("deci.feed_forward_length", uints(7, 32, 64));
    expected.put("deci.attention.head_count", uints(6, 2, 0));
    expected.put("deci.attention.head_count_kv", uints(3, 1, 0));
    expected.put("deci.attention.key_length", uint(8));
    expected.put("deci.attention.value_length", uint(8));
    expected.put("attar.prune.layers", ints(0, 1, 2));
    expected.put("attar.prune.neurons", ints(7, 0, 64));
    expected.put("attar.prune.groups", ints(3, 1, 0));
    assertEquals(expected, left.metadata().values());
    assertFalse(
      TestModel.names(left)
        .stream()
        .anyMatch(name -> name.startsWith("blk.2.attn_"))
    );
  }

  @Test
  void takesRowsAndColumns() throws IOException {
    TestModel source = TestModel.starcoder2();
    int[] neurons = { 1, 2, 40 };
    Model left = CutModel.of(
      source,
      new Cut(
        Anatomy.of(source)
          .whole()
          .layers()
          .stream()
          .map(layer -> layer.withNeurons(neurons))
          .toList()
      ),
      Map.of()
    );
    float[] up = MemoryModel.values(MemoryModel.tensor(source, "blk.1.ffn_up.weight"));
    float[] upBias = MemoryModel.values(MemoryModel.tensor(source, "blk.1.ffn_up.bias"));
    float[] down = MemoryModel.values(MemoryModel.tensor(source, "blk.1.ffn_down.weight"));
    float[] cutUp = MemoryModel.values(MemoryModel.tensor(left, "blk.1.ffn_up.weight"));
    float[] cutBias = MemoryModel.values(MemoryModel.tensor(left, "blk.1.ffn_up.bias"));
    float[] cutDown = MemoryModel.values(MemoryModel.tensor(left, "blk.1.ffn_down.weight"));
    assertEquals(3 * 48, cutUp.length);
    assertEquals(48 * 3, cutDown.length);
    assertEquals(3, cutBias.length);
    for (int i = 0; i < 3; i++) {
      assertEquals(upBias[neurons[i]], cutBias[i]);
      for (int j = 0; j < 48; j++) {
        assertEquals(up[neurons[i] * 48 + j], cutUp[i * 48 + j]);
        assertEquals(down[j * 64 + neurons[i]], cutDown[j * 3 + i]);
      }
    }
    assertSame(MemoryModel.tensor(source, "blk.1.ffn_down.bias"), MemoryModel.tensor(left, "blk.1.ffn_down.bias"));
  }

  @Test
  void newValuesAreRoundedToTheSourcesType() throws IOException {
    float[] values = new float[48 * 2];
    Random random = new Random(5);
    for (int i = 0; i < values.length; i++) {
      values[i] = random.nextFloat();
    }
    Cut.Layer layer = layer(2, new int[] { 1, 60 }, Cut.all(4));
    for (TensorType type : List.of(TensorType.F32, TensorType.F16, TensorType.BF16)) {
      TestModel source = TestModel.copy(TestModel.llama(), type);
      Model left = CutModel.of(source, cut(layer), Map.of("blk.2.ffn_down.weight", segment(values)));
      Tensor down = MemoryModel.tensor(left, "blk.0.ffn_down.weight");
      Tensor expected = MemoryModel.tensor(new TensorInfo("blk.0.ffn_down.weight", type, new long[] { 2, 48 }), values);
      assertEquals(expected.info(), down.info());
      assertArrayEquals(MemoryModel.bytes(expected), MemoryModel.bytes(down));
      assertArrayEquals(MemoryModel.values(expected), MemoryModel.values(down));
      byte[] row = new byte[(int) down.info().rowBytes() + 3];
      down.readRows(17, 1, row, 3);
      int from = 17 * (int) down.info().rowBytes();
      assertArrayEquals(
        Arrays.copyOfRange(MemoryModel.bytes(expected), from, from + row.length - 3),
        Arrays.copyOfRange(row, 3, row.length)
      );
    }
  }

  @Test
  void quantizedTensorsKeepTheirBytesIfTheyKeepTheirColumns() throws IOException {
    TestModel plain = new TestModel.Builder("llama", 2, 64, 64, 8, 4, 8).llamaLayers(64, 64, 32).build();
    TestModel source = TestModel.copy(plain, TensorType.Q8_0);
    int[] neurons = { 0, 5, 6, 63 };
    int[] groups = { 1, 2 };
    Model left = CutModel.of(source, cut(layer(0, neurons, groups), layer(1, neurons, groups)), Map.of());
    Map<String, TensorType> types = new LinkedHashMap<>();
    left.tensors().forEach(tensor -> types.put(tensor.info().name(), tensor.info().type()));
    assertEquals(TensorType.Q8_0, types.get("token_embd.weight"));
    assertEquals(TensorType.Q8_0, types.get("blk.1.ffn_up.weight"));
    assertEquals(TensorType.Q8_0, types.get("blk.1.attn_v.weight"));
    assertEquals(TensorType.F16, types.get("blk.1.ffn_down.weight"));
    assertEquals(TensorType.F16, types.get("blk.1.attn_output.weight"));
    assertEquals(TensorType.F32, types.get("blk.1.ffn_norm.weight"));
    byte[] up = MemoryModel.bytes(MemoryModel.tensor(source, "blk.1.ffn_up.weight"));
    byte[] cutUp = MemoryModel.bytes(MemoryModel.tensor(left, "blk.1.ffn_up.weight"));
    int rowBytes = 68;
    for (int i = 0; i < neurons.length; i++) {
      assertArrayEquals(
        Arrays.copyOfRange(up, neurons[i] * rowBytes, (neurons[i] + 1) * rowBytes),
        Arrays.copyOfRange(cutUp, i * rowBytes, (i + 1) * rowBytes)
      );
    }
    float[] down = MemoryModel.values(MemoryModel.tensor(source, "blk.1.ffn_down.weight"));
    float[] cutDown = MemoryModel.values(MemoryModel.tensor(left, "blk.1.ffn_down.weight"));
    for (int row = 0; row < 64; row++) {
      for (int i = 0; i < neurons.length; i++) {
        float half = Float.float16ToFloat(Float.floatToFloat16(down[row * 64 + neurons[i]]));
        assertEquals(half, cutDown[row * neurons.length + i]);
      }
    }
    Model layers = CutModel.of(source, cut(Anatomy.of(source).whole().layers().get(1)), Map.of());
    assertTrue(
      layers
        .tensors()
        .stream()
        .allMatch(tensor -> tensor.info().type() == (tensor.info().rank() > 1 ? TensorType.Q8_0 : TensorType.F32))
    );
    Model fitted = CutModel.of(
      source,
      cut(layer(0, Cut.all(1), Cut.all(4)), layer(1, Cut.all(1), Cut.all(4))),
      Map.of("blk.0.ffn_down.weight", segment(new float[64]))
    );
    assertEquals(TensorType.F16, MemoryModel.tensor(fitted, "blk.0.ffn_down.weight").info().type());
  }

  @Test
  void threadsReadTheSame() throws Exception {
    TestModel source = TestModel.copy(TestModel.qwen2(), TensorType.BF16);
    float[] values = new float[48 * 2];
    Arrays.fill(values, 0.3f);
    Model left = CutModel.of(
      source,
      cut(layer(0, new int[] { 3, 9 }, new int[] { 0, 2 }), layer(2, Cut.all(50), Cut.all(2))),
      Map.of("blk.0.ffn_down.weight", segment(values))
    );
    List<byte[]> expected = new ArrayList<>();
    for (Tensor tensor : left.tensors()) {
      expected.add(MemoryModel.bytes(tensor));
    }
    Callable<Void> reader = () -> {
      Random random = new Random();
      for (int round = 0; round < 300; round++) {
        int which = random.nextInt(expected.size());
        Tensor tensor = left.tensors().get(which);
        int from = random.nextInt((int) tensor.info().rows());
        int rows = 1 + random.nextInt((int) tensor.info().rows() - from);
        int rowBytes = (int) tensor.info().rowBytes();
        byte[] some = new byte[rows * rowBytes];
        tensor.readRows(from, rows, some, 0);
        byte[] wanted = Arrays.copyOfRange(expected.get(which), from * rowBytes, (from + rows) * rowBytes);
        assertArrayEquals(wanted, some, tensor.info().name());
      }
      return null;
    };
    try (ExecutorService threads = Executors.newFixedThreadPool(4)) {
      for (Future<Void> done : threads.invokeAll(List.of(reader, reader, reader, reader))) {
        done.get();
      }
    }
  }

  private static void assertInvalid(String expected, Cut cut) {
    assertEquals(
      expected,
      assertThrows(IllegalArgumentException.class, () -> CutModel.of(TestModel.llama(), cut, Map.of())).getMessage()
    );
  }

  @Test
  void refusesCutsOfAnotherModel() {
    int[] all = Cut.all(64);
    int[] four = Cut.all(4);
    assertInvalid("a cut without layers leaves nothing", cut());
    assertInvalid("layers: found 4 at 0, expected 0 to 3", cut(layer(4, all, four)));
    assertInvalid("layers: found -1 at 0, expected 0 to 3", cut(layer(-1, all, four)));
    assertInvalid("layers: found 1 at 1, expected 2 to 3", cut(layer(1, all, four), layer(1, all, four)));
    assertInvalid("layers: found 0 at 1, expected 3 to 3", cut(layer(2, all, four), layer(0, all, four)));
    assertInvalid("neurons of layer 0: found 64 at 64, expected 64 to 63", cut(layer(0, Cut.all(65), four)));
    assertInvalid("neurons of layer 0: found -3 at 0, expected 0 to 63", cut(layer(0, new int[] { -3 }, four)));
    assertInvalid("neurons of layer 0: found 5 at 1, expected 6 to 63", cut(layer(0, new int[] { 5, 5 }, four)));
    assertInvalid("groups of layer 0: found 0 at 1, expected 2 to 3", cut(layer(0, all, new int[] { 1, 0 })));
    assertInvalid("groups of layer 0: found 9 at 0, expected 0 to 3", cut(layer(0, all, new int[] { 9 })));
  }

  @Test
  void refusesNewValuesThatDoNotFit() {
    Cut cut = cut(layer(0, Cut.all(2), Cut.all(4)), layer(2, NONE, Cut.all(4)));
    Map<String, String> expected = Map.of(
      "blk.0.ffn_down.weight",
      "blk.0.ffn_down.weight F32 [2 x 48]: 4 bytes of new values, expected 384",
      "blk.1.ffn_down.weight",
      "new values of [blk.1.ffn_down.weight], which are not left or not in their old order",
      "blk.2.ffn_down.weight",
      "new values of [blk.2.ffn_down.weight], which are not left or not in their old order",
      "x",
      "new values of [x], which are not left or not in their old order"
    );
    expected.forEach((name, message) ->
      assertEquals(
        message,
        assertThrows(IllegalArgumentException.class, () ->
          CutModel.of(TestModel.llama(), cut, Map.of(name, segment(1)))
        ).getMessage()
      )
    );
    assertThrows(IllegalArgumentException.class, () ->
      CutModel.of(
        TestModel.qwen2(),
        cut(layer(0, Cut.all(64), Cut.all(1))),
        Map.of("blk.0.attn_q.weight", segment(new float[48 * 16]))
      )
    );
  }

  private static void assertRefused(String expected, TestModel source, Cut cut) {
    assertEquals(expected, assertThrows(PruneException.class, () -> CutModel.of(source, cut, Map.of())).getMessage());
  }

  @Test
  void refusesWhatLlamaDoesNotRun() throws IOException {
    int[] all = Cut.all(64);
    int[] four = Cut.all(4);
    assertRefused(
      "test-model: layer 1, the first that is left, has no heads, llama.cpp needs some there",
      TestModel.llama(),
      cut(layer(1, all, NONE), layer(2, all, four))
    );
    TestModel starcoder = TestModel.starcoder2();
    assertRefused(
      "test-model: parts of some layers alone cannot be removed: llama.cpp runs layers that differ only of Llama-like models, as" +
        " deci, this is starcoder2",
      starcoder,
      cut(layer(0, all, Cut.all(2)), layer(1, Cut.all(3), Cut.all(2)))
    );
    assertRefused(
      "test-model: heads cannot be removed: llama.cpp takes heads that do not add up to the embedding's width only of llama," +
        " qwen3, deci, this is starcoder2",
      starcoder,
      cut(layer(0, all, Cut.all(1)), layer(1, all, Cut.all(1)), layer(2, all, Cut.all(1)))
    );
    TestModel qwen3 = TestModel.read(TestModel.CHECKPOINTS.resolve("qwen3"));
    assertRefused(
      "test-model: parts of some layers alone cannot be removed: llama.cpp runs layers that differ only of Llama-like models, as" +
        " deci, this is qwen3",
      qwen3,
      cut(layer(0, Cut.all(48), Cut.all(2)), layer(1, Cut.all(48), Cut.all(1)))
    );
    assertRefused(
      "test-model: blk.1.attn_output.bias is added whether there are heads or not, llama.cpp has no layer with it and without" +
        " heads",
      TestModel.llama().withTensor("blk.1.attn_output.bias", 48),
      cut(layer(0, all, four), layer(1, all, NONE))
    );
    assertRefused(
      "test-model: heads cannot be removed: layer 0 has attn_extra.weight, which is not one of the tensors that can be cut",
      TestModel.llama().withTensor("blk.0.attn_extra.weight", 48),
      cut(layer(0, all, NONE), layer(1, all, Cut.all(1)))
    );
  }
}
