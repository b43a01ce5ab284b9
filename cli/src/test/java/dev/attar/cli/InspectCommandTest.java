package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

class InspectCommandTest {

  @TempDir
  private Path folder;

  private Path model;

  @BeforeEach
  void writeModel() throws IOException {
    model = TestModels.small(folder.resolve("model.gguf"));
  }

  @Test
  void showsEverything() {
    String out = Attar.run("inspect", model).expect(0).out();
    assertTrue(out.contains("  architecture     llama\n"), out);
    assertTrue(out.contains("bell\\u0007 and\\nline"), out);
    assertTrue(out.contains("\"caf\\xe9\""), out);
    assertTrue(out.matches("(?s).*test.large +uint64 +18446744073709551615\n.*"), out);
    assertTrue(out.matches("(?s).*test.list +int32\\[8] +\\[1, 2, 3, 4, 5, 6, \\.\\.\\.]\n.*"), out);
    assertTrue(out.matches("(?s).*blk.0.attn_q.weight +F32 +256 x 32 +32768\n.*"), out);
    assertTrue(out.matches("(?s).*  all +3 +11360 +45440 +32.00\n"), out);
    assertFalse(out.contains("\u0007"));
  }

  @Test
  void showsPartOfIt() {
    assertFalse(Attar.run("inspect", "--metadata", model).expect(0).out().contains("attn_q"));
    assertFalse(Attar.run("inspect", "--tensors", model).expect(0).out().contains("test.list"));
  }

  @Test
  void jsonHoldsWholeValues() throws IOException {
    JsonNode json = new ObjectMapper().readTree(Attar.run("inspect", "--json", model).expect(0).out());
    JsonNode metadata = json.get("metadata");
    assertEquals("bell\u0007 and\nline", metadata.get("general.name").get("value").textValue());
    assertEquals("caf\udce9", metadata.get("test.undecodable").get("value").textValue());
    assertEquals("18446744073709551615", metadata.get("test.large").get("value").asText());
    assertEquals("[1,2,3,4,5,6,7,8]", metadata.get("test.list").get("value").toString());
    assertEquals("int32", metadata.get("test.list").get("element_type").textValue());
    assertEquals("[256,32]", json.get("tensors").get(0).get("shape").toString());
    assertEquals(45440, json.get("bytes").intValue());
    assertEquals(3, json.get("types").get("F32").get("tensors").intValue());
  }

  /** The digests are those of the file that llama.cpp's converter wrote. */
  @Test
  void showsDigests() throws IOException {
    String digest = "cfa81eabaf3570ead8602fcd21a373232e118b4d144932cd974b84171232cacc";
    String out = Attar.run("inspect", "--tensors", "--digests", TestModels.SAMPLE).expect(0).out();
    assertTrue(out.matches("(?s).*blk.0.attn_q.weight +BF16 +256 x 256 +131072 +" + digest + "\n.*"), out);
    JsonNode json = new ObjectMapper().readTree(
      Attar.run("inspect", "--json", "--digests", TestModels.SAMPLE).expect(0).out()
    );
    assertTrue(json.get("tensors").toString().contains("\"" + digest + "\""), json::toString);
  }

  @Test
  void showsAnImportanceMatrix() {
    String out = Attar.run("inspect", TestModels.SAMPLE.resolve("imatrix.gguf")).expect(0).out();
    assertTrue(out.contains("\"imatrix\""), out);
    assertTrue(out.contains("blk.0.attn_q.weight.in_sum2"), out);
  }

  @Test
  @DisabledOnOs(value = OS.WINDOWS, disabledReason = "needs a POSIX shell")
  void aReaderThatLeavesEarlyIsNoFailure() throws Exception {
    List<String> command = new ArrayList<>(List.of("bash", "-c", "{ sleep 1; \"$@\"; echo $? >&2; } | true", "bash"));
    command.addAll(Attar.childCommand("inspect", model));
    assertEquals("0\n", Attar.await(new ProcessBuilder(command).start()).err());
  }
}
