package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

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

/** Command lines that make no sense, and files that are not what they should be: one line, the right exit code, no output. */
class CommandLineTest {

  @TempDir
  private Path folder;

  @ParameterizedTest
  @CsvSource(
    delimiter = '|',
    value = {
      "''                                     | no command, expected one of convert, quantize, prune, lowrank, merge, distill, imatrix, inspect, eval, bench, devices, completion (try 'attar --help')",
      "quantise                               | unknown command 'quantise', did you mean quantize",
      "--jsno                                 | unknown option '--jsno'",
      "quantize a.gguf                        | no type given, expected --type TYPE, --target-size SIZE or --target-bpw X (try",
      "quantize -t q8_0                       | no model given",
      "quantize a.gguf b.gguf -t q8_0         | unexpected argument 'b.gguf'",
      "quantize a.gguf -t q9                  | unknown type 'q9', known with their bits per weight are F32 (32.00), F16",
      "quantize a.gguf -t q8_0 -t q4_0        | option '--type' (TYPE) should be specified only once",
      "quantize a.gguf -t q8_0 --threads 0    | invalid value for option '--threads': 0, expected 1 to 1024",
      "quantize a.gguf -t q8_0 --threads two  | invalid value for option '--threads': 'two' is not an int",
      "quantize a.gguf -t q8_0 --overwrit     | unknown option '--overwrit', did you mean --overwrite",
      "quantize a.gguf -t q8_0 --tensor-type x | expected REGEX=TYPE",
      "quantize a.gguf -t q8_0 --tensor-type (=q8_0 | not a regular expression",
      "quantize a.gguf -t q8_0 --output-tensor-type q9 | unknown tensor type 'q9', expected one of F32, F16",
      "convert a.gguf --outtype q4_0          | 'q4_0'",
      "convert                                | no model given",
      "inspect                                | no model given",
      "inspect a b                            | unexpected argument 'b'",
      "completion x                           | unexpected argument 'x'",
      "quantize a.gguf -t q8_0 -o ''          | option '--output': an empty name, expected the name of a file",
      "quantize a.gguf -t q8_0 --method awq  | 'awq'",
      "quantize a.gguf -t q8_0 --method gptq | --method gptq needs a text to calibrate on, expected --calibration TEXT",
      "quantize a.gguf -t q8_0 --effort 2 --damping 0.1 | --effort, --damping need --method gptq",
      "quantize a.gguf -t q8_0 --calibration t --no-sequential | --no-sequential needs --method gptq",
      "quantize a.gguf -t q8_0 --max-memory 3G --resume | --max-memory, --resume need --method gptq, --target-size or --target-bpw (",
      "quantize a.gguf -t q8_0 --max-memory 3G --effort 1 | --effort needs --method gptq (",
      "quantize a.gguf -t q8_0 --ctx 64       | --ctx needs a --calibration text",
      "quantize a.gguf -t q8_0 --calibration t --imatrix m | --imatrix and --calibration exclude each other",
      "quantize a.gguf -t q8_0 --calibration t --calibration-tokens 0 | '--calibration-tokens': 0, expected 1 to",
      "quantize a.gguf -t q8_0 --calibration t --calibration-tokens 511 | '--calibration-tokens': 511, expected at least a window, --ctx 512",
      "quantize a.gguf --target-bpw 4 --calibration t --calibration-tokens 64 --ctx 65 | 64, expected at least a window, --ctx 65",
      "quantize a.gguf -t q8_0 --calibration t --ctx 65537 | '--calibration-tokens': 65536, expected at least a window, --ctx 65537",
      "quantize a.gguf -t q8_0 --calibration t --ctx 1 | invalid value for option '--ctx': 1, expected 2 to 1048576",
      "quantize a.gguf -t q8_0 --calibration t --timeout 0 | invalid value for option '--timeout': 0, expected 1 or more",
      "quantize a.gguf -t q8_0 --method gptq --calibration t --effort 4 | '--effort': 4, expected 0 to 3",
      "quantize a.gguf -t q8_0 --method gptq --calibration t --damping 0 | '--damping': 0.0, expected above 0",
      "quantize a.gguf -t q8_0 --method gptq --calibration t --damping abc | '--damping': 'abc' is no number, expected a number above 0",
      "quantize a.gguf -t q8_0 --method gptq --calibration t --max-memory 0 | '--max-memory': 0, expected a size of 1 byte or more",
      "quantize a.gguf --target-bpw 4 --calibration t --max-memory 0M | '--max-memory': 0M, expected a size of 1 byte or more",
      "bench a.gguf --types gptq:q8_0 --calibration t --max-memory 0 | '--max-memory': 0, expected a size of 1 byte or more",
      "quantize a.gguf -t q8_0 --method gptq --calibration t --max-memory 3GB | '3GB' is no size",
      "quantize a.gguf -t q8_0 --method gptq --calibration t --resume --overwrite | --resume and --overwrite exclude",
      "quantize a.gguf -t q8_0 --target-bpw 4 | --type and --target-bpw exclude each other",
      "quantize a.gguf -t q8_0 --target-size 1M --target-bpw 4 | --type, --target-size and --target-bpw exclude each other",
      "quantize a.gguf --target-bpw 4 --target-size 1M --calibration t | --target-size and --target-bpw exclude each other",
      "quantize a.gguf --target-bpw 4 --calibration t --pure | --target-bpw and --pure exclude each other",
      "quantize a.gguf --target-bpw 4         | --target-bpw needs a text to measure losses on, expected --calibration TEXT",
      "quantize a.gguf --target-size 1M --imatrix m | --target-size needs a text to measure losses on",
      "quantize a.gguf --target-size 1MB --calibration t | '1MB' is no size, expected a form of 1500M or 3G",
      "quantize a.gguf --target-size 0 --calibration t | invalid value for option '--target-size': 0, expected a size of 1 byte or more",
      "quantize a.gguf --target-bpw 0 --calibration t | '--target-bpw': 0.0, expected above 0 and at most 64",
      "quantize a.gguf --target-bpw NaN --calibration t | '--target-bpw': NaN, expected above 0",
      "quantize a.gguf --target-bpw x --calibration t | invalid value for option '--target-bpw': 'x' is no number, expected a number above 0",
      "quantize a.gguf --target-bpw 4 --calibration t --effort 1 | --effort needs --method gptq",
      "quantize a.gguf --target-bpw 4 --calibration t --resume --overwrite | --resume and --overwrite exclude",
      "imatrix                                | missing required option: '--output=OUT.gguf'",
      "imatrix -o b.gguf --calibration t      | no model given",
      "imatrix a.gguf -o b.gguf               | no text given, expected --calibration TEXT",
      "imatrix a.gguf -o b.gguf --calibration t --calibration-tokens 99 --ctx 100 | 99, expected at least a window, --ctx 100",
      "bench a.gguf --types imatrix:q4_0 --calibration t --calibration-tokens 99 --ctx 100 | 99, expected at least a window, --ctx 100",
      "bench a.gguf --types gptq:q4_0         | Q4_0 (gptq) needs a text to calibrate on, expected --calibration TEXT",
      "bench a.gguf --types gptq:q9           | unknown type 'q9', known with",
      "bench a.gguf --types gptq:q4_0,GPTQ:Q4_0 --calibration t | --types has gptq:Q4_0 twice",
      "bench a.gguf --types q4_0 --calibration t | --calibration needs types gptq:TYPE or imatrix:TYPE",
      "bench a.gguf --types q4_0 --calibration-tokens 64 | --calibration-tokens needs a --calibration text",
      "bench a.gguf --types imatrix:q4_0 --calibration t --effort 1 | --effort needs types gptq:TYPE",
      "bench a.gguf b.gguf --pure --tensor-type a=q8_0 | --pure, --tensor-type need --types",
      "inspect ''                             | an empty name, expected the name of a file or folder",
      "eval                                   | no model given",
      "eval a.gguf b.gguf                     | unexpected argument 'b.gguf'",
      "eval a.gguf --tex t.txt                | unknown option '--tex', did you mean --text",
      "eval a.gguf --text                     | '--text' (FILE)",
      "eval a.gguf --text ''                  | option '--text': an empty name",
      "eval a.gguf --no-latency               | nothing to measure, expected a --text, or --pp or --tg above 0",
      "eval a.gguf --pp 0 --tg 0              | nothing to measure",
      "eval a.gguf --ctx 256                  | --ctx needs a --text",
      "eval a.gguf --chunks 2                 | --chunks needs a --text",
      "eval a.gguf --text t --ctx 3           | invalid value for option '--ctx': 3, expected 4 to 1048576",
      "eval a.gguf --text t --chunks 0        | invalid value for option '--chunks': 0, expected 1 or more",
      "eval a.gguf --pp -1                    | invalid value for option '--pp': -1, expected 0 to 1048576",
      "eval a.gguf --pp 512,x                 | invalid value for option '--pp' (N): 'x' is not an int",
      "eval a.gguf --tg 1048577               | invalid value for option '--tg': 1048577, expected 0 to",
      "eval a.gguf --threads 4,0              | invalid value for option '--threads': 0, expected 1 to 512",
      "eval a.gguf -r 0                       | invalid value for option '--repetitions': 0, expected 1 to 1000",
      "eval a.gguf --timeout 0                | invalid value for option '--timeout': 0, expected 1 or more",
      "eval a.gguf -ngl -1                    | invalid value for option '--gpu-layers': -1, expected 0 to",
      "eval a.gguf --text t --no-latency --pp 8 | --pp and --no-latency exclude each other",
      "eval a.gguf --text t --no-latency -r 2 | --repetitions and --no-latency exclude each other",
      "eval a.gguf --imatrix m                | --imatrix weighs the errors of tensors, which are not to be measured",
      "eval a.gguf --csv                      | unknown option '--csv'",
      "eval a.gguf --types q8_0               | unknown option '--types'",
      "devices x                              | unexpected argument 'x'",
      "quantize m -t q4_0 --device gpu        | invalid value for option '--device': expected one of [AUTO, CPU, CUDA]",
      "bench                                  | no model given, expected a base and its variants, or a base and --types",
      "bench --types q8_0                     | no model given",
      "bench a.gguf                           | no variant of a.gguf given, expected models or --types",
      "bench a.gguf --types q9                | unknown type 'q9', known with their bits per weight are F32 (32.00), F16",
      "bench a.gguf --types awq:q4_0          | COPY, each also with gptq: or imatrix: before it",
      "bench a.gguf --types q8_0,,q4_0        | unknown type ''",
      "bench a.gguf --types q4_k,q4_k_m       | --types has Q4_K_M twice",
      "bench a.gguf b.gguf --allow-requantize | --allow-requantize needs --types",
      "bench a.gguf b.gguf --json --csv       | --json, --csv and --markdown exclude each other",
      "bench a.gguf b.gguf --csv --markdown   | --json, --csv and --markdown exclude each other",
      "bench a.gguf b.gguf --no-latency --no-tensors | nothing to measure",
      "bench a.gguf b.gguf --no-tensors --imatrix m  | --imatrix weighs the errors of tensors",
      "bench a.gguf b.gguf -o out.html        | unknown option '-o'",
      "bench a.gguf b.gguf --report ''        | option '--report': an empty name"
    }
  )
  void usage(String line, String message) {
    String error = Attar.run((Object[]) words(line)).error(Main.USAGE);
    assertTrue(error.contains(message), error);
    assertTrue(error.endsWith("--help')"), error);
  }

  private static String[] words(String line) {
    return line.isBlank()
      ? new String[0]
      : Arrays.stream(line.strip().split(" +"))
          .map(word -> word.equals("''") ? "" : word)
          .toArray(String[]::new);
  }

  @Test
  void missingModel() {
    Path missing = folder.resolve("missing.gguf");
    String message = missing + ": no such file or folder, expected ";
    for (Object[] line : new Object[][] {
      { "quantize", missing, "-t", "q8_0" },
      { "convert", missing },
      { "imatrix", missing, "--calibration", missing, "-o", folder.resolve("out.gguf") },
      { "inspect", missing },
      { "eval", missing },
      { "bench", missing, "--types", "q8_0" },
      { "bench", TestModels.SAMPLE, missing },
      { "eval", TestModels.SAMPLE, "--base", missing }
    }) {
      String error = Attar.run(line).error(Main.FAILURE);
      assertTrue(error.startsWith(message), error);
    }
  }

  @Test
  void folderWithoutConfiguration() throws IOException {
    String error = Attar.run("inspect", folder).error(Main.FAILURE);
    assertTrue(error.startsWith(folder + ": a folder without config.json, expected "), error);
    TestModels.small(folder.resolve("model.gguf"));
    error = Attar.run("inspect", folder).error(Main.FAILURE);
    assertTrue(error.contains("name one of them, for instance 'model.gguf'"), error);
    Path file = Files.writeString(folder.resolve("model.bin"), "PK, as a PyTorch checkpoint begins");
    assertTrue(Attar.run("inspect", file).error(Main.FAILURE).startsWith(file + ": "));
  }

  @Test
  void namesWithControlCharactersStayOnOneLine() {
    String error = Attar.run("inspect", folder + "/a\nb\u001b").error(Main.FAILURE);
    assertTrue(error.contains("/a\\nb\\u001b: no such file"), error);
  }

  @Test
  void outputThatCannotBe() throws IOException {
    Path model = TestModels.small(folder.resolve("model.gguf"));
    List<Path> before = files();
    for (Path out : List.of(folder.resolve("none/out.gguf"), folder, model, model.resolve("out.gguf"))) {
      String error = Attar.run("quantize", model, "-t", "q8_0", "-o", out).error(Main.FAILURE);
      assertTrue(error.startsWith(out + ": "), error);
    }
    assertEquals(before, files());
  }

  @Test
  void stackTracesOnlyOnRequest() {
    Attar.Result verbose = Attar.run("inspect", "--verbose", folder.resolve("missing")).expect(Main.FAILURE);
    assertTrue(verbose.err().contains("\n\tat dev.attar.cli."), verbose.err());
  }

  @Test
  void helpAndVersion() {
    assertTrue(Attar.run("--version").expect(0).out().matches("attar \\d+\\.\\d+\\.\\d+\\S*\\R"));
    for (String command : List.of(
      "convert",
      "quantize",
      "prune",
      "lowrank",
      "merge",
      "distill",
      "imatrix",
      "inspect",
      "eval",
      "bench",
      "completion"
    )) {
      Attar.Result help = Attar.run(command, "--help").expect(0);
      assertTrue(help.out().startsWith("Usage: attar " + command), help.out());
      assertTrue(help.out().endsWith("\n"), help.out());
      assertEquals("", help.err());
      assertTrue(Attar.run("--help").expect(0).out().contains("\n  " + command));
    }
  }

  @Test
  void completionKnowsCommandsAndOptions() {
    String script = Attar.run("completion").expect(0).out();
    assertTrue(script.contains("--leave-output-tensor"), script);
    assertTrue(script.contains("--repetitions"), script);
    assertFalse(script.isBlank());
  }

  private List<Path> files() throws IOException {
    try (Stream<Path> all = Files.list(folder)) {
      return all.sorted().toList();
    }
  }
}
