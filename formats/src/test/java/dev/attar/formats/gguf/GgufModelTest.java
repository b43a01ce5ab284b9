package dev.attar.formats.gguf;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.formats.FormatException;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Set;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

class GgufModelTest {

  @TempDir
  private Path folder;

  private static GgufBytes small() {
    return GgufBytes.header(2, 3)
      .text("general.architecture", "llama")
      .key("list", 9)
      .i32(5)
      .i64(2)
      .i32(-1)
      .i32(7)
      .key("nested", 9)
      .i32(9)
      .i64(1)
      .i32(0)
      .i64(2)
      .bytes((byte) 200, (byte) 1)
      .tensor("a", 0, 0, 2, 3)
      .tensor("b", 8, 32, 32)
      .pad(32)
      .f32(1, 2, 3, 4, 5, 6)
      .pad(32)
      .zeros(34)
      .pad(32);
  }

  private GgufModel open(GgufBytes bytes) throws IOException {
    return GgufModel.open(bytes.write(folder.resolve("model.gguf")));
  }

  private String refusal(GgufBytes bytes) throws IOException {
    Path file = bytes.write(folder.resolve("bad.gguf"));
    String message = assertThrows(FormatException.class, () -> GgufModel.open(file)).getMessage();
    assertEquals(1, message.lines().count(), message);
    assertTrue(message.startsWith(file + ": "), message);
    return message.substring(file.toString().length() + 2);
  }

  @Test
  void readsMetadataAndTensors() throws IOException {
    try (GgufModel model = open(small())) {
      assertEquals(List.of("general.architecture", "list", "nested"), List.copyOf(model.metadata().values().keySet()));
      assertEquals("llama", model.metadata().architecture());
      assertArrayEquals(new long[] { -1, 7 }, (long[]) model.metadata().get("list").orElseThrow().value());
      MetadataValue inner = new MetadataValue(
        MetadataValue.Type.ARRAY,
        MetadataValue.Type.UINT8,
        new long[] { 200, 1 }
      );
      assertArrayEquals(
        new MetadataValue[] { inner },
        (MetadataValue[]) model.metadata().get("nested").orElseThrow().value()
      );
      assertEquals(
        List.of(
          new TensorInfo("a", TensorType.F32, new long[] { 2, 3 }),
          new TensorInfo("b", TensorType.Q8_0, new long[] { 32 })
        ),
        model.tensors().stream().map(Tensor::info).toList()
      );
      float[] rows = new float[4];
      model.tensors().getFirst().decodeRows(1, 2, rows, 0);
      assertArrayEquals(new float[] { 3, 4, 5, 6 }, rows);
      GgufModel.Part part = model.parts().getFirst();
      assertEquals(new GgufModel.Part(part.path(), 3, 32, part.size() - 96, part.size(), 2), part);
    }
  }

  @Test
  void readsVersion2AndOtherAlignments() throws IOException {
    GgufBytes bytes = GgufBytes.raw("GGUF").i32(2).i64(1).i64(1).u32("general.alignment", 8).tensor("t", 24, 0, 3);
    try (GgufModel model = open(bytes.pad(8).bytes((byte) 1, (byte) 2, (byte) 3))) {
      assertEquals(2, model.parts().getFirst().version());
      assertEquals(8, model.parts().getFirst().alignment());
      byte[] row = new byte[3];
      model.tensors().getFirst().readRows(0, 1, row, 0);
      assertArrayEquals(new byte[] { 1, 2, 3 }, row);
    }
  }

  @Test
  void aTensorWithoutDimensionsIsOneValue() throws IOException {
    try (GgufModel model = open(GgufBytes.header(1, 0).tensor("t", 0, 0).pad(32).f32(5))) {
      assertEquals(1, model.tensors().getFirst().info().elements());
    }
  }

  @Test
  void aFileCutAnywhereIsRefused() {
    byte[] whole = small().build();
    int lastByte = whole.length - 30; // the padding after the last tensor may be missing
    for (int length = 0; length < lastByte; length++) {
      MemorySegment part = MemorySegment.ofArray(Arrays.copyOf(whole, length));
      FormatException e = assertThrows(FormatException.class, () -> GgufHeader.read(Path.of("cut"), part));
      assertEquals(1, e.getMessage().lines().count());
    }
    for (int length = lastByte; length <= whole.length; length++) {
      MemorySegment part = MemorySegment.ofArray(Arrays.copyOf(whole, length));
      org.junit.jupiter.api.Assertions.assertDoesNotThrow(() -> GgufHeader.read(Path.of("cut"), part));
    }
  }

  static Stream<Arguments> wrong() {
    long max = Long.MAX_VALUE;
    return Stream.of(
      Arguments.of(GgufBytes.raw(""), "byte 0: found '', expected 'GGUF'"),
      Arguments.of(GgufBytes.raw("GGML").zeros(40), "byte 0: found 'GGML', expected 'GGUF'"),
      Arguments.of(GgufBytes.raw("GGUF").i32(1).zeros(40), "byte 4: found GGUF version 1, expected 2 or 3"),
      Arguments.of(GgufBytes.raw("GGUF").i32(4).zeros(40), "byte 4: found GGUF version 4, expected 2 or 3"),
      Arguments.of(GgufBytes.raw("GGUF").i32(0x03000000).zeros(40), "a big-endian file of version 3"),
      Arguments.of(GgufBytes.header(-1, 0), "18446744073709551615 tensors"),
      Arguments.of(GgufBytes.header(2, 0).zeros(24), "found 2 tensors, expected at most 1"),
      Arguments.of(GgufBytes.header(0, max).zeros(99), "9223372036854775807 metadata entries, expected at most 7"),
      Arguments.of(GgufBytes.header(0, 1).i64(max).zeros(99), "found a string of 9223372036854775807 bytes"),
      Arguments.of(GgufBytes.header(0, 1).i64(-1).zeros(99), "found a string of 18446744073709551615 bytes"),
      Arguments.of(GgufBytes.header(0, 1).key("", 4).zeros(99), "an empty metadata key"),
      Arguments.of(GgufBytes.header(0, 1).key("k", 13).zeros(99), "key 'k': found value type 13"),
      Arguments.of(GgufBytes.header(0, 1).key("k", -1).zeros(99), "found value type 4294967295"),
      Arguments.of(GgufBytes.header(0, 1).key("a\nb", 13).zeros(99), "key 'a?b'"),
      Arguments.of(GgufBytes.header(0, 2).u32("k", 1).u32("k", 2), "key 'k': a second entry"),
      Arguments.of(
        GgufBytes.header(0, 1).key("k", 9).i32(12).i64(13).zeros(99),
        "key 'k': found an array of 13 elements, expected at most 12"
      ),
      Arguments.of(GgufBytes.header(0, 1).key("k", 9).i32(0).i64(max).zeros(99), "array of 9223372036854775807"),
      Arguments.of(GgufBytes.header(0, 1).key("k", 9).i32(8).i64(-1).zeros(99), "array of 18446744073709551615"),
      Arguments.of(GgufBytes.header(0, 1).u32("general.alignment", 24).zeros(99), "key general.alignment"),
      Arguments.of(GgufBytes.header(0, 1).u32("general.alignment", 0).zeros(99), "key general.alignment"),
      Arguments.of(GgufBytes.header(0, 1).text("general.alignment", "32").zeros(99), "found STRING '32'"),
      Arguments.of(GgufBytes.header(1, 0).tensor("t", 0, 0, 1, 1, 1, 1, 1).zeros(99), "'t': found 5 dimensions"),
      Arguments.of(GgufBytes.header(1, 0).tensor("t", 0, 0, 4, 0).zeros(99), "'t': found dimension 1 of 0"),
      Arguments.of(GgufBytes.header(1, 0).tensor("t", 0, 0, -4).zeros(99), "found dimension 0 of 18446744073709551612"),
      Arguments.of(GgufBytes.header(1, 0).tensor("t", 0, 0, max, 3).zeros(99), "exceeds 2^63"),
      Arguments.of(GgufBytes.header(1, 0).tensor("t", 0, 0, max).zeros(99), "exceeds 2^63"),
      Arguments.of(GgufBytes.header(1, 0).tensor("t", 0, 0, 1, max, 2, 2).zeros(99), "exceeds 2^63"),
      Arguments.of(
        GgufBytes.header(1, 0).tensor("t", 12, 0, 255).zeros(999),
        "rows of 255 values, expected a multiple"
      ),
      Arguments.of(GgufBytes.header(1, 0).tensor("t", 0, 0, 1000).zeros(99), "expected 4000 bytes of data"),
      Arguments.of(GgufBytes.header(1, 0).tensor("t", 0, 64, 9).pad(32).zeros(99), "36 bytes of data at byte 64 + 64"),
      Arguments.of(GgufBytes.header(1, 0).tensor("t", 0, max - 31, 9).zeros(99), "+ 9223372036854775776"),
      Arguments.of(GgufBytes.header(1, 0).tensor("t", 0, -32, 9).zeros(99), "+ 18446744073709551584"),
      Arguments.of(GgufBytes.header(1, 0).tensor("t", 0, 16, 1).zeros(99), "found data offset 16, expected a multiple"),
      Arguments.of(
        GgufBytes.header(2, 0).tensor("t", 0, 0, 1).tensor("t", 0, 32, 1).zeros(199),
        "tensor 't': a second tensor of this name"
      ),
      Arguments.of(
        GgufBytes.header(2, 0).tensor("t", 0, 32, 1).tensor("u", 0, 0, 9).zeros(199),
        "tensor 't': its data overlaps that of tensor 'u'"
      ),
      Arguments.of(
        GgufBytes.header(2, 0).tensor("t", 0, 32, 9).tensor("u", 0, 32, 1).zeros(199),
        "its data overlaps that of tensor"
      )
    );
  }

  @ParameterizedTest
  @MethodSource("wrong")
  void aWrongFileIsRefusedInOneLine(GgufBytes bytes, String problem) throws IOException {
    String message = refusal(bytes);
    assertTrue(message.contains(problem), message);
  }

  @Test
  void removedAndUnknownTypesAreRefused() throws IOException {
    Set<Integer> gone = Set.of(4, 5, 31, 32, 33, 36, 37, 38);
    for (int id : IntStream.concat(IntStream.rangeClosed(-2, 50), IntStream.of(1000, Integer.MAX_VALUE)).toArray()) {
      GgufBytes bytes = GgufBytes.header(1, 0).tensor("t", id, 0, 256).pad(32).zeros(256 * 8);
      if (id < 0 || id > 42 || gone.contains(id)) {
        String message = refusal(bytes);
        assertTrue(message.contains("tensor 't': found tensor type " + Integer.toUnsignedString(id)), message);
      } else {
        try (GgufModel model = open(bytes)) {
          assertEquals(id, model.tensors().getFirst().info().type().id());
        }
      }
    }
  }

  @Test
  void deeplyNestedArraysAreRefused() throws IOException {
    GgufBytes bytes = GgufBytes.header(0, 1).key("k", 9);
    for (int i = 0; i < 100_000; i++) {
      bytes.i32(9).i64(1);
    }
    assertTrue(refusal(bytes).contains("nested deeper than 8"));
  }

  @Test
  void metadataThatWouldFillTheMemoryIsRefused() throws IOException {
    // 40 MB of numbers of one byte, each eight in memory.
    GgufBytes bytes = GgufBytes.header(0, 1).key("k", 9).i32(0).i64(40_000_000).zeros(40_000_000);
    assertTrue(refusal(bytes).contains("more than 256 MB of memory"));
  }

  @Test
  void aHeaderOfMoreThan100MbIsRefused() throws IOException {
    byte[] start = GgufBytes.header(0, 2).key("k", 8).i64(99_999_980).build();
    Path file = folder.resolve("long.gguf");
    Files.write(file, start);
    try (var channel = java.nio.channels.FileChannel.open(file, java.nio.file.StandardOpenOption.WRITE)) {
      channel.write(java.nio.ByteBuffer.wrap(new byte[1]), 200_000_000); // sparse
    }
    String message = assertThrows(FormatException.class, () -> GgufModel.open(file)).getMessage();
    assertTrue(message.contains("in what is left of the 100 MB that a header may have"), message);
  }

  @ParameterizedTest
  @ValueSource(ints = { 1, 3 })
  void splitModelsAreOneModel(int count) throws IOException {
    Path first = writeParts("m", count, count, 2 * count);
    try (GgufModel model = GgufModel.open(first)) {
      assertEquals(List.of("general.architecture"), List.copyOf(model.metadata().values().keySet()));
      assertEquals(count, model.parts().size());
      assertEquals(2 * count, model.tensors().size());
      float[] value = new float[1];
      for (int i = 0; i < model.tensors().size(); i++) {
        assertEquals("t" + i, model.tensors().get(i).info().name());
        model.tensors().get(i).decodeRows(0, 1, value, 0);
        assertEquals(i, value[0]);
      }
    }
  }

  /** Writes {@code written} parts of two tensors each that claim to be {@code count}; returns the first. */
  private Path writeParts(String stem, int written, int count, int tensors) throws IOException {
    for (int i = 0; i < written; i++) {
      GgufBytes part = GgufBytes.header(2, i == 0 ? 4 : 3);
      part.u16("split.no", i);
      if (i == 0) {
        part.text("general.architecture", "llama");
      }
      part.u16("split.count", count).key("split.tensors.count", 5).i32(tensors);
      part.tensor("t" + 2 * i, 0, 0, 1).tensor("t" + (2 * i + 1), 0, 32, 1).pad(32);
      part.f32(2 * i).pad(32).f32(2 * i + 1).write(folder.resolve(partName(stem, i, count)));
    }
    return folder.resolve(partName(stem, 0, count));
  }

  private static String partName(String stem, int i, int count) {
    return String.format("%s-%05d-of-%05d.gguf", stem, i + 1, count);
  }

  @Test
  void wrongPartsAreRefused() throws IOException {
    Path first = writeParts("m", 3, 3, 6);
    Path second = folder.resolve(partName("m", 1, 3));
    String message = assertThrows(FormatException.class, () -> GgufModel.open(second)).getMessage();
    assertTrue(message.contains("found part 2 of 3, expected the first part, m-00001-of-00003.gguf"), message);

    Path renamed = Files.copy(first, folder.resolve("other.gguf"));
    message = assertThrows(FormatException.class, () -> GgufModel.open(renamed)).getMessage();
    assertTrue(message.contains("the first of 3 parts must be named <name>-00001-of-00003.gguf"), message);

    Files.copy(first, second, java.nio.file.StandardCopyOption.REPLACE_EXISTING);
    message = assertThrows(FormatException.class, () -> GgufModel.open(first)).getMessage();
    assertTrue(message.startsWith(second + ": tensor 't0': an earlier part has it"), message);

    Files.delete(second);
    message = assertThrows(IOException.class, () -> GgufModel.open(first)).getMessage();
    assertEquals(second + ": part 2 of 3 is missing", message);

    Path few = writeParts("n", 3, 3, 7);
    message = assertThrows(FormatException.class, () -> GgufModel.open(few)).getMessage();
    assertTrue(message.contains("found 6 tensors, expected 7"), message);

    Path huge = GgufBytes.header(0, 1).u32("split.count", -1).write(folder.resolve("huge-00001-of-4294967295.gguf"));
    message = assertThrows(FormatException.class, () -> GgufModel.open(huge)).getMessage();
    assertTrue(message.contains("found 4294967295 parts"), message);

    Path text = GgufBytes.header(0, 1).text("split.count", "3").write(folder.resolve("text.gguf"));
    message = assertThrows(FormatException.class, () -> GgufModel.open(text)).getMessage();
    assertTrue(message.contains("key split.count: found STRING '3'"), message);
  }

  @Test
  void missingFilesAndFoldersAreNamed() {
    Path missing = folder.resolve("none.gguf");
    String message = assertThrows(IOException.class, () -> GgufModel.open(missing)).getMessage();
    assertEquals(missing + ": no such file", message);
    message = assertThrows(IOException.class, () -> GgufModel.open(folder)).getMessage();
    assertTrue(message.contains("not a regular file"), message);
  }
}
