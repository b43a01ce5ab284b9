package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.attar.formats.imatrix.ImportanceMatrix;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ImatrixCommandTest {

  @TempDir
  private Path folder;

  @Test
  void measuresACheckpoint() throws IOException {
    Path out = folder.resolve("imatrix.gguf");
    JsonNode json = new ObjectMapper().readTree(imatrix("-o", out, "--json", "--quiet").expect(0).out());
    assertEquals(out.toString(), json.get("file").textValue());
    assertEquals(28, json.get("tensors").intValue());
    assertEquals(4, json.get("windows").intValue());
    assertEquals(256, json.get("tokens").intValue());
    assertTrue(json.get("seconds").doubleValue() > 0);
    assertEquals(0, json.get("warnings").size());
    try (ImportanceMatrix matrix = ImportanceMatrix.open(out)) {
      assertEquals(28, matrix.tensors().size());
      assertEquals(512, matrix.columns("blk.3.ffn_down.weight").orElseThrow());
      assertEquals(List.of(TestModels.CALIBRATION.toString()), matrix.datasets());
    }
    Path model = folder.resolve("model.gguf");
    Attar.run("quantize", TestModels.SAMPLE, "-t", "Q2_K_S", "--imatrix", out, "-o", model).expect(0);
    assertTrue(Attar.run("inspect", model).expect(0).out().contains("quantize.imatrix.chunks_count"));
  }

  @Test
  void theOutputHeadAndFewerTokensThanAskedFor() throws IOException {
    Path model = folder.resolve("model.gguf");
    Attar.run("convert", TestModels.SAMPLE, "-o", model).expect(0);
    Path text = folder.resolve("text.jsonl");
    Files.writeString(
      text,
      "{\"text\": \"Once upon a time there was a little girl who had a red ball.\"}\n".repeat(20)
    );
    Path out = folder.resolve("out.gguf");
    Attar.Result result = Attar.run(
      "imatrix",
      model,
      "--calibration",
      text,
      "--ctx",
      64,
      "--threads",
      1,
      "--process-output",
      "-o",
      out
    ).expect(0);
    assertTrue(result.out().startsWith(out + ": importance for 29 tensors, measured on "), result.out());
    assertTrue(result.err().contains("warning: " + text + ": "), result.err());
    assertTrue(result.err().contains("fewer than the 65536 asked for"), result.err());
    try (ImportanceMatrix matrix = ImportanceMatrix.open(out)) {
      assertTrue(matrix.tensors().contains("token_embd.weight"), () -> matrix.tensors().toString());
    }
  }

  @Test
  void outputsThatCannotBe() throws IOException {
    Path text = Files.copy(TestModels.CALIBRATION, folder.resolve("text.txt"));
    String error = Attar.run("imatrix", TestModels.SAMPLE, "--calibration", text, "-o", text, "--overwrite").error(
      Main.FAILURE
    );
    assertEquals(text + ": is read by this command, give the output another name", error);
    assertEquals(-1, Files.mismatch(TestModels.CALIBRATION, text));
    error = imatrix("-o", text).error(Main.FAILURE);
    assertEquals(text + ": already exists, use --overwrite to replace it", error);
  }

  @Test
  void textsThatCannotBe() throws IOException {
    Path out = folder.resolve("out.gguf");
    Path missing = folder.resolve("missing.txt");
    Path binary = Files.write(folder.resolve("binary.txt"), new byte[] { (byte) 0xff, 0, 1 });
    Path shortText = Files.writeString(folder.resolve("short.txt"), "Once upon a time.");
    assertEquals(missing + ": no such file", failure(missing, out));
    assertTrue(failure(binary, out).startsWith(binary + ": "));
    assertTrue(failure(folder, out).startsWith(folder + ": not a regular file, expected text"));
    assertTrue(failure(shortText, out).contains("expected at least 512, the length of a window"));
    assertFalse(Files.exists(out));
  }

  private static String failure(Path text, Path out) {
    return Attar.run("imatrix", TestModels.SAMPLE, "--calibration", text, "-o", out, "--quiet").error(Main.FAILURE);
  }

  private static Attar.Result imatrix(Object... words) {
    List<Object> line = new ArrayList<>(List.of("imatrix", TestModels.SAMPLE));
    line.addAll(TestModels.SHORT_CALIBRATION);
    line.addAll(Arrays.asList(words));
    return Attar.run(line.toArray());
  }
}
