package dev.attar.prune.structure;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertDoesNotThrow;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.calibration.MemoryModel;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.TensorType;
import dev.attar.prune.PruneException;
import java.io.IOException;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class AnatomyTest {

  private static void assertRefused(String expected, Model model, Structure structure, boolean nonUniform)
    throws IOException {
    Anatomy anatomy = Anatomy.of(model);
    String message = assertThrows(PruneException.class, () -> anatomy.require(structure, nonUniform)).getMessage();
    assertEquals(expected, message);
  }

  private static void assertMalformed(String expected, Model model) {
    assertEquals(expected, assertThrows(PruneException.class, () -> Anatomy.of(model)).getMessage());
  }

  private static void assertAllowed(Model model, boolean nonUniform, Structure... structures) throws IOException {
    Anatomy anatomy = Anatomy.of(model);
    for (Structure structure : structures) {
      assertDoesNotThrow(() -> anatomy.require(structure, nonUniform));
    }
  }

  /** The same tensors under another architecture's name. */
  private static TestModel as(String architecture, TestModel model) {
    Metadata metadata = Metadata.of(Map.of("general.architecture", MetadataValue.string(architecture)));
    String old = model.metadata().architecture() + ".";
    for (Map.Entry<String, MetadataValue> entry : model.metadata().values().entrySet()) {
      if (entry.getKey().startsWith(old)) {
        metadata = metadata.with(architecture + "." + entry.getKey().substring(old.length()), entry.getValue());
      }
    }
    return new TestModel(metadata, model.tensors());
  }

  private static MetadataValue ints(int... values) {
    return MetadataValue.int32s(values);
  }

  @Test
  void readsWhatLayersHave() throws IOException {
    Anatomy anatomy = Anatomy.of(TestModel.llama());
    assertEquals("llama", anatomy.architecture());
    Anatomy.Part part = new Anatomy.Part(64, 4, 2, 8);
    assertEquals(List.of(part, part, part, part), anatomy.layers());
    assertArrayEquals(
      new int[] { 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31 },
      part.keys(new int[] { 1, 3 })
    );
    assertEquals(16, part.queries(new int[] { 2 }).length);
    assertEquals(32, part.queries(new int[] { 2 })[0]);
    Cut whole = anatomy.whole();
    assertArrayEquals(new int[] { 0, 1, 2, 3 }, whole.numbers());
    assertEquals(new Cut.Layer(3, Cut.all(64), Cut.all(4)), whole.layers().getLast());
    try (Model sample = Models.open(MemoryModel.SAMPLE)) {
      assertEquals(new Anatomy.Part(512, 4, 2, 32), Anatomy.of(sample).layers().getFirst());
    }
    try (Model qwen3 = Models.open(TestModel.CHECKPOINTS.resolve("qwen3"))) {
      assertEquals(new Anatomy.Part(48, 2, 2, 12), Anatomy.of(qwen3).layers().getFirst());
    }
  }

  @Test
  void readsLayersThatDiffer() throws IOException {
    Cut cut = new Cut(
      List.of(
        new Cut.Layer(0, Cut.all(64), new int[] { 1 }),
        new Cut.Layer(1, Cut.all(10), new int[] {}),
        new Cut.Layer(3, new int[] {}, Cut.all(4))
      )
    );
    Model deci = CutModel.of(TestModel.llama(), cut, Map.of());
    assertEquals(
      List.of(new Anatomy.Part(64, 1, 2, 8), new Anatomy.Part(10, 0, 0, 0), new Anatomy.Part(32, 4, 2, 8)),
      Anatomy.of(deci).layers()
    );
    assertAllowed(deci, true, Structure.values());
    assertRefused(
      "test-model: the same number of neurons of each layer cannot be removed: the layers differ already, they have [10, 32, 64]: say --non-uniform",
      deci,
      Structure.FFN,
      false
    );
    assertRefused(
      "test-model: the same number of groups of heads of each layer cannot be removed: the layers differ already, they have" +
        " [0, 1, 4]: say --non-uniform",
      deci,
      Structure.HEADS,
      false
    );
  }

  @Test
  void whatCanBeRemoved() throws IOException {
    for (boolean nonUniform : new boolean[] { false, true }) {
      assertAllowed(TestModel.llama(), nonUniform, Structure.values());
      assertAllowed(TestModel.qwen2(), nonUniform, Structure.FFN, Structure.LAYERS);
      assertAllowed(TestModel.starcoder2(), nonUniform, Structure.LAYERS);
    }
    assertAllowed(TestModel.qwen2(), true, Structure.HEADS);
    assertAllowed(TestModel.starcoder2(), false, Structure.FFN);
    assertAllowed(TestModel.read(TestModel.CHECKPOINTS.resolve("qwen3")), false, Structure.values());
    assertAllowed(TestModel.read(TestModel.CHECKPOINTS.resolve("mistral")), true, Structure.values());
    assertAllowed(TestModel.read(TestModel.CHECKPOINTS.resolve("llama3-bpe")), true, Structure.values());
    assertAllowed(TestModel.read(TestModel.CHECKPOINTS.resolve("mixtral")), false, Structure.HEADS, Structure.LAYERS);
    assertAllowed(MemoryModel.copy(TestModel.llama(), TensorType.F16), true, Structure.values());
  }

  @Test
  void refusesNeuronsThatCannotBeCut() throws IOException {
    assertRefused(
      "test-model: neurons cannot be removed: layer 0 has ffn_down_exps.weight, which is not one of the tensors that can be cut",
      TestModel.read(TestModel.CHECKPOINTS.resolve("mixtral")),
      Structure.FFN,
      false
    );
    assertRefused(
      "test-model: neurons cannot be removed: layer 0 has no ffn_up.weight",
      TestModel.llama().withoutTensors("ffn_up.weight"),
      Structure.FFN,
      false
    );
    // Gate and up in one, as Phi 3 has them.
    assertRefused(
      "test-model: neurons cannot be removed: blk.0.ffn_up.weight: found 48 x 128, expected 48 x 64",
      as("phi3", TestModel.llama().withoutTensors("ffn_gate.weight").withoutTensors("ffn_up.weight"))
        .withTensor("blk.0.ffn_up.weight", 48, 128)
        .withTensor("blk.1.ffn_up.weight", 48, 128)
        .withTensor("blk.2.ffn_up.weight", 48, 128)
        .withTensor("blk.3.ffn_up.weight", 48, 128),
      Structure.FFN,
      false
    );
    assertRefused(
      "test-model: neurons cannot be removed: blk.0.ffn_down.weight: found 64 x 48, expected feed_forward_length 128 columns",
      as("qwen", TestModel.llama()).with("qwen.feed_forward_length", MetadataValue.uint32(128)),
      Structure.FFN,
      false
    );
    assertRefused(
      "test-model: neurons cannot be removed: layer 2 has ffn_sub_norm.weight, which is not one of the tensors that can be cut",
      as("bitnet", TestModel.llama()).withTensor("blk.2.ffn_sub_norm.weight", 64),
      Structure.FFN,
      false
    );
    assertRefused(
      "test-model: neurons cannot be removed: blk.1.ffn_up.bias: found 65, expected 64",
      TestModel.llama().withTensor("blk.1.ffn_up.bias", 65),
      Structure.FFN,
      false
    );
  }

  @Test
  void refusesHeadsThatNoLoaderTakes() throws IOException {
    assertRefused(
      "test-model: heads cannot be removed: llama.cpp takes heads that do not add up to the embedding's width only of llama," +
        " qwen3, deci, this is qwen2 (it becomes deci if layers may come to differ)",
      TestModel.qwen2(),
      Structure.HEADS,
      false
    );
    assertRefused(
      "test-model: heads cannot be removed: llama.cpp takes heads that do not add up to the embedding's width only of llama," +
        " qwen3, deci, this is starcoder2",
      TestModel.starcoder2(),
      Structure.HEADS,
      false
    );
    assertRefused(
      "test-model: heads cannot be removed: layer 0 has attn_qkv.weight, which is not one of the tensors that can be cut",
      as("gpt2", TestModel.llama().withTensor("blk.0.attn_qkv.weight", 48, 144)),
      Structure.HEADS,
      false
    );
    assertRefused(
      "test-model: heads cannot be removed: blk.0.attn_k.weight: heads of 8, expected key_length 16 and value_length 8",
      TestModel.llama().with("llama.attention.key_length", MetadataValue.uint32(16)),
      Structure.HEADS,
      false
    );
    assertRefused(
      "test-model: heads cannot be removed: layer 0 has 8 heads of queries and 3 of keys",
      TestModel.llama().with("llama.attention.head_count_kv", MetadataValue.uint32(3)),
      Structure.HEADS,
      true
    );
  }

  @Test
  void refusesLayersThatMayNotBeAlike() throws IOException {
    for (String architecture : List.of("gemma2", "llama4", "jamba", "baichuan", "command-r", "unknown")) {
      Anatomy anatomy = Anatomy.of(as(architecture, TestModel.llama()));
      String message = assertThrows(PruneException.class, () -> anatomy.require(Structure.LAYERS, false)).getMessage();
      assertTrue(
        message.startsWith(
          "test-model: layers cannot be removed: layers of " + architecture + " are not known to be alike"
        ),
        message
      );
    }
    assertRefused(
      "test-model: layers cannot be removed: some predict further tokens (qwen3.nextn_predict_layers)",
      as("qwen3", TestModel.llama()).with("qwen3.nextn_predict_layers", MetadataValue.uint32(1)),
      Structure.LAYERS,
      false
    );
    assertRefused(
      "test-model: layers cannot be removed: there is only one",
      MemoryModel.copy(
        CutModel.of(
          TestModel.llama(),
          new Cut(List.of(Anatomy.of(TestModel.llama()).whole().layers().getFirst())),
          Map.of()
        ),
        TensorType.F32
      ),
      Structure.LAYERS,
      false
    );
  }

  @Test
  void refusesDifferencesThatNoGraphRuns() throws IOException {
    assertRefused(
      "test-model: neurons of some layers alone cannot be removed: llama.cpp runs layers that differ only of Llama-like models," +
        " as deci, this is qwen3",
      TestModel.read(TestModel.CHECKPOINTS.resolve("qwen3")),
      Structure.FFN,
      true
    );
    assertRefused(
      "test-model: groups of heads of some layers alone cannot be removed: llama.cpp runs layers that differ as deci, which has" +
        " no blk.0.ffn_gate_exps.weight",
      TestModel.read(TestModel.CHECKPOINTS.resolve("mixtral")),
      Structure.HEADS,
      true
    );
    assertRefused(
      "test-model: neurons of some layers alone cannot be removed: llama.cpp runs layers that differ as deci, which has no" +
        " output.bias",
      TestModel.qwen2().withTensor("output.bias", 96),
      Structure.FFN,
      true
    );
  }

  @Test
  void refusesMetadataThatContradictTheTensors() {
    TestModel llama = TestModel.llama();
    assertMalformed(
      "test-model: general.architecture: found nothing, expected the name of an architecture",
      llama.without("general.architecture")
    );
    for (long count : new long[] { 0, 3, 5, 4_000_000_000L }) {
      assertMalformed(
        "test-model: llama.block_count: found " + count + ", expected the number of layers that have tensors, 4",
        llama.with("llama.block_count", MetadataValue.uint32(count))
      );
    }
    assertMalformed(
      "test-model: llama.block_count: found 5, expected the number of layers that have tensors, 5",
      llama.withTensor("blk.999999.attn_norm.weight", 48).with("llama.block_count", MetadataValue.uint32(5))
    );
    assertMalformed(
      "test-model: llama.feed_forward_length: found [64, 64, 64], expected a whole number, or one for each of 4 layers",
      llama.with("llama.feed_forward_length", ints(64, 64, 64))
    );
    assertMalformed(
      "test-model: llama.attention.head_count: found x, expected a whole number, or one for each of 4 layers",
      llama.with("llama.attention.head_count", MetadataValue.string("x"))
    );
    assertMalformed(
      "test-model: llama.attention.head_count_kv: found -1, expected 0 to 16777216",
      llama.with("llama.attention.head_count_kv", ints(4, 4, -1, 4))
    );
  }
}
