package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ConvertCommandTest {

  @TempDir
  private Path folder;

  @Test
  void keepsTheTypeOfMatrices() throws IOException {
    Path out = folder.resolve("out.gguf");
    Attar.Result result = Attar.run("convert", TestModels.SAMPLE, "-o", out).expect(0);
    assertEquals("", result.err());
    assertTrue(result.out().endsWith("  9 F32, 29 BF16\n"), result.out());
    assertTrue(Attar.run("inspect", out).expect(0).out().contains("tokenizer.ggml.tokens"));
  }

  @Test
  void convertsToTheTypeThatIsAskedFor() throws IOException {
    Path out = folder.resolve("out.gguf");
    Attar.Result result = Attar.run("convert", TestModels.SAMPLE, "--outtype", "q8_0", "-o", out, "--json").expect(0);
    JsonNode json = new ObjectMapper().readTree(result.out());
    assertEquals("Q8_0", json.get("type").textValue());
    assertEquals(29, json.get("types").get("Q8_0").get("tensors").intValue());
    assertEquals(Files.size(out), json.get("file_bytes").longValue());
  }

  @Test
  void aConvertedModelQuantizesToTheSameFileAsTheCheckpoint() throws IOException {
    Path converted = folder.resolve("sample.gguf");
    Attar.run("convert", TestModels.SAMPLE, "-o", converted).expect(0);
    String direct = tensors(TestModels.SAMPLE, folder.resolve("direct.gguf"));
    assertEquals(direct, tensors(converted, folder.resolve("in two steps.gguf")));
  }

  private static String tensors(Path model, Path out) {
    Attar.run("quantize", model, "-t", "q4_k_m", "-o", out).expect(0);
    return Attar.run("inspect", "--tensors", out).expect(0).out().replaceFirst(".*\n", "");
  }
}
