package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import dev.attar.formats.Tensor;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class MergeCommandTest {

  private static final String[] TARGETS = { "blk.0.attn_q.weight", "blk.3.ffn_down.weight" };

  @TempDir
  private Path folder;

  private static JsonNode json(Attar.Result result) throws IOException {
    return new ObjectMapper().readTree(result.out());
  }

  private List<Path> files() throws IOException {
    try (Stream<Path> all = Files.list(folder)) {
      return all.sorted().toList();
    }
  }

  private static float[] values(Model model, String name) throws IOException {
    for (Tensor tensor : model.tensors()) {
      if (tensor.info().name().equals(name)) {
        float[] values = new float[(int) tensor.info().elements()];
        tensor.decodeRows(0, (int) tensor.info().rows(), values, 0);
        return values;
      }
    }
    throw new AssertionError(name);
  }

  @Test
  void aFileAndAFolderHoldTheSame() throws IOException {
    Path first = TestModels.adapter(folder.resolve("a.gguf"), "llama", 4, TARGETS);
    Path second = TestModels.adapter(folder.resolve("b.gguf"), "llama", 3, TARGETS[1], "blk.2.attn_k.weight");
    Path file = folder.resolve("out.gguf");
    Path tuned = folder.resolve("tuned");
    Object[] adapters = { "merge", TestModels.SAMPLE, first, "--lora-scaled", second + ":-0.5", "--json", "-o" };
    Attar.Result result = Attar.run(Stream.concat(Stream.of(adapters), Stream.of(file)).toArray()).expect(0);
    assertTrue(result.err().contains("\n  merged " + first + ": 2 tensors, rank 4, scale 1\n"), result.err());
    assertTrue(result.err().contains("\n  merged " + second + ": 2 tensors, rank 3, scale -0.5\n"), result.err());
    JsonNode written = json(result);
    assertEquals("gguf", written.get("format").textValue());
    assertEquals(Files.size(file), written.get("file_bytes").longValue());
    assertEquals(-0.5, written.get("adapters").get(1).get("scale").doubleValue());
    assertEquals(0, written.get("warnings").size(), written::toString);
    Attar.run(Stream.concat(Stream.of(adapters), Stream.of(tuned)).toArray()).expect(0);
    assertEquals(List.of(first, second, file, tuned), files());
    try (
      Model base = Models.open(TestModels.SAMPLE);
      Model gguf = Models.open(file);
      Model checkpoint = Models.open(tuned)
    ) {
      assertEquals(base.tensors().size(), gguf.tensors().size());
      for (Tensor tensor : base.tensors()) {
        String name = tensor.info().name();
        assertArrayEquals(values(gguf, name), values(checkpoint, name), name);
        boolean touched = name.equals("blk.2.attn_k.weight") || List.of(TARGETS).contains(name);
        assertEquals(!touched, Arrays.equals(values(base, name), values(gguf, name)), name);
      }
    }
    String inspected = Attar.run("inspect", file).expect(0).out();
    assertTrue(inspected.matches("(?s).*attar\\.merge\\.scales +float32\\[2\\] +\\[1\\.0, -0\\.5\\]\n.*"), inspected);
  }

  @Test
  void ofAQuantizedModelWhatChangesBecomesF16UnlessATypeIsGiven() throws IOException {
    Path quantized = folder.resolve("q8_0.gguf");
    Attar.run("quantize", TestModels.SAMPLE, "-t", "q8_0", "-o", quantized).expect(0);
    Path adapter = TestModels.adapter(folder.resolve("a.gguf"), "llama", 4, TARGETS);
    Path out = folder.resolve("out.gguf");
    JsonNode json = json(Attar.run("merge", quantized, "--lora", adapter, "-o", out, "--json").expect(0));
    assertEquals(2, json.get("types").get("F16").get("tensors").intValue(), json::toString);
    assertTrue(json.get("warnings").toString().contains("what an adapter changes is written in F16"), json::toString);
    Attar.Result typed = Attar.run("merge", quantized, adapter, "-o", out, "-t", "q4_0", "--overwrite").expect(0);
    assertFalse(typed.out().contains("F16"), typed.out());
    assertTrue(
      typed.err().contains("to quantize it again costs accuracy: better merge into the original"),
      typed.err()
    );

    // The same model with the adapter beside it is another participant; a mismatch is told before anything is measured.
    Object[] options = {
      "--no-latency",
      "--text",
      TestModels.TEXT,
      "--chunks",
      1,
      "--ctx",
      64,
      "--threads",
      1,
      "--json"
    };
    Object[] line = { "bench", TestModels.SAMPLE, quantized, quantized + "+" + adapter };
    JsonNode compared = json(Attar.run(Stream.of(line, options).flatMap(Stream::of).toArray()).expect(0));
    assertEquals(List.of("sample (BF16)", "q8_0", "q8_0+a"), compared.findValuesAsText("model"));
    long bytes = compared.get(1).get("bytes").longValue();
    assertEquals(bytes + Files.size(adapter), compared.get(2).get("bytes").longValue());
    assertTrue(compared.get(2).get("kld_mean").doubleValue() > 10 * compared.get(1).get("kld_mean").doubleValue());
    Path foreign = TestModels.adapter(folder.resolve("f.gguf"), "qwen2", 4, TARGETS);
    Object[] mismatch = { "eval", quantized + "+" + foreign };
    String error = Attar.run(Stream.of(mismatch, options).flatMap(Stream::of).toArray()).error(Main.FAILURE);
    assertEquals(foreign + ": general.architecture: found qwen2, expected llama as " + quantized + " has it", error);
    Object[] missing = { "bench", quantized, quantized + "+" + folder.resolve("none.gguf") };
    error = Attar.run(Stream.of(missing, options).flatMap(Stream::of).toArray()).error(Main.FAILURE);
    assertTrue(error.startsWith(folder.resolve("none.gguf") + ": no such adapter"), error);
  }

  @Test
  void whatCannotBeIsOneLine() throws IOException {
    Path adapter = TestModels.adapter(folder.resolve("a.gguf"), "llama", 4, TARGETS);
    Path small = TestModels.small(folder.resolve("small.gguf"));
    String error = Attar.run("merge", small, adapter, "-o", folder.resolve("x.gguf")).error(Main.FAILURE);
    assertEquals(adapter + ": tensor blk.0.attn_q.weight.lora_b: 256 rows, expected 32 as " + small + " has it", error);
    error = Attar.run("merge", TestModels.SAMPLE, adapter, "--lora", adapter).error(Main.USAGE);
    assertTrue(error.startsWith(adapter + " is given twice"), error);
    error = Attar.run("merge", TestModels.SAMPLE, adapter, "-o", adapter, "--overwrite").error(Main.FAILURE);
    assertEquals(adapter + ": is read by this command, give the output another name", error);
    error = Attar.run("merge", small, adapter, "-o", folder.resolve("tuned")).error(Main.USAGE);
    assertTrue(error.startsWith("a Hugging Face folder is made of a Hugging Face model only, " + small), error);
    assertEquals(List.of(adapter, small), files());
  }

  @ParameterizedTest
  @CsvSource(
    delimiter = '|',
    value = {
      "''                                | no adapter given",
      "--lora-scaled a.gguf              | 'a.gguf' has no scale, expected ADAPTER:SCALE",
      "--lora-scaled a.gguf:x            | the scale 'x' of 'a.gguf:x' is no number",
      "--lora-scaled a.gguf:NaN          | the scale 'NaN' of 'a.gguf:NaN' is no number",
      "a.gguf --pure                     | --pure needs --type",
      "a.gguf -t IQ2_XS                  | --type IQ2_XS needs an importance matrix: merge first",
      "a.gguf -t Q4_0 --allow-requantize | attar merge takes quantized models with a warning",
      "a.gguf -t Q4_0 -o folder          | --type is for a GGUF file, folder is a Hugging Face folder"
    }
  )
  void wrongOptionsAreOneLine(String words, String expected) {
    String error = Attar.run(("merge m.gguf " + words).strip().split(" +")).error(Main.USAGE);
    assertTrue(error.contains(expected), error);
    assertTrue(error.endsWith("(try 'attar merge --help')"), error);
  }
}
