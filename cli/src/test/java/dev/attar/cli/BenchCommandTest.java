package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class BenchCommandTest {

  private static final Path TEXT = Path.of("../samples/test.txt");
  private static final Path MATRIX = TestModels.SAMPLE.resolve("imatrix.gguf");

  /** A few runs of a few tokens. */
  private static final List<Object> SHORT = List.of("--pp", 16, "--tg", 4, "-r", 2, "--threads", 1);

  @TempDir
  private Path folder;

  @Test
  void fromACheckpointToAReport() throws Exception {
    Path report = folder.resolve("my report.html");
    Path temporary = Files.createDirectory(folder.resolve("temporary"));
    List<Object> line = new ArrayList<>(List.of("bench", TestModels.SAMPLE, "--types", "q8_0,Q4_K_M,Q2_K"));
    line.addAll(List.of("--text", TEXT, "--chunks", 2, "--ctx", 128, "--report", report, "--quiet"));
    line.addAll(SHORT);
    ProcessBuilder builder = new ProcessBuilder(Attar.childCommand(line.toArray()));
    builder.environment().put("ATTAR_TMP", temporary.toString());
    Attar.Result result = Attar.await(builder.start()).expect(0);
    assertEquals("", result.err());
    for (String start : List.of("  sample (BF16) ", "  Q8_0 ", "  Q4_K_M ", "  Q2_K ", "report: " + report)) {
      assertTrue(
        result
          .out()
          .lines()
          .anyMatch(l -> l.startsWith(start)),
        result.out()
      );
    }
    for (String column : List.of("Size", "Perplexity", "KL mean", "Same top", "pp16", "ttft16", "tg4", "Memory")) {
      assertTrue(result.out().contains(column), result.out());
    }
    assertEquals(List.of(), files(temporary));
    String html = Files.readString(report);
    assertTrue(html.contains("--report '" + report + "'") || html.contains("--report \\u0027"), "the command line");
  }

  @Test
  void jsonIsAListWithTheBaseFirst() throws IOException {
    JsonNode json = json(
      bench(TestModels.SAMPLE, "--types", "Q2_K", "--json", "--text", TEXT, "--chunks", 1, "--ctx", 64).expect(0)
    );
    assertEquals(2, json.size());
    JsonNode base = json.get(0);
    JsonNode variant = json.get(1);
    assertEquals("sample (BF16)", base.get("model").textValue());
    assertEquals("Q2_K", variant.get("model").textValue());
    assertEquals(TestModels.SAMPLE.toString(), variant.get("file").textValue());
    assertFalse(base.has("kld_mean"));
    for (String key : List.of(
      "perplexity",
      "kld_mean",
      "same_top_percent",
      "pp_tokens_per_second",
      "tensor_error_max"
    )) {
      assertTrue(variant.has(key), () -> key + " in " + variant);
    }
    assertTrue(variant.get("bytes").longValue() < base.get("bytes").longValue());
  }

  @Test
  void variantsMadeWithACalibrationText() throws IOException {
    Path kept = folder.resolve("kept");
    List<Object> line = new ArrayList<>(List.of(TestModels.SAMPLE, "--types", "Q4_0,imatrix:Q4_0,gptq:Q4_0"));
    line.addAll(TestModels.SHORT_CALIBRATION);
    line.addAll(List.of("--pure", "--token-embedding-type", "Q8_0", "--effort", 0, "--no-sequential"));
    line.addAll(List.of("--no-latency", "--json", "--quiet", "--keep", kept));
    JsonNode json = json(bench(line.toArray()).expect(0));
    List<String> names = List.of("sample (BF16)", "Q4_0", "Q4_0 (imatrix)", "Q4_0 (gptq)");
    assertEquals(names, json.findValuesAsText("model"));
    List<String> files = List.of(
      "sample-BF16.gguf",
      "sample-Q4_0-gptq.gguf",
      "sample-Q4_0-imatrix.gguf",
      "sample-Q4_0.gguf"
    );
    assertEquals(files.stream().map(kept::resolve).toList(), files(kept));

    Path single = folder.resolve("single.gguf");
    line = new ArrayList<>(List.of("quantize", TestModels.SAMPLE, "-t", "Q4_0", "--method", "gptq", "-o", single));
    line.addAll(TestModels.SHORT_CALIBRATION);
    line.addAll(List.of("--pure", "--token-embedding-type", "Q8_0", "--effort", 0, "--no-sequential", "--quiet"));
    Attar.run(line.toArray()).expect(0);
    assertEquals(-1, Files.mismatch(single, kept.resolve("sample-Q4_0-gptq.gguf")));
  }

  @Test
  void otherForms() {
    Object[] line = { TestModels.SAMPLE, "--types", "Q8_0", "--no-latency" };
    Attar.Result csv = bench(with(line, "--csv")).expect(0);
    assertTrue(csv.out().startsWith("model,file,"), csv.out());
    assertEquals(3, csv.out().lines().count());
    assertTrue(csv.err().contains("  Q8_0 "), csv.err());
    Attar.Result markdown = bench(with(line, "--markdown", "--quiet")).expect(0);
    assertTrue(markdown.out().startsWith("| Model | Size"), markdown.out());
    assertEquals("", markdown.err());
  }

  @Test
  void keepsTheModelsThatItMakes() throws IOException {
    Path kept = folder.resolve("new/kept");
    Object[] line = { TestModels.SAMPLE, "--types", "IQ4_XS", "--imatrix", MATRIX, "--no-latency", "--keep", kept };
    bench(line).expect(0);
    List<Path> expected = List.of(kept.resolve("sample-BF16.gguf"), kept.resolve("sample-IQ4_XS.gguf"));
    assertEquals(expected, files(kept));
    Path single = folder.resolve("single.gguf");
    Attar.run("quantize", TestModels.SAMPLE, "-t", "IQ4_XS", "--imatrix", MATRIX, "-o", single).expect(0);
    assertEquals(-1, Files.mismatch(single, kept.resolve("sample-IQ4_XS.gguf")));

    String error = bench(with(line, "--quiet")).error(Main.FAILURE);
    assertEquals(kept.resolve("sample-BF16.gguf") + ": already exists, use --overwrite to replace it", error);
    bench(with(line, "--overwrite")).expect(0);

    // What was kept is compared without being made again.
    JsonNode json = json(bench(expected.get(0), expected.get(1), "--no-latency", "--json", "--quiet").expect(0));
    assertEquals("sample-IQ4_XS", json.get(1).get("model").textValue());
  }

  @Test
  void aRefusedQuantizationIsToldBeforeAnyWork() throws IOException {
    Path kept = folder.resolve("kept");
    String error = bench(TestModels.SAMPLE, "--types", "Q8_0,IQ1_S", "--keep", kept).error(Main.FAILURE);
    assertTrue(error.startsWith("IQ1_S: " + TestModels.SAMPLE + ": blk.0.attn_k.weight: IQ1_S requires an imp"), error);
    assertFalse(Files.exists(kept));
  }

  @Test
  void quantizedBasesAreQuantizedAgainOnRequest() {
    Path base = folder.resolve("base.gguf");
    Attar.run("quantize", TestModels.SAMPLE, "-t", "Q8_0", "-o", base).expect(0);
    String error = bench(base, "--types", "Q4_0", "--no-latency").error(Main.FAILURE);
    assertTrue(error.contains("say --allow-requantize"), error);
    Attar.Result result = bench(base, "--types", "Q4_0", "--no-latency", "--allow-requantize").expect(0);
    assertTrue(result.out().contains("  base "), result.out());
  }

  @Test
  void theOthersAreMeasuredWhenVariantsFail() throws IOException {
    Path text = Files.writeString(folder.resolve("text.gguf"), "no model");
    Path incomplete = TestModels.small(folder.resolve("incomplete.gguf"));
    Path report = folder.resolve("report.html");
    Attar.Result result = bench(
      TestModels.SAMPLE,
      text,
      incomplete,
      "--types",
      "Q8_0",
      "--report",
      report,
      "--json"
    ).expect(Main.FAILURE);
    List<String> errors = result.err().lines().toList();
    assertTrue(errors.getFirst().startsWith("attar: warning: text cannot be measured: " + text + ": "), result.err());
    assertTrue(errors.getLast().startsWith("attar: 2 of 3 variants failed: text: " + text + ": byte 0"), result.err());
    assertTrue(errors.getLast().contains("; incomplete: "), result.err());
    assertTrue(result.err().contains("\nincomplete failed, loading: "), result.err());
    JsonNode json = json(result);
    assertEquals(4, json.size());
    assertTrue(json.get(1).has("failed") && json.get(2).has("failed"), json::toString);
    assertTrue(json.get(3).has("tg_tokens_per_second"), json::toString);
    assertTrue(Files.exists(report));
  }

  @Test
  void theSameModelTwice() throws IOException {
    Path model = TestModels.small(folder.resolve("model.gguf"));
    Path link = folder.resolve("other.gguf");
    Files.createLink(link, model);
    assertTrue(bench(model, model).error(Main.USAGE).startsWith(model + " is given twice"));
    assertTrue(bench(model, link).error(Main.USAGE).startsWith(link + " and " + model + " are the same"));
  }

  @Test
  void outputsThatCannotBe() throws IOException {
    Path model = TestModels.small(folder.resolve("model.gguf"));
    Path other = TestModels.small(folder.resolve("other.gguf"));
    Path report = Files.writeString(folder.resolve("report.html"), "x");
    Path text = Files.writeString(folder.resolve("text.txt"), "x");
    List<Path> before = files(folder);
    String error = bench(model, other, "--report", report).error(Main.FAILURE);
    assertEquals(report + ": already exists, use --overwrite to replace it", error);
    for (Path input : List.of(model, other, text)) {
      error = bench(model, other, "--text", text, "--report", input, "--overwrite").error(Main.FAILURE);
      assertEquals(input + ": is read by this command, give the output another name", error);
    }
    error = bench(model, other, "--report", folder.resolve("none/report.html")).error(Main.FAILURE);
    assertTrue(error.startsWith(folder.resolve("none/report.html") + ": the folder "), error);
    error = bench(TestModels.SAMPLE, "--types", "q8_0", "--keep", text).error(Main.FAILURE);
    assertEquals(text + ": not a folder", error);
    assertEquals(before, files(folder));
  }

  @Test
  void filesOfOptionsThatCannotBeRead() throws IOException {
    Path empty = Files.createFile(folder.resolve("empty.txt"));
    Path missing = folder.resolve("missing.txt");
    Object[] line = { TestModels.SAMPLE, "--types", "q8_0" };
    assertEquals(
      empty + ": an empty file, expected UTF-8 text",
      bench(with(line, "--text", empty)).error(Main.FAILURE)
    );
    assertEquals(
      folder + ": a folder, expected a UTF-8 text file",
      bench(with(line, "--text", folder)).error(Main.FAILURE)
    );
    assertEquals(missing + ": no such file or folder", bench(with(line, "--text", missing)).error(Main.FAILURE));
    assertTrue(bench(with(line, "--imatrix", empty)).error(Main.FAILURE).startsWith(empty + ": "));
    assertTrue(bench(with(line, "--imatrix", missing)).error(Main.FAILURE).startsWith(missing + ": "));
  }

  private static Attar.Result bench(Object... words) {
    List<Object> line = new ArrayList<>(List.of("bench"));
    line.addAll(Arrays.asList(words));
    if (!line.contains("--no-latency")) {
      line.addAll(SHORT);
    }
    return Attar.run(line.toArray());
  }

  private static Object[] with(Object[] line, Object... more) {
    return Stream.concat(Arrays.stream(line), Arrays.stream(more)).toArray();
  }

  private static JsonNode json(Attar.Result result) throws IOException {
    return new ObjectMapper().readTree(result.out());
  }

  private static List<Path> files(Path folder) throws IOException {
    try (Stream<Path> all = Files.list(folder)) {
      return all.sorted().toList();
    }
  }
}
