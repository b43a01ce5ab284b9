package dev.attar.formats.imatrix;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.formats.FormatException;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Tensor;
import dev.attar.formats.gguf.GgufBytes;
import dev.attar.formats.gguf.GgufModel;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.Set;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

class ImportanceMatrixTest {

  private static final Path SAMPLE = Path.of("../samples/sample/imatrix.gguf");

  @TempDir
  private Path folder;

  private static GgufBytes keys(int tensors) {
    return GgufBytes.header(tensors, 4)
      .text("general.type", "imatrix")
      .key("imatrix.datasets", 9)
      .i32(8)
      .i64(2)
      .string("wiki.txt")
      .string("code.txt")
      .u32("imatrix.chunk_count", 7)
      .u32("imatrix.chunk_size", 512);
  }

  /** Three experts of two columns, the second without tokens, the third with counts that are not whole. */
  private static GgufBytes experts(float... sums) {
    return keys(2)
      .tensor("w.in_sum2", 0, 0, 2, 3)
      .tensor("w.counts", 0, 32, 1, 3)
      .pad(32)
      .f32(sums)
      .pad(32)
      .f32(3, 0, 1.5f);
  }

  private static GgufBytes legacy() {
    return GgufBytes.raw("")
      .i32(2)
      .i32(1)
      .bytes((byte) 'a')
      .i32(4)
      .i32(3)
      .f32(1, 2, 3)
      .i32(1)
      .bytes((byte) 'b')
      .i32(0)
      .i32(1)
      .f32(5);
  }

  private static GgufBytes legacyWithEnd() {
    return legacy().i32(9).i32(5).bytes((byte) 't', (byte) 'e', (byte) 'x', (byte) 't', (byte) 0);
  }

  @Test
  void anUnmeasuredMatrixWeighsAllColumnsAlike() {
    Path path = Path.of("text.txt");
    try (ImportanceMatrix matrix = ImportanceMatrix.unmeasured(path, Map.of("a", 3, "b", 2))) {
      assertEquals(path, matrix.path());
      assertEquals(Set.of("a", "b"), matrix.tensors());
      assertEquals(2, matrix.columns("b").orElseThrow());
      assertArrayEquals(new float[] { 1, 1, 1 }, matrix.weights("a").orElseThrow());
      assertTrue(matrix.weights("c").isEmpty());
    }
  }

  @Test
  void sumsAreDividedByTheCountOfTheirExpert() throws IOException {
    Path file = experts(1, 2, 3, 4, 5, 6).write(folder.resolve("i.gguf"));
    try (ImportanceMatrix matrix = ImportanceMatrix.open(file)) {
      assertEquals(Set.of("w"), matrix.tensors());
      assertEquals(OptionalInt.of(6), matrix.columns("w"));
      assertArrayEquals(new float[] { 1 / 3f, 2 / 3f, 1, 1, 2.5f, 3 }, matrix.weights("w").orElseThrow());
      assertTrue(matrix.weights("v").isEmpty());
      assertEquals(OptionalInt.empty(), matrix.columns("v"));
      assertEquals(List.of("wiki.txt", "code.txt"), matrix.datasets());
      assertEquals(7, matrix.chunks());
      Map<String, MetadataValue> expected = new LinkedHashMap<>();
      expected.put("quantize.imatrix.file", MetadataValue.string("x".repeat(127)));
      expected.put("quantize.imatrix.dataset", MetadataValue.string("wiki.txt"));
      expected.put("quantize.imatrix.entries_count", MetadataValue.uint32(1));
      expected.put("quantize.imatrix.chunks_count", MetadataValue.uint32(7));
      Map<String, MetadataValue> written = matrix.quantizeMetadata("x".repeat(200));
      assertEquals(List.copyOf(expected.entrySet()), List.copyOf(written.entrySet()));
    }
  }

  @Test
  void theOlderFormIsDividedByItsCalls() throws IOException {
    Path file = legacyWithEnd().write(folder.resolve("i.dat"));
    try (ImportanceMatrix matrix = ImportanceMatrix.open(file)) {
      assertTrue(matrix.isLegacy());
      assertEquals(Set.of("a", "b"), matrix.tensors());
      assertArrayEquals(new float[] { 0.25f, 0.5f, 0.75f }, matrix.weights("a").orElseThrow());
      assertArrayEquals(new float[] { 5 }, matrix.weights("b").orElseThrow());
      assertEquals(List.of("text"), matrix.datasets());
      assertEquals(9, matrix.chunks());
    }
    try (ImportanceMatrix matrix = ImportanceMatrix.open(legacy().write(file))) {
      assertEquals(List.of(), matrix.datasets());
      assertEquals(0, matrix.chunks());
      assertEquals(
        Map.of(
          "quantize.imatrix.file",
          MetadataValue.string("f"),
          "quantize.imatrix.entries_count",
          MetadataValue.uint32(2)
        ),
        matrix.quantizeMetadata("f")
      );
    }
  }

  @Test
  void theSampleIsWhatItsTensorsSay() throws IOException {
    try (ImportanceMatrix matrix = ImportanceMatrix.open(SAMPLE); GgufModel model = GgufModel.open(SAMPLE)) {
      Metadata metadata = model.metadata();
      assertEquals(metadata.integer("imatrix.chunk_count").orElseThrow(), matrix.chunks());
      assertEquals(28, matrix.tensors().size());
      for (Tensor tensor : model.tensors()) {
        String name = tensor.info().name();
        if (name.endsWith(".in_sum2")) {
          float[] values = new float[(int) tensor.info().elements()];
          tensor.decodeRows(0, (int) tensor.info().rows(), values, 0);
          for (int i = 0; i < values.length; i++) {
            values[i] /= 128 * 512; // chunks of 512 tokens
          }
          assertArrayEquals(values, matrix.weights(name.replace(".in_sum2", "")).orElseThrow());
        }
      }
    }
  }

  static Stream<Arguments> wrong() {
    float nan = Float.NaN;
    return Stream.of(
      Arguments.of(experts(1, 2, nan, 4, 5, 6), "tensor 'w.in_sum2', column 2: found NaN, expected a finite number"),
      Arguments.of(experts(1, 2, 3, 4, 5, -6), "column 5: found -6.0"),
      Arguments.of(experts(1 / 0f, 2, 3, 4, 5, 6), "column 0: found Infinity"),
      Arguments.of(keys(0), "no tensor named *.in_sum2"),
      Arguments.of(GgufBytes.header(0, 1).text("general.type", "model"), "found 'model', expected 'imatrix'"),
      Arguments.of(GgufBytes.header(0, 0), "no metadata key imatrix.datasets"),
      Arguments.of(keys(1).tensor("w.in_sum2", 0, 0, 1).pad(32).f32(1), "'w.in_sum2' without 'w.counts'"),
      Arguments.of(keys(1).tensor("w.counts", 0, 0, 1).pad(32).f32(1), "'w.counts' without 'w.in_sum2'"),
      Arguments.of(keys(1).tensor("w.in_sum2", 1, 0, 2).pad(32).f32(1), "found type F16, expected F32"),
      Arguments.of(counts(2), "tensor 'w.counts', count 0: found -1.0"),
      Arguments.of(counts(3), "found 3 counts, expected at most 65536 and a divisor of 2"),
      Arguments.of(GgufBytes.raw(""), "byte 0: found 0 bytes"),
      Arguments.of(GgufBytes.raw("Hello, this is no matrix at all."), "byte 0: found 1819043144, expected 'GGUF', or"),
      Arguments.of(GgufBytes.raw("").i32(0).zeros(99), "byte 0: found 0"),
      Arguments.of(GgufBytes.raw("").i32(-1).zeros(99), "byte 0: found 4294967295"),
      Arguments.of(GgufBytes.raw("").i32(1).i32(-5).zeros(99), "byte 4: found -5, expected the length of the name"),
      Arguments.of(GgufBytes.raw("").i32(1).i32(2000).zeros(9999), "byte 4: found 2000"),
      Arguments.of(entry().i32(-1).zeros(99), "found -1, expected the number of calls of 'a'"),
      Arguments.of(entry().i32(1).i32(0).zeros(99), "found 0, expected the number of values of 'a'"),
      Arguments.of(entry().i32(1).i32(25).zeros(99), "tensor 'a': found 25 values, expected at most 24"),
      Arguments.of(entry().i32(1).i32(Integer.MAX_VALUE).zeros(99), "found 2147483647 values"),
      Arguments.of(entry().i32(1).i32(1).f32(nan), "tensor 'a', column 0: found NaN"),
      Arguments.of(entry().i32(1).i32(1).f32(1).i32(-2), "found -2, expected the number of chunks"),
      Arguments.of(entry().i32(1).i32(1).f32(1).i32(2).i32(7).zeros(6), "expected a name of 7 bytes"),
      Arguments.of(
        GgufBytes.raw("").i32(2).i32(1).zeros(1).i32(1).i32(1).f32(1).i32(1).zeros(1).i32(1).i32(1).f32(1),
        "a second entry for tensor ''"
      )
    );
  }

  private static GgufBytes entry() {
    return GgufBytes.raw("").i32(1).i32(1).bytes((byte) 'a');
  }

  private static GgufBytes counts(int n) {
    return keys(2).tensor("w.in_sum2", 0, 0, 2).tensor("w.counts", 0, 32, 1, n).pad(32).f32(1, 2).pad(32).f32(-1, 2, 3);
  }

  @ParameterizedTest
  @MethodSource("wrong")
  void aWrongFileIsRefusedInOneLine(GgufBytes bytes, String problem) throws IOException {
    Path file = bytes.write(folder.resolve("bad"));
    String message = assertThrows(FormatException.class, () -> ImportanceMatrix.open(file)).getMessage();
    assertEquals(1, message.lines().count(), message);
    assertTrue(message.startsWith(file + ": ") && message.contains(problem), message);
  }

  @Test
  void theOlderFormCutAnywhereIsRefused() {
    byte[] whole = legacyWithEnd().build();
    Set<Integer> complete = Set.of(legacy().build().length, legacy().build().length + 4, whole.length);
    for (int length = 0; length <= whole.length; length++) {
      MemorySegment part = MemorySegment.ofArray(Arrays.copyOf(whole, length));
      boolean opened;
      try (ImportanceMatrix matrix = LegacyImatrix.read(Path.of("cut"), part, () -> {})) {
        opened = matrix.tensors().size() == 2;
      } catch (FormatException _) {
        opened = false;
      }
      assertEquals(complete.contains(length), opened, "length " + length);
    }
  }

  @Test
  void missingFilesAndFoldersAreNamed() throws IOException {
    Path missing = folder.resolve("none");
    String message = assertThrows(IOException.class, () -> ImportanceMatrix.open(missing)).getMessage();
    assertEquals(missing + ": no such file", message);
    Files.createDirectory(missing);
    message = assertThrows(FormatException.class, () -> ImportanceMatrix.open(missing)).getMessage();
    assertTrue(message.contains("not a regular file"), message);
  }
}
