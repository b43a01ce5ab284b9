package dev.attar.quant.budget;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.calibration.GramRequest;
import dev.attar.calibration.GramStore;
import dev.attar.calibration.LinearInput;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import dev.attar.formats.gguf.GgufWriter;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class StoredGramsTest {

  private static final LinearInput QUERY = new LinearInput(
    "blk.0.attn_q.weight",
    List.of("blk.0.attn_q.weight", "blk.0.attn_k.weight"),
    2,
    1
  );
  private static final LinearInput EXPERTS = new LinearInput(
    "blk.0.ffn_up_exps.weight",
    List.of("blk.0.ffn_up_exps.weight"),
    2,
    3
  );

  @TempDir
  private Path folder;

  /** Puts a matrix of 2 by 2 into a store, in the form of its files. */
  private static void put(GramStore store, GramRequest request, long tokens, float... upper) throws IOException {
    Map<String, MetadataValue> metadata = new LinkedHashMap<>();
    metadata.put("general.type", MetadataValue.string("gram"));
    metadata.put("attar.gram.input", MetadataValue.string(request.input().name()));
    metadata.put("attar.gram.expert", MetadataValue.int32(request.expert()));
    metadata.put("attar.gram.tokens", MetadataValue.uint64(tokens));
    metadata.put("attar.gram.identity", MetadataValue.string(store.identity()));
    TensorInfo tensor = new TensorInfo(request.input().name(), TensorType.F32, new long[] { 3 });
    ByteBuffer bytes = ByteBuffer.allocate(12).order(ByteOrder.LITTLE_ENDIAN);
    for (float value : upper) {
      bytes.putFloat(value);
    }
    try (GgufWriter writer = GgufWriter.create(store.file(request), Metadata.of(metadata), List.of(tensor), false)) {
      writer.write(0, 0, bytes.array(), 0, 12);
      writer.commit();
    }
  }

  private static void assertGram(GramSource source, String tensor, int expert, long tokens, float... upper)
    throws IOException {
    try (GramSource.Gram gram = source.gram(tensor, expert).orElseThrow()) {
      assertEquals(2, gram.columns());
      assertEquals(tokens, gram.tokens());
      assertEquals(12, gram.upper().byteSize());
      for (int i = 0; i < 3; i++) {
        assertEquals(upper[i], gram.upper().getAtIndex(OutputErrors.FLOAT, i));
      }
    }
  }

  @Test
  void findsTheMatrixOfATensorsInput() throws IOException {
    GramStore store = GramStore.open(folder, "this text");
    GramSource source = new StoredGrams(store, List.of(QUERY, EXPERTS));
    assertTrue(source.gram("blk.0.attn_k.weight", 0).isEmpty());
    put(store, GramRequest.all(QUERY), 100, 1, 2, 5);
    assertGram(source, "blk.0.attn_q.weight", 0, 100, 1, 2, 5);
    assertGram(source, "blk.0.attn_k.weight", 0, 100, 1, 2, 5);
    assertTrue(source.gram("blk.0.attn_k.weight", 1).isEmpty());
    assertTrue(source.gram("token_embd.weight", 0).isEmpty());
  }

  @Test
  void givesAnExpertWithoutAMatrixThatOfAll() throws IOException {
    GramStore store = GramStore.open(folder, "this text");
    GramSource source = new StoredGrams(store, List.of(EXPERTS));
    put(store, new GramRequest(EXPERTS, 1), 290, 3, 1, 4);
    assertTrue(source.gram("blk.0.ffn_up_exps.weight", 0).isEmpty());
    put(store, GramRequest.all(EXPERTS), 300, 1, 2, 5);
    assertGram(source, "blk.0.ffn_up_exps.weight", 0, 100, 1, 2, 5);
    assertGram(source, "blk.0.ffn_up_exps.weight", 1, 290, 3, 1, 4);
    assertTrue(source.gram("blk.0.ffn_up_exps.weight", 3).isEmpty());
  }
}
