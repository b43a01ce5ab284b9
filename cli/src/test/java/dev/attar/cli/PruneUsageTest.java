package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

/** Command lines of {@code prune} that make no sense, and outputs that cannot be. */
class PruneUsageTest {

  @TempDir
  private Path folder;

  @ParameterizedTest
  @CsvSource(
    delimiter = '|',
    value = {
      "                                     | nothing to remove, expected --structure ffn, heads or layers, or --method magnitude",
      "--structure ffn --method wanda       | --structure and --method exclude each other",
      "--structure neurons                  | 'neurons'",
      "--method awq                         | 'awq'",
      "--method wanda                       | --method needs how much to remove, expected --sparsity 0.5 or 2:4",
      "--method wanda --sparsity 0.5        | --method wanda needs a text, expected --calibration TEXT",
      "--method sparsegpt --sparsity 2:4    | --method sparsegpt needs a text, expected --calibration TEXT",
      "--method magnitude --sparsity 1      | a sparsity of 1, expected above 0 and below 1",
      "--method magnitude --sparsity 0      | a sparsity of 0, expected above 0 and below 1",
      "--method magnitude --sparsity half   | 'half' is no sparsity, expected a part, 0.5, or a pattern, 2:4",
      "--method magnitude --sparsity 2:3    | a pattern of 2:3, expected N:M with M a power of two up to 32",
      "--method magnitude --sparsity 4:4    | a pattern of 4:4, expected 1 to 3 of 4 left",
      "--method magnitude --sparsity 0:4    | a pattern of 0:4, expected 1 to 3 of 4 left",
      "--method wanda --sparsity 0.5 --per row --calibration t | --per needs --method magnitude",
      "--method magnitude --sparsity 2:4 --per row | --per and a pattern, --sparsity 2:4, exclude each other",
      "--method magnitude --sparsity 0.5 --ratio 0.5 | --ratio needs --structure",
      "--method magnitude --sparsity 0.5 --no-refit --non-uniform --multiple-of 8 | --non-uniform, --no-refit, --multiple-of need --structure",
      "--method magnitude --sparsity 0.5 --ctx 64 | --ctx needs a --calibration text",
      "--method magnitude --sparsity 0.5 --pure | --pure needs --type",
      "--method magnitude --sparsity 0.5 -t q4_k | --type q4_k is done by GPTQ, which needs a text",
      "--method magnitude --sparsity 0.5 -t q9 | unknown type 'q9'",
      "--method magnitude --sparsity 0.5 --max-memory 3G --resume | --max-memory, --resume need --method wanda or sparsegpt, or --type",
      "--method magnitude --sparsity 0.5 --damping 0.1 | --damping needs --method sparsegpt or --type",
      "--method sparsegpt --sparsity 0.5 --calibration t --effort 1 | --effort needs --type",
      "--method wanda --sparsity 0.5 --calibration t --no-sequential | --no-sequential needs --method sparsegpt or --type",
      "--method wanda --sparsity 0.5 --calibration t --resume | --resume needs --method sparsegpt or --type",
      "--method wanda --sparsity 0.5 -t Q4_K -o a.gguf --calibration t --resume --overwrite | --resume and --overwrite exclude each other",
      "--method wanda --sparsity 0.5 -t Q4_K --calibration t --allow-requantize | --allow-requantize is for attar quantize",
      "--structure ffn --ratio 0.5 -t IQ2_XS --calibration t | --type IQ2_XS needs an importance matrix: prune first",
      "--method magnitude --sparsity 0.5 --dry-run | --dry-run needs --structure",
      "--structure ffn                      | --structure needs how much to remove, expected --ratio R, --target-size SIZE or --target-speed X",
      "--structure ffn --ratio 0.25         | --structure needs a text to calibrate on, expected --calibration TEXT",
      "--structure ffn --ratio 0 --calibration t | '--ratio': 0.0, expected above 0 and below 1",
      "--structure ffn --ratio 1 --calibration t | '--ratio': 1.0, expected above 0 and below 1",
      "--structure ffn --ratio NaN --calibration t | '--ratio': NaN, expected above 0 and below 1",
      "--structure ffn --ratio x --calibration t | 'x' is no number",
      "--structure ffn --ratio 0.5 --target-size 1M --target-speed 2 | --ratio, --target-size and --target-speed exclude each other",
      "--structure ffn --target-size 0 --calibration t | '--target-size': 0, expected a size of 1 byte or more",
      "--structure ffn --target-speed 1x --calibration t | '--target-speed': 1.0, expected above 1",
      "--structure ffn --target-speed y --calibration t | 'y' is no number",
      "--structure ffn --ratio 0.5 --sparsity 0.5 | --sparsity needs --method",
      "--structure ffn --ratio 0.5 --per row | --per needs --method",
      "--structure ffn --ratio 0.5 --calibration t --effort 1 --no-sequential --resume | --effort, --no-sequential, --resume need --method",
      "--structure ffn --ratio 0.5 --calibration t --multiple-of 0 | '--multiple-of': 0, expected 1 to 1048576",
      "--structure ffn --ratio 0.5 --calibration t --damping 0 | '--damping': 0.0, expected above 0",
      "--structure ffn --ratio 0.5 --calibration t --max-memory 0 | '--max-memory': 0, expected a size",
      "--structure heads --ratio 0.5 --calibration t --multiple-of 2 | --multiple-of needs --structure ffn",
      "--structure layers --ratio 0.5 --calibration t --non-uniform | --non-uniform needs --structure ffn or heads",
      "--structure layers --ratio 0.5 --calibration t --no-refit | --no-refit needs --structure ffn or heads",
      "--structure ffn --ratio 0.5 --calibration t -o folder -t q8_0 | --type is for a GGUF file, folder is a Hugging Face folder: expected an output named *.gguf",
      "--structure ffn --ratio 0.5 --calibration t -o folder --non-uniform | --non-uniform is for a GGUF file"
    }
  )
  void usage(String options, String message) {
    String words = options == null ? "" : options;
    String error = Attar.run(("prune a.gguf " + words).strip().split(" +")).error(Main.USAGE);
    assertTrue(error.contains(message), error);
    assertTrue(error.endsWith("(try 'attar prune --help')"), error);
  }

  @Test
  void onlyACheckpointBecomesAFolder() throws IOException {
    Path model = TestModels.small(folder.resolve("model.gguf"));
    Object[] line = { "prune", model, "--method", "magnitude", "--sparsity", 0.5, "-o", folder.resolve("student") };
    String error = Attar.run(line).error(Main.USAGE);
    assertTrue(error.startsWith("a Hugging Face folder is made of a Hugging Face model only, " + model), error);
  }

  @Test
  void outputsThatCannotBeAreToldBeforeAnyWork() throws IOException {
    Path file = Files.writeString(folder.resolve("file"), "precious");
    Path full = Files.createDirectory(folder.resolve("full"));
    Files.writeString(full.resolve("notes"), "precious");
    Path gguf = Files.writeString(folder.resolve("out.gguf"), "precious");
    List<Path> before = files();
    assertEquals(file + ": is a file, expected the name of a folder to write", prune(file));
    assertEquals(full + ": already exists, use --overwrite to replace it", prune(full));
    assertEquals(gguf + ": already exists, use --overwrite to replace it", prune(gguf));
    assertTrue(prune(folder.resolve("none/out")).contains("none does not exist"));
    assertTrue(prune(TestModels.SAMPLE, "--overwrite").startsWith(TestModels.SAMPLE + ": holds "));
    assertTrue(prune(full, "--overwrite").startsWith(full + ": is neither empty nor a checkpoint"));
    assertEquals(before, files());
  }

  private static String prune(Path out, Object... more) {
    Stream<Object> line = Stream.of("prune", TestModels.SAMPLE, "--method", "magnitude", "--sparsity", 0.5, "-o", out);
    return Attar.run(Stream.concat(line, Stream.of(more)).toArray()).error(Main.FAILURE);
  }

  private List<Path> files() throws IOException {
    try (Stream<Path> all = Files.list(folder)) {
      return all.sorted().toList();
    }
  }
}
