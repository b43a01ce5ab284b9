package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.architecture.OutputType;
import dev.attar.prune.Amount;
import dev.attar.prune.PruneMethod;
import dev.attar.quant.QuantizationPlan;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import picocli.CommandLine;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;

class SparseReportTest {

  @TempDir
  private Path folder;

  private final ByteArrayOutputStream out = new ByteArrayOutputStream();
  private final ByteArrayOutputStream err = new ByteArrayOutputStream();
  private final Console console = new Console(print(out), print(err));

  /** Holds the options for messages. */
  @Command
  private static final class Holder {

    @Mixin
    private MessageOptions messages;
  }

  private static PrintStream print(ByteArrayOutputStream to) {
    return new PrintStream(to, true, StandardCharsets.UTF_8);
  }

  private static MessageOptions messages(String... words) {
    Holder holder = new Holder();
    new CommandLine(holder).parseArgs(words);
    return holder.messages;
  }

  @Test
  void saysThatOnlyTheDownloadIsSmaller() throws IOException {
    report().print(console, messages(), false);
    String name = folder.resolve("out.gguf").toString();
    assertEquals(
      name +
        ": 999 B (from 6.82 MB) in 1.50 s\n" +
        "  9 F32, 29 BF16\n" +
        "  wanda: 1.17 M of 2.35 M weights in 28 matrices are zero (49.8 %; asked for 2:4), 256 tokens\n" +
        "  speed and memory stay as they are: ggml has no sparse kernels\n" +
        "  download, compressed by zstd: 3.10 MB instead of 5.20 MB\n",
      out.toString(StandardCharsets.UTF_8).replace(System.lineSeparator(), "\n")
    );
    assertEquals(
      "attar: warning: a thing\n",
      err.toString(StandardCharsets.UTF_8).replace(System.lineSeparator(), "\n")
    );
  }

  @Test
  void tellsProgramsTheSame() throws IOException {
    report().print(console, messages("--json"), true);
    assertEquals("", err.toString(StandardCharsets.UTF_8));
    JsonNode json = new ObjectMapper().readTree(out.toByteArray());
    assertEquals("wanda", json.get("method").textValue());
    assertEquals("2:4", json.get("sparsity").textValue());
    assertEquals("gguf", json.get("format").textValue());
    assertEquals(1_170_000, json.get("removed").get("weights").longValue());
    assertEquals(2_350_000, json.get("removed").get("of").longValue());
    assertEquals(28, json.get("removed").get("matrices").intValue());
    assertEquals(1_170_000 / 2_350_000.0, json.get("removed").get("ratio").doubleValue());
    assertEquals(256, json.get("tokens").intValue());
    assertEquals(3_410_176, json.get("parameters").longValue());
    assertEquals(999, json.get("file_bytes").longValue());
    assertEquals(29, json.get("types").get("BF16").get("tensors").intValue());
    assertEquals(3_100_000, json.get("compressed_bytes").longValue());
    assertEquals(5_200_000, json.get("compressed_bytes_before").longValue());
    assertTrue(json.get("gain").textValue().contains("no sparse kernels"), json::toString);
    assertEquals("a thing", json.get("warnings").get(0).textValue());
    assertFalse(json.has("gptq"));
  }

  private SparseReport report() throws IOException {
    Path file = Files.write(folder.resolve("out.gguf"), new byte[999]);
    Amount sparsity = Amount.parse("2:4");
    try (Model model = Models.open(TestModels.SAMPLE)) {
      QuantizationPlan plan = QuantizationPlan.convert(model, OutputType.BF16);
      SparseReport report = new SparseReport(
        model,
        plan,
        new SparseReport.Removed(PruneMethod.WANDA, sparsity, 28, 2_350_000, 1_170_000, 256)
      );
      report.setWritten(ModelOutput.of(file), 1.5);
      report.setCompressed(3_100_000, 5_200_000);
      report.addWarning("a thing");
      return report;
    }
  }
}
