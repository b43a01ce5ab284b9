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

/** Command lines of {@code lowrank} that make no sense, and models and outputs that cannot be. */
class LowRankUsageTest {

  @TempDir
  private Path folder;

  @ParameterizedTest
  @CsvSource(
    delimiter = '|',
    value = {
      "                                 | --form dense needs ranks, expected --ratio R, the part of the numbers that is kept, --rank N or --energy E",
      "--form sparse                    | 'sparse'",
      "--method wanda                   | unknown method 'wanda', expected svd or activation",
      "--ratio 0.5 --rank 3 --energy 1  | --ratio, --rank and --energy exclude each other",
      "--ratio 1                        | '--ratio': 1.0, expected above 0 and below 1, the part that is kept",
      "--ratio 0                        | '--ratio': 0.0, expected above 0",
      "--ratio NaN                      | '--ratio': NaN, expected above 0",
      "--energy 1.5                     | '--energy': 1.5, expected above 0 and below 1",
      "--rank 0                         | '--rank': 0, expected 1 to 16777216",
      "--ratio 0.5                      | --method activation needs a text to calibrate on, expected --calibration TEXT",
      "--ratio 0.5 --method svd --ctx 5 | --ctx needs a --calibration text",
      "--ratio 0.5 --base-type Q2_K --base-method gptq --adapter-type f16 | --base-type, --base-method, --adapter-type need --form adapter",
      "--ratio 0.5 --head-size 8 --head-ratio 0.5 --multiple-of 8 | --head-size, --head-ratio, --multiple-of need --form shrink",
      "--ratio 0.5 --method svd --pure  | --pure needs --type",
      "--ratio 0.5 --method svd --effort 1 --no-sequential | --effort, --no-sequential need --base-method gptq",
      "--ratio 0.5 --method svd --damping 0.1 | --damping needs --method activation",
      "--ratio 0.5 --calibration t --damping 2 | '--damping': 2.0, expected above 0 and at most 1",
      "--ratio 0.5 --method svd -t q4_k --allow-requantize | --allow-requantize is for --form adapter",
      "--ratio 0.5 --method svd -t q9   | unknown type 'q9'",
      "--ratio 0.5 --method svd -t IQ2_XS | --type IQ2_XS needs an importance matrix: factorize first",
      "--ratio 0.5 --method svd -o out  | out is no name of a GGUF file, expected an output named *.gguf",
      "--ratio 0.5 --method svd --chunks 3 --no-latency --report r.html | --chunks, --no-latency, --report need a --text to compare on",
      "--ratio 0.5 --method svd --text t | --text compares with plain quantization, which needs a text to measure losses on",
      "--ratio 0.5 --calibration t --text t --chunks 0 | '--chunks': 0, expected 1 or more",
      "--form adapter                   | --form adapter needs a base to correct, expected --base-type TYPE",
      "--form adapter --base-type Q2_K  | --form adapter needs the rank of the correction, expected --rank N",
      "--form adapter --base-type Q2_K --ratio 0.5 --energy 0.5 | --ratio, --energy need --form dense",
      "--form adapter --base-type Q2_K --rank 8 --head-size 8 | --head-size needs --form shrink",
      "--form adapter --base-type Q2_K --rank 8 -t Q2_K --calibration t | --type needs --form dense or shrink: the base's is --base-type",
      "--form adapter --base-type Q2_K --rank 8 --adapter-type q8_0 | --adapter-type q8_0 needs a rank that is a multiple of 32, found --rank 8: expected f16",
      "--form adapter --base-type Q2_K --rank 8 --adapter-type q4_k | '--adapter-type': Q4_K, expected q8_0 or f16",
      "--form adapter --base-type Q2_K --rank 8 --method svd --base-method gptq | --base-method gptq needs a text to calibrate on",
      "--form adapter --base-type BF16 --rank 8 --method svd | --base-type BF16 is no quantized type: there would be no error to correct",
      "--form adapter --base-type COPY --rank 8 --method svd | --base-type COPY is no quantized type",
      "--form shrink                    | --form shrink needs what is kept, expected --ratio R, a part of the neurons, --head-size N or --head-ratio R",
      "--form shrink --ratio 0.5        | --form shrink needs a text to calibrate on, expected --calibration TEXT",
      "--form shrink --ratio 0.5 --rank 8 --method svd | --rank needs --form dense or adapter",
      "--form shrink --ratio 0.5 --energy 0.9 --method svd | --method, --energy need --form dense",
      "--form dense --ratio 0.5 --rounds 2 --method svd | --rounds needs --form adapter",
      "--form adapter --base-type Q2_K --rank 8 --method svd --rounds 0 | '--rounds': 0, expected 1 to 100",
      "--form adapter --base-type Q2_K --rank 8 --base-method gptq --rounds 2 | --rounds above 1 needs --base-method rtn",
      "--form shrink --head-size 8 --head-ratio 0.5 | --head-size and --head-ratio exclude each other",
      "--form shrink --head-size 8 --multiple-of 8 | --multiple-of needs --ratio",
      "--form shrink --ratio 0.5 --multiple-of 0 | '--multiple-of': 0, expected 1 to 1048576",
      "--form shrink --head-size 1 | '--head-size': 1, expected 2 to",
      "--form shrink --ratio 0.5 --base-type Q2_K | --base-type needs --form adapter"
    }
  )
  void usage(String options, String message) {
    String words = options == null ? "" : options;
    String error = Attar.run(("lowrank a.gguf " + words).strip().split(" +")).error(Main.USAGE);
    assertTrue(error.contains(message), error);
    assertTrue(error.endsWith("(try 'attar lowrank --help')"), error);
  }

  @Test
  void whatCannotBeIsToldBeforeAnyWork() throws IOException {
    Path adapter = Files.writeString(folder.resolve("x.adapter.gguf"), "precious");
    Path out = folder.resolve("x.gguf");
    Object[] line = { "--form", "adapter", "--base-type", "Q4_K", "--rank", 8, "--method", "svd" };
    assertEquals(adapter + ": already exists, use --overwrite to replace it", lowRank(out, line));
    Files.delete(adapter);
    Object[] wide = { "--rank", 300, "--method", "svd" };
    String error = lowRank(out, wide);
    assertTrue(error.startsWith(TestModels.SAMPLE + ": tensor blk.0."), error);
    assertTrue(error.contains(": rank 300 for matrices of "), error);
    error = lowRank(out, "--form", "adapter", "--base-type", "IQ2_XS", "--rank", 8, "--method", "svd");
    assertTrue(error.contains("importance"), error);
    Path quantized = folder.resolve("q.gguf");
    Attar.run("quantize", TestModels.SAMPLE, "-t", "q8_0", "-o", quantized).expect(0);
    error = Attar.run(Stream.concat(Stream.of("lowrank", quantized, "-o", out), Stream.of(line)).toArray()).error(
      Main.FAILURE
    );
    assertTrue(error.contains("--allow-requantize"), error);
    assertEquals(List.of(quantized), files());
  }

  /** Either both files get their names, or none does, and what was there is there again. */
  @Test
  void filesGetTheirNamesTogether() throws IOException {
    Path first = Files.writeString(folder.resolve("a"), "old");
    Path second = folder.resolve("b");
    Path third = Files.createDirectory(folder.resolve("c"));
    try (StagedOutputs staged = new StagedOutputs(first, true)) {
      Path temporary = Files.writeString(staged.stage(first), "new");
      Files.writeString(staged.stage(second), "new");
      assertEquals(first + ": bad", staged.named(new IOException(temporary + ": bad")).getMessage());
      // Was taken by another program meanwhile.
      Path blocked = staged.stage(folder.resolve("d"));
      Files.createDirectory(blocked);
      Files.writeString(Files.createDirectory(folder.resolve("d")).resolve("x"), "theirs");
      Files.delete(blocked);
      try {
        staged.commit();
        throw new AssertionError("committed");
      } catch (IOException _) {
        assertEquals("old", Files.readString(first));
        assertTrue(Files.notExists(second) && Files.exists(third));
        assertEquals("theirs", Files.readString(folder.resolve("d").resolve("x")));
      }
    }
    assertEquals(List.of(first, third, folder.resolve("d")), files());
    try (StagedOutputs staged = new StagedOutputs(first, true)) {
      Files.writeString(staged.stage(first), "new");
      Files.writeString(staged.stage(second), "new");
      staged.commit();
    }
    assertEquals("new", Files.readString(first));
    assertEquals("new", Files.readString(second));
    assertEquals(List.of(first, second, third, folder.resolve("d")), files());
  }

  private static String lowRank(Path out, Object... more) {
    Stream<Object> line = Stream.of("lowrank", TestModels.SAMPLE, "-o", out);
    return Attar.run(Stream.concat(line, Stream.of(more)).toArray()).error(Main.FAILURE);
  }

  private List<Path> files() throws IOException {
    try (Stream<Path> all = Files.list(folder)) {
      return all.sorted().toList();
    }
  }
}
