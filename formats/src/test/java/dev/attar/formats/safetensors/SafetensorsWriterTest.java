package dev.attar.formats.safetensors;

import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.attar.formats.safetensors.SafetensorsWriter.Entry;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class SafetensorsWriterTest {

  @TempDir
  private Path folder;

  @Test
  void theBytesAreThoseOfTheFormat() throws IOException {
    Path file = folder.resolve("a.safetensors");
    List<Entry> tensors = List.of(
      new Entry("b", ElementType.BF16, List.of(1L, 2L)),
      new Entry("é", ElementType.F32, List.of()),
      new Entry("a", ElementType.BF16, List.of(0L))
    );
    try (SafetensorsWriter writer = SafetensorsWriter.create(file, tensors)) {
      assertEquals(List.of(tensors.get(1), tensors.get(2), tensors.get(0)), writer.tensors());
      writer.write(new byte[] { 0, 1, 2, 3, 4, 5 }, 1, 5);
      writer.write(new byte[] { 6, 7, 8 }, 0, 3);
      writer.finish();
    }
    String header =
      "{\"__metadata__\":{\"format\":\"pt\"},\"é\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}," +
      "\"a\":{\"dtype\":\"BF16\",\"shape\":[0],\"data_offsets\":[4,4]}," +
      "\"b\":{\"dtype\":\"BF16\",\"shape\":[1,2],\"data_offsets\":[4,8]}}";
    byte[] text = header.getBytes(StandardCharsets.UTF_8);
    int padded = ((text.length + 7) / 8) * 8;
    ByteBuffer expected = ByteBuffer.allocate(16 + padded).order(ByteOrder.LITTLE_ENDIAN);
    expected.putLong(padded).put(text).put(" ".repeat(padded - text.length).getBytes(StandardCharsets.UTF_8));
    expected.put(new byte[] { 1, 2, 3, 4, 5, 6, 7, 8 });
    assertArrayEquals(expected.array(), Files.readAllBytes(file));
  }

  @ParameterizedTest
  @ValueSource(ints = { 1, 2, 3, 4 })
  void whatIsWrittenIsReadBack(int seed) throws IOException {
    Random random = new Random(seed);
    List<Entry> tensors = new ArrayList<>();
    Map<String, byte[]> contents = new HashMap<>();
    for (ElementType type : ElementType.values()) {
      for (int i = 0; i < 3; i++) {
        List<Long> shape = new ArrayList<>();
        for (int j = random.nextInt(5); j > 0; j--) {
          shape.add((long) random.nextInt(12));
        }
        Entry tensor = new Entry("t" + random.nextInt(1 << 30), type, shape);
        byte[] bytes = new byte[Math.toIntExact(tensor.bytes())];
        random.nextBytes(bytes);
        tensors.add(tensor);
        contents.put(tensor.name(), bytes);
      }
    }
    Path file = folder.resolve("a.safetensors");
    try (SafetensorsWriter writer = SafetensorsWriter.create(file, tensors)) {
      for (Entry tensor : writer.tensors()) {
        byte[] bytes = contents.get(tensor.name());
        writer.write(bytes, 0, bytes.length);
      }
      writer.finish();
    }
    try (SafetensorsCheckpoint read = SafetensorsCheckpoint.open(file)) {
      assertEquals(tensors.size(), read.tensors().size());
      Map<String, Entry> byName = new HashMap<>();
      tensors.forEach(tensor -> byName.put(tensor.name(), tensor));
      for (StoredTensor tensor : read.tensors()) {
        assertEquals(byName.get(tensor.name()).type(), tensor.type());
        assertEquals(byName.get(tensor.name()).shape().toString(), tensor.shapeText());
        assertArrayEquals(contents.get(tensor.name()), tensor.bytes().toArray(JAVA_BYTE));
        // All values are aligned.
        assertEquals(0, tensor.bytes().address() % tensor.type().bytes(), tensor.toString());
      }
    }
  }

  @Test
  void neitherMoreNorFewerBytes() throws IOException {
    List<Entry> tensors = List.of(new Entry("a", ElementType.F32, List.of(2L)));
    Path file = folder.resolve("a.safetensors");
    try (SafetensorsWriter writer = SafetensorsWriter.create(file, tensors)) {
      writer.write(new byte[7], 0, 7);
      assertThrows(IllegalStateException.class, writer::finish);
      assertThrows(IllegalStateException.class, () -> writer.write(new byte[2], 0, 2));
      assertThrows(IndexOutOfBoundsException.class, () -> writer.write(new byte[2], 1, 2));
      writer.write(new byte[1], 0, 1);
      writer.finish();
    }
    SafetensorsFile.open(file).close();
    assertThrows(FileAlreadyExistsException.class, () -> SafetensorsWriter.create(file, tensors));
    assertEquals(8, tensors.getFirst().bytes());
  }

  @Test
  void whatTheFormatDoesNotHoldIsRefused() throws IOException {
    Entry tensor = new Entry("a", ElementType.F32, List.of(2L));
    Path file = folder.resolve("a.safetensors");
    assertThrows(IllegalArgumentException.class, () -> SafetensorsWriter.create(file, List.of(tensor, tensor)));
    List<Long> negative = List.of(2L, -1L);
    assertThrows(IllegalArgumentException.class, () -> new Entry("a", ElementType.F32, negative));
    List<Long> huge = List.of(1L << 61, 2L);
    assertThrows(ArithmeticException.class, () -> new Entry("a", ElementType.F32, huge));
    assertEquals(96, SafetensorsWriter.header(List.of(tensor), 88).length);
    assertThrows(IllegalArgumentException.class, () -> SafetensorsWriter.header(List.of(tensor), 87));
    assertFalse(Files.exists(file));
  }

  @Test
  void tensorsAreSharedOutAsTheyFit() {
    List<Entry> tensors = new ArrayList<>();
    for (long bytes : new long[] { 3, 4, 4, 20, 1, 9, 0, 5, 5, 1 }) {
      tensors.add(new Entry("t" + tensors.size(), ElementType.I8, List.of(bytes)));
    }
    List<List<Long>> sizes = SafetensorsShard.split(tensors, 10)
      .stream()
      .map(shard -> shard.tensors().stream().map(Entry::bytes).toList())
      .toList();
    assertEquals(
      List.of(List.of(3L, 4L), List.of(4L), List.of(20L), List.of(1L, 9L, 0L), List.of(5L, 5L), List.of(1L)),
      sizes
    );
    List<SafetensorsShard> shards = SafetensorsShard.split(tensors, 10);
    assertEquals("model-00006-of-00006.safetensors", shards.getLast().file());
    assertEquals(52, SafetensorsShard.index(shards).at("/metadata/total_size").asInt());
    assertEquals("model-00003-of-00006.safetensors", SafetensorsShard.index(shards).at("/weight_map/t3").asText());
    assertEquals(
      List.of(new SafetensorsShard("model.safetensors", tensors)),
      SafetensorsShard.split(tensors, SafetensorsShard.MAX_BYTES)
    );
  }
}
