package dev.attar.formats.safetensors;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.formats.FormatException;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class SafetensorsFileTest {

  private static final Path FILE = Path.of("weights.safetensors");

  @Test
  void tensorsComeByNameWithTheirBytes() throws IOException {
    String header = """
      {"__metadata__": {"format": "pt"},
       "b": {"dtype": "BF16", "shape": [2, 1], "data_offsets": [0, 4]},
       "a": {"dtype": "I8", "shape": [], "data_offsets": [4, 5]},
       "empty": {"dtype": "F64", "shape": [0, 7], "data_offsets": [5, 5]}}
      """;
    List<StoredTensor> tensors = SafetensorsFile.read(FILE, MemorySegment.ofArray(SafetensorsBytes.of(header, 5)));
    assertEquals(List.of("a", "b", "empty"), tensors.stream().map(StoredTensor::name).toList());
    StoredTensor b = tensors.get(1);
    assertEquals(ElementType.BF16, b.type());
    assertArrayEquals(new long[] { 2, 1 }, b.shape());
    assertArrayEquals(new byte[] { 1, 2, 3, 4 }, b.bytes().toArray(ValueLayout.JAVA_BYTE));
    assertEquals(0, tensors.get(2).bytes().byteSize());
  }

  @ParameterizedTest
  @CsvSource(
    delimiter = '#',
    textBlock = """
    {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}} # expected 8 for F32 [2]
    {"a":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}} # within the 8 bytes
    {"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}} # no gap
    {"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}} # the end of the last tensor
    {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}} # no overlap
    {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}} # a key for the second time
    {"a":{"dtype":"F32","shape":[2],"dtype":"F32","data_offsets":[0,8]}} # a key for the second time
    {"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}} # within the 8 bytes
    {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8,8]}} # at most 2
    {"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}} # a range
    {"a":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}} # from 0
    {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,18446744073709551624]}} # from 0
    {"a":{"dtype":"F32","shape":[2]}} # found nothing
    {"a":{"dtype":"F32","data_offsets":[0,8]}} # found nothing
    {"a":{"shape":[2],"data_offsets":[0,8]}} # dtype
    {"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}} # dtype "F33"
    {"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}} # already quantized
    {"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,8]}} # fits 63 bits
    {"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}} # from 0
    {"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}} # from 0
    {"a":{"dtype":"F32","shape":"2","data_offsets":[0,8]}} # a list
    {"a":7} # dtype
    {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}x # header, character 55: found 'x', expected a JSON object
    {"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]} # header, character 54: found the end, expected a JSON object
    [] # a JSON object
    {} # the end of the last tensor
    """
  )
  void malformedHeaderIsOneLine(String header, String expected) {
    byte[] bytes = SafetensorsBytes.of(header, 8);
    assertRefused(bytes, expected);
  }

  @Test
  void headerLengthIsChecked() {
    assertRefused(new byte[7], "at least 8");
    assertRefused(withLength(9), "at most the 8");
    assertRefused(withLength(100_000_001), "at most 100000000");
    assertRefused(withLength(-1), "18446744073709551615 bytes");
    assertRefused(SafetensorsBytes.of("", 0), "found nothing");
  }

  @Test
  void deepNestingIsRefused() {
    assertRefused(SafetensorsBytes.of("[".repeat(100_000), 0), "nested too deeply");
  }

  @Test
  void invalidUtf8IsRefused() {
    byte[] bytes = SafetensorsBytes.of("{\"??\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8);
    bytes[10] = (byte) 0xFF;
    assertRefused(bytes, "UTF-8");
  }

  @Test
  void everyTruncationIsRefused() {
    byte[] bytes = SafetensorsBytes.of("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8);
    for (int length = 0; length < bytes.length; length++) {
      assertRefused(Arrays.copyOf(bytes, length), FILE + ": ");
    }
  }

  private static byte[] withLength(long length) {
    return ByteBuffer.allocate(16).order(ByteOrder.LITTLE_ENDIAN).putLong(length).array();
  }

  private static void assertRefused(byte[] bytes, String expected) {
    FormatException e = assertThrows(FormatException.class, () ->
      SafetensorsFile.read(FILE, MemorySegment.ofArray(bytes))
    );
    assertTrue(e.getMessage().contains(expected), e.getMessage());
    assertEquals(1, e.getMessage().lines().count());
  }

  @ParameterizedTest
  @CsvSource(
    delimiter = '#',
    textBlock = """
    {"weight_map":{"a":"one.safetensors","b":"one.safetensors"}} # tensor b is missing
    {"weight_map":{"b":"one.safetensors"}} # tensor a is not where
    {"weight_map":{"a":"three.safetensors"}} # which is missing
    {"weight_map":{"a":"../one.safetensors"}} # in the same directory
    {"weight_map":{"a":"x/../../one.safetensors"}} # in the same directory
    {"weight_map":{"a":"/etc/passwd"}} # in the same directory
    {"weight_map":{"a":""}} # in the same directory
    {"weight_map":{"a":"one\\u0000"}} # a file name
    {"weight_map":{"a":1}} # in the same directory
    {"weight_map":{}} # tensor name to file name
    {"weight_map":[]} # tensor name to file name
    {} # tensor name to file name
    """
  )
  void malformedIndexIsOneLine(String index, String expected, @TempDir Path folder) throws IOException {
    SafetensorsBytes.write(folder.resolve("one.safetensors"), "a");
    SafetensorsBytes.write(folder.resolve("two.safetensors"), "c");
    Files.writeString(folder.resolve("model.safetensors.index.json"), index);
    FormatException e = assertThrows(FormatException.class, () -> SafetensorsCheckpoint.open(folder).close());
    assertTrue(e.getMessage().contains(expected), e.getMessage());
    assertEquals(1, e.getMessage().lines().count());
  }

  @Test
  void shardsMayBeLinks(@TempDir Path folder) throws IOException {
    Path elsewhere = SafetensorsBytes.write(Files.createDirectory(folder.resolve("blobs")).resolve("x"), "a");
    Path checkpoint = Files.createDirectory(folder.resolve("snapshot"));
    Files.createSymbolicLink(checkpoint.resolve("one.safetensors"), elsewhere);
    Files.writeString(
      checkpoint.resolve("model.safetensors.index.json"),
      "{\"weight_map\":{\"a\":\"one.safetensors\"}}"
    );
    try (SafetensorsCheckpoint opened = SafetensorsCheckpoint.open(checkpoint)) {
      assertEquals("a", opened.tensors().getFirst().name());
    }
  }

  @Test
  void tensorInTwoShardsIsRefused(@TempDir Path folder) throws IOException {
    SafetensorsBytes.write(folder.resolve("model-1.safetensors"), "a");
    SafetensorsBytes.write(folder.resolve("model-2.safetensors"), "a");
    FormatException e = assertThrows(FormatException.class, () -> SafetensorsCheckpoint.open(folder).close());
    assertTrue(e.getMessage().contains("is in model-1.safetensors too"), e.getMessage());
  }

  @Test
  void picklesAreRefused(@TempDir Path folder) throws IOException {
    Files.createFile(folder.resolve("pytorch_model.bin"));
    FormatException e = assertThrows(FormatException.class, () -> SafetensorsCheckpoint.open(folder).close());
    assertTrue(e.getMessage().contains("pytorch_model.bin, which is not read"), e.getMessage());
  }
}
