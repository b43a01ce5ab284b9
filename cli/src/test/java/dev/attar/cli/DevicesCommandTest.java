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
import java.util.List;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/** {@code devices}, and {@code --device} of the other commands, where CUDA cannot be used. */
@EnabledOnOs(value = OS.LINUX, architectures = "amd64")
class DevicesCommandTest {

  @TempDir
  private Path folder;

  private Path missing;
  private String problem;

  @BeforeEach
  void name() {
    missing = folder.resolve("missing");
    problem = "ATTAR_CUDA_LIB: " + missing + " is no folder, expected the one with CUDA's libraries";
  }

  /** Runs where CUDA cannot be used, whatever machine this is. */
  private Attar.Result run(Object... args) throws IOException, InterruptedException {
    ProcessBuilder builder = new ProcessBuilder(Attar.childCommand(args));
    builder.environment().put("ATTAR_CUDA_LIB", missing.toString());
    return Attar.await(builder.start());
  }

  private Attar.Result gptq(Object... more) throws IOException, InterruptedException {
    List<Object> line = new ArrayList<>(List.of("quantize", TestModels.SAMPLE, "-t", "Q4_0", "--method", "gptq"));
    line.addAll(TestModels.SHORT_CALIBRATION);
    line.addAll(TestModels.DOWN_ONLY);
    line.addAll(List.of("-o", folder.resolve("out.gguf"), "--effort", 0, "--no-sequential"));
    line.addAll(List.of(more));
    return run(line.toArray());
  }

  @Test
  void saysWhatIsThereAndWhyNot() throws IOException, InterruptedException {
    Attar.Result result = run("devices").expect(0);
    assertEquals("", result.err());
    assertTrue(
      result.out().matches("(?s)  cpu   \\S.*\n        .* of memory, .* available\n        cpu \\(.*"),
      result.out()
    );
    assertTrue(result.out().contains("\n  cuda  not available: " + problem + "\n"), result.out());
    JsonNode json = new ObjectMapper().readTree(run("devices", "--json").expect(0).out());
    assertTrue(json.get("cpu").get("memory_bytes").longValue() > 0, json::toString);
    assertTrue(json.get("cpu").get("device").textValue().startsWith("cpu ("), json::toString);
    assertEquals(0, json.get("gpus").size());
    assertFalse(json.get("cuda").get("available").booleanValue());
    assertEquals(problem, json.get("cuda").get("problem").textValue());
    assertEquals("cpu", json.get("auto").textValue());
  }

  @Test
  void withoutTheDeviceThatIsAskedForNothingIsBegun() throws IOException, InterruptedException {
    Path out = folder.resolve("out.gguf");
    assertEquals(problem, gptq("--device", "cuda").error(Main.FAILURE));
    assertEquals(problem, gptq("--device", "cuda", "--dry-run").error(Main.FAILURE));
    Object[] rounding = { "quantize", TestModels.SAMPLE, "-t", "Q4_0", "--device", "CUDA", "-o", out };
    assertEquals(problem, run(rounding).error(Main.FAILURE));
    Object[] bench = { "bench", TestModels.SAMPLE, "--types", "Q4_0", "--text", TestModels.TEXT, "--device", "cuda" };
    assertEquals(problem, run(bench).error(Main.FAILURE));
    assertFalse(Files.exists(out));
  }

  @Test
  void autoSaysWhatItChose() throws IOException, InterruptedException {
    Attar.Result result = gptq().expect(0);
    List<String> lines = result
      .err()
      .lines()
      .filter(line -> line.startsWith("attar: device: "))
      .toList();
    assertEquals(1, lines.size(), result.err());
    assertTrue(lines.getFirst().startsWith("attar: device: cpu (OpenBLAS "), result.err());
    assertTrue(lines.getFirst().endsWith("), since " + problem), result.err());
    assertFalse(gptq("--device", "cpu", "--overwrite").expect(0).err().contains("since"));
    assertEquals("", gptq("--quiet", "--overwrite").expect(0).err());
    // Nothing is computed there by a device.
    Path rounded = folder.resolve("rounded.gguf");
    result = run("quantize", TestModels.SAMPLE, "-t", "Q4_0", "-o", rounded).expect(0);
    assertFalse(result.err().contains("device"), result.err());
  }
}
