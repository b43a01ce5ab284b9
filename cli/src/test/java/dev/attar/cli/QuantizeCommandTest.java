package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorType;
import dev.attar.formats.gguf.GgufModel;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class QuantizeCommandTest {

  @TempDir
  private Path folder;

  @Test
  void quantizesTheSample() throws IOException {
    Path out = folder.resolve("sample-q4_k_m.gguf");
    Attar.Result result = Attar.run("quantize", TestModels.SAMPLE, "-t", "Q4_K_M", "-o", out, "--threads", 3).expect(0);
    assertEquals("", result.err());
    assertTrue(result.out().startsWith(out + ": "), result.out());
    Map<TensorType, Long> types = types(out);
    assertEquals(Map.of(TensorType.F32, 9L, TensorType.Q4_K, 24L, TensorType.Q6_K, 5L), types);
    String inspected = Attar.run("inspect", out).expect(0).out();
    assertTrue(inspected.contains("attar.quantize.type"), inspected);
  }

  @Test
  void importanceAndPureChangeTheBytesOnly() throws IOException {
    Path plain = folder.resolve("plain.gguf");
    Path weighted = folder.resolve("weighted.gguf");
    Attar.run("quantize", TestModels.SAMPLE, "-t", "q4_k", "--pure", "-o", plain).expect(0);
    Path matrix = TestModels.SAMPLE.resolve("imatrix.gguf");
    Attar.Result result = Attar.run(
      "quantize",
      TestModels.SAMPLE,
      "-t",
      "q4_k",
      "--pure",
      "--imatrix",
      matrix,
      "-o",
      weighted
    ).expect(0);
    // The matrix has nothing for the embeddings, which the sample uses as the head as well.
    assertTrue(
      result.err().contains("warning: 1 tensor has no importance in the matrix: token_embd.weight"),
      result.err()
    );
    assertEquals(types(plain), types(weighted));
    assertFalse(Arrays.equals(Files.readAllBytes(plain), Files.readAllBytes(weighted)));
  }

  @Test
  void optionsForTensors() throws IOException {
    Path model = TestModels.small(folder.resolve("model.gguf"));
    Path out = folder.resolve("out.gguf");
    Attar.run("quantize", model, "-t", "q4_0", "--tensor-type", "attn_q=q5_1", "-o", out).expect(0);
    assertEquals(Map.of(TensorType.F32, 1L, TensorType.Q4_0, 1L, TensorType.Q5_1, 1L), types(out));
  }

  @Test
  void aTypeThatDoesNotFitIsReplacedAndToldOf() throws IOException {
    Path model = TestModels.small(folder.resolve("model.gguf"));
    Path out = folder.resolve("out.gguf");
    Attar.Result result = Attar.run("quantize", model, "-t", "q4_k_s", "-o", out).expect(0);
    assertTrue(
      result.err().startsWith("attar: warning: 1 tensor has another type than wanted: blk.0.attn_k"),
      result.err()
    );
    Attar.Result quiet = Attar.run("quantize", model, "-t", "q4_k_s", "-o", out, "--overwrite", "--quiet").expect(0);
    assertEquals("", quiet.out() + quiet.err());
  }

  @Test
  void dryRunWritesNothingAndTellsTheSize() throws IOException {
    Path out = folder.resolve("out.gguf");
    Attar.Result dry = Attar.run("quantize", TestModels.SAMPLE, "-t", "q3_k_m", "-o", out, "--dry-run", "--json");
    JsonNode plan = new ObjectMapper().readTree(dry.expect(0).out());
    assertFalse(Files.exists(out));
    Attar.run("quantize", TestModels.SAMPLE, "-t", "q3_k_m", "-o", out).expect(0);
    assertEquals(plan.get("file_bytes").longValue(), Files.size(out));
    Map<String, String> planned = new TreeMap<>();
    plan.get("tensors").forEach(t -> planned.put(t.get("name").textValue(), t.get("to").textValue()));
    try (GgufModel model = GgufModel.open(out)) {
      assertEquals(model.tensors().size(), planned.size());
      model.tensors().forEach(t -> assertEquals(planned.get(t.info().name()), t.info().type().name()));
    }
    String table = Attar.run("quantize", TestModels.SAMPLE, "-t", "q3_k_m", "--dry-run").expect(0).out();
    assertTrue(table.contains("(" + Files.size(out) + " bytes)"), table);
  }

  @Test
  void jsonIsAloneOnStandardOutput() throws IOException {
    Path model = TestModels.small(folder.resolve("model.gguf"));
    Path out = folder.resolve("out.gguf");
    Attar.Result result = Attar.run("quantize", model, "-t", "int8", "-o", out, "--json").expect(0);
    JsonNode json = new ObjectMapper().readTree(result.out());
    assertEquals("Q8_0", json.get("type").textValue());
    assertEquals(out.toString(), json.get("output").textValue());
    assertEquals(Files.size(out), json.get("file_bytes").longValue());
    assertEquals(2, json.get("types").get("Q8_0").get("tensors").intValue());
    assertTrue(result.err().startsWith(out + ": "), result.err());
  }

  @Test
  void anExistingOutputIsKept() throws IOException {
    Path model = TestModels.small(folder.resolve("model.gguf"));
    Path out = Files.writeString(folder.resolve("out.gguf"), "precious");
    String error = Attar.run("quantize", model, "-t", "q8_0", "-o", out).error(Main.FAILURE);
    assertTrue(error.contains("--overwrite"), error);
    assertEquals("precious", Files.readString(out));
    Attar.run("quantize", model, "-t", "q8_0", "-o", out, "--overwrite").expect(0);
    assertEquals(Map.of(TensorType.F32, 1L, TensorType.Q8_0, 2L), types(out));
  }

  @Test
  void whatIsReadIsNeverOverwritten() throws IOException {
    Path model = TestModels.small(folder.resolve("model.gguf"));
    Path link = Files.createLink(folder.resolve("link.gguf"), model);
    byte[] before = Files.readAllBytes(model);
    for (Path out : List.of(model, link)) {
      String error = Attar.run("quantize", model, "-t", "q8_0", "-o", out, "--overwrite").error(Main.FAILURE);
      assertTrue(error.contains("is read by this command"), error);
      assertArrayEquals(before, Files.readAllBytes(model));
    }
    Path checkpoint = Files.createDirectory(folder.resolve("checkpoint"));
    for (String name : List.of("config.json", "model.safetensors", "tokenizer.model", "tokenizer_config.json")) {
      Files.copy(TestModels.SAMPLE.resolve(name), checkpoint.resolve(name));
    }
    for (String command : List.of("quantize -t q8_0", "convert")) {
      for (String name : List.of("config.json", "model.safetensors", "tokenizer.model")) {
        List<Object> words = new ArrayList<>(List.of(command.split(" ")));
        words.addAll(List.of(checkpoint, "-o", checkpoint.resolve(name), "--overwrite"));
        String error = Attar.run(words.toArray()).error(Main.FAILURE);
        assertTrue(error.contains("is read by this command"), error);
      }
    }
    Path matrix = Files.copy(TestModels.SAMPLE.resolve("imatrix.gguf"), folder.resolve("imatrix.gguf"));
    Attar.run("quantize", checkpoint, "-t", "q8_0", "--imatrix", matrix, "-o", matrix, "--overwrite").error(
      Main.FAILURE
    );
    Attar.run("quantize", checkpoint, "-t", "q8_0", "-o", checkpoint.resolve("out.gguf"), "--quiet").expect(0);
    Attar.run("quantize", checkpoint, "-t", "q8_0", "-o", checkpoint.resolve("out.gguf"), "--overwrite").expect(0);
  }

  @Test
  void warnsOfOptionsWithoutEffect() throws IOException {
    Path model = TestModels.small(folder.resolve("model.gguf"));
    String err = Attar.run(
      "quantize",
      model,
      "-t",
      "q4_0",
      "--dry-run",
      "--leave-output-tensor",
      "--tensor-type",
      "attn_q=q8_0",
      "--tensor-type",
      "atn_q=q8_0"
    )
      .expect(0)
      .err();
    assertTrue(err.contains("--tensor-type atn_q=q8_0 has no effect"), err);
    assertFalse(err.contains("--tensor-type attn_q=q8_0 has no effect"), err);
    assertTrue(err.contains("--leave-output-tensor has no effect"), err);
  }

  @Test
  void moreThreadsGiveTheSameFile() throws IOException {
    Path one = folder.resolve("one.gguf");
    Path many = folder.resolve("many.gguf");
    Attar.run("quantize", TestModels.SAMPLE, "-t", "q8_0", "-o", one, "--threads", 1).expect(0);
    Attar.run("quantize", TestModels.SAMPLE, "-t", "q8_0", "-o", many, "--threads", 7).expect(0);
    assertArrayEquals(Files.readAllBytes(one), Files.readAllBytes(many));
  }

  @Test
  void listsTheTypes() throws IOException {
    String list = Attar.run("quantize", "-t", "list").expect(0).out();
    assertTrue(list.matches("(?s).*  Q4_K_M +4\\.50  .*  IQ1_S +1\\.56  .*"), list);
    JsonNode json = new ObjectMapper().readTree(Attar.run("quantize", "-t", "list", "--json").expect(0).out());
    assertEquals("F32", json.get(0).get("name").textValue());
  }

  @Test
  void namesTheOutputAfterTheModel() {
    assertEquals(Path.of("tale-q4_k_m.gguf"), ModelArgument.outputName(Path.of("x/tale-BF16.gguf"), "q4_k_m"));
    assertEquals(Path.of("big-q8_0.gguf"), ModelArgument.outputName(Path.of("big-00001-of-00003.gguf"), "q8_0"));
    assertEquals(Path.of("sample-q2_k.gguf"), ModelArgument.outputName(TestModels.SAMPLE, "q2_k"));
    Path file = TestModels.SAMPLE.resolve("model.safetensors");
    assertEquals(Path.of("sample-q2_k.gguf"), ModelArgument.outputName(file, "q2_k"));
  }

  private static Map<TensorType, Long> types(Path file) throws IOException {
    try (GgufModel model = GgufModel.open(file)) {
      return model
        .tensors()
        .stream()
        .map(Tensor::info)
        .collect(Collectors.groupingBy(t -> t.type(), Collectors.counting()));
    }
  }
}
