package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class EvalCommandTest {

  private static final Path TEXT = Path.of("../samples/test.txt");

  @TempDir
  private Path folder;

  @Test
  void aModelAgainstItsBase() throws IOException {
    Path model = folder.resolve("sample-q4_k_m.gguf");
    Attar.run("quantize", TestModels.SAMPLE, "-t", "q4_k_m", "-o", model).expect(0);
    Attar.Result result = Attar.run(
      "eval",
      model,
      "--base",
      TestModels.SAMPLE,
      "--text",
      TEXT,
      "--chunks",
      2,
      "--ctx",
      128,
      "--pp",
      "16,32",
      "--tg",
      4,
      "-r",
      2,
      "--threads",
      1,
      "--json",
      "--quiet"
    ).expect(0);
    assertEquals("", result.err());
    JsonNode json = new ObjectMapper().readTree(result.out());
    assertTrue(json.isObject());
    assertEquals("sample-q4_k_m", json.get("model").textValue());
    assertEquals(Files.size(model), json.get("bytes").longValue());
    for (String key : List.of(
      "bits_per_weight",
      "perplexity",
      "perplexity_error",
      "kld_mean",
      "kld_median",
      "kld_p99",
      "kld_max",
      "same_top_percent",
      "pp_tokens_per_second",
      "pp32_t1_tokens_per_second",
      "tg_tokens_per_second",
      "load_seconds",
      "peak_rss_bytes"
    )) {
      assertTrue(json.path(key).isNumber(), () -> key + " in " + json);
    }
    assertEquals(126, json.get("tokens").intValue());
  }

  @Test
  void aCheckpointWithoutAText() throws IOException {
    Attar.Result result = Attar.run("eval", TestModels.SAMPLE, "--pp", 0, "--tg", 4, "-r", 1, "--quiet").expect(0);
    assertEquals("", result.err());
    assertTrue(result.out().startsWith("sample (BF16)\n"), result.out());
    assertTrue(result.out().matches("(?s).*\n  tg4 +\\S+ t/s \\(.*"), result.out());
    assertTrue(result.out().matches("(?s).*\n  size +6.92 MB, 16.0 bits per weight\n.*"), result.out());
    assertFalse(result.out().contains("perplexity"), result.out());
  }

  @Test
  void perplexityAlone() throws IOException {
    Path report = folder.resolve("report.html");
    Attar.Result result = Attar.run(
      "eval",
      TestModels.SAMPLE,
      "--text",
      TEXT,
      "--no-latency",
      "--chunks",
      1,
      "--ctx",
      64,
      "--report",
      report
    ).expect(0);
    assertTrue(
      result.out().matches("(?s).*\n  perplexity +[\\d.]+ ± [\\d.]+\n +31 tokens in 1 window of 64\n.*"),
      result.out()
    );
    assertTrue(result.out().endsWith("\nreport: " + report + "\n"), result.out());
    assertTrue(Files.readString(report).contains("<html"));
  }

  @Test
  void aModelThatLlamaCppRefuses() throws IOException {
    Path model = TestModels.small(folder.resolve("model.gguf"));
    String error = Attar.run("eval", model, "--pp", 8, "--tg", 0, "--quiet").error(Main.FAILURE);
    assertTrue(error.contains("model"), error);
    error = Attar.run("eval", model, "--base", TestModels.SAMPLE, "--pp", 8, "--tg", 0, "--quiet").error(Main.FAILURE);
    assertTrue(error.startsWith("model: "), error);
    Path text = Files.writeString(folder.resolve("text.gguf"), "no model");
    error = Attar.run("eval", text).error(Main.FAILURE);
    assertTrue(error.startsWith(text + ": byte 0: found the text"), error);
  }

  @Test
  void aTextThatIsNotUtf8() throws IOException {
    byte[] bytes = "ä".repeat(100_000).getBytes(StandardCharsets.UTF_8);
    Path text = Files.write(folder.resolve("good.txt"), bytes);
    Attar.run("eval", folder.resolve("none.gguf"), "--text", text).error(Main.FAILURE);
    bytes[131_070] = 'a'; // between the two bytes of a letter, across a buffer
    Files.write(text, bytes);
    String error = Attar.run("eval", TestModels.SAMPLE, "--text", text).error(Main.FAILURE);
    assertEquals(text + ": byte 131071: found a4, expected UTF-8 text", error);
    Files.write(text, new byte[] { 'a', (byte) 0xC3 });
    error = Attar.run("eval", TestModels.SAMPLE, "--text", text).error(Main.FAILURE);
    assertEquals(text + ": byte 1: found c3, expected UTF-8 text", error);
  }

  @Test
  void aTextThatIsTooShort() throws IOException {
    Path text = Files.writeString(folder.resolve("short.txt"), "It was a dark and stormy night.");
    String error = Attar.run("eval", TestModels.SAMPLE, "--text", text, "--no-latency", "--quiet").error(Main.FAILURE);
    assertTrue(error.startsWith(text + ": "), error);
  }
}
