package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
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

/** Command lines that make no sense, and files that are not what they should be: one line, the right exit code, no output. */
class CommandLineTest {

  @TempDir
  private Path folder;

  @ParameterizedTest
  @CsvSource(
    delimiter = '|',
    value = {
      "''                                     | no command, expected one of convert, quantize, inspect, completion (try 'attar --help')",
      "quantise                               | unknown command 'quantise', did you mean quantize",
      "--jsno                                 | unknown option '--jsno'",
      "quantize a.gguf                        | missing required option: '--type=TYPE' (try 'attar quantize --help')",
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
      "completion x                           | unexpected argument 'x'"
    }
  )
  void usage(String line, String message) {
    String error = Attar.run((Object[]) words(line)).error(Main.USAGE);
    assertTrue(error.contains(message), error);
    assertTrue(error.endsWith("--help')"), error);
  }

  private static String[] words(String line) {
    return line.isBlank() ? new String[0] : line.strip().split(" +");
  }

  @Test
  void missingModel() {
    Path missing = folder.resolve("missing.gguf");
    String message = missing + ": no such file or folder, expected ";
    for (Object[] line : new Object[][] {
      { "quantize", missing, "-t", "q8_0" },
      { "convert", missing },
      { "inspect", missing }
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
    for (String command : List.of("convert", "quantize", "inspect", "completion")) {
      Attar.Result help = Attar.run(command, "--help").expect(0);
      assertTrue(help.out().startsWith("Usage: attar " + command), help.out());
      assertEquals("", help.err());
      assertTrue(Attar.run("--help").expect(0).out().contains("\n  " + command));
    }
  }

  @Test
  void completionKnowsCommandsAndOptions() {
    String script = Attar.run("completion").expect(0).out();
    assertTrue(script.contains("--leave-output-tensor"), script);
    assertFalse(script.isBlank());
  }

  private List<Path> files() throws IOException {
    try (Stream<Path> all = Files.list(folder)) {
      return all.sorted().toList();
    }
  }
}
