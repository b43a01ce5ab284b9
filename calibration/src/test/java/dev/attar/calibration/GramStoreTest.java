package dev.attar.calibration;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.formats.FormatException;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class GramStoreTest {

  private static final LinearInput INPUT = new LinearInput("blk.0.ffn_up.weight", List.of("blk.0.ffn_up.weight"), 3, 1);
  private static final GramRequest REQUEST = GramRequest.all(INPUT);
  private static final float[] UPPER = { 1, 2, 3, 4, 5, 6 };

  @TempDir
  private Path folder;

  private GramStore store;

  @BeforeEach
  void open() throws IOException {
    store = GramStore.open(folder.resolve("a/b"), "model x, text y");
  }

  private static void write(GramStore store, GramRequest request, float... values) throws IOException {
    store.write(request, 7, part -> {
      part.accept(MemorySegment.ofArray(Arrays.copyOf(values, 1)));
      part.accept(MemorySegment.ofArray(Arrays.copyOfRange(values, 1, values.length)));
    });
  }

  private String refusal(GramRequest request) {
    return assertThrows(FormatException.class, () -> store.find(request)).getMessage();
  }

  @Test
  void givesBackWhatWasWritten() throws IOException {
    assertTrue(store.find(REQUEST).isEmpty());
    assertFalse(store.contains(REQUEST));
    write(store, REQUEST, UPPER);
    assertTrue(store.contains(REQUEST));
    try (Gram gram = store.find(REQUEST).orElseThrow(); Arena arena = Arena.ofConfined()) {
      assertEquals(3, gram.columns());
      assertEquals(7, gram.tokens());
      assertArrayEquals(UPPER, gram.upper().toArray(JAVA_FLOAT));
      assertEquals(5, gram.get(1, 2));
      assertEquals(5, gram.get(2, 1));
      assertEquals(6, gram.get(2, 2));
      assertThrows(IndexOutOfBoundsException.class, () -> gram.get(0, 3));
      MemorySegment square = arena.allocateFrom(JAVA_FLOAT, -1, -1, -1, -1, -1, -1, -1, -1, -1);
      gram.copyUpper(square);
      assertArrayEquals(new float[] { 1, 2, 3, -1, 4, 5, -1, -1, 6 }, square.toArray(JAVA_FLOAT));
    }
    store.delete(REQUEST);
    assertTrue(store.find(REQUEST).isEmpty());
  }

  @Test
  void namesOfFilesAreSafe() {
    LinearInput hostile = new LinearInput("../x/ü%", List.of("../x/ü%"), 3, 2);
    assertEquals(folder.resolve("a/b/..%2fx%2f%c3%bc%25.1.gguf"), store.file(new GramRequest(hostile, 1)));
    assertEquals(folder.resolve("a/b/..%2fx%2f%c3%bc%25.pooled.gguf"), store.file(GramRequest.all(hostile)));
  }

  @Test
  void whatIsOfSomethingElseIsRefused() throws IOException {
    write(store, REQUEST, UPPER);
    GramStore other = GramStore.open(store.folder(), "model z");
    String message = assertThrows(FormatException.class, () -> other.find(REQUEST)).getMessage();
    assertEquals(
      store.file(REQUEST) + ": key attar.gram.identity: found 'model x, text y', expected 'model z'",
      message
    );
    LinearInput wider = new LinearInput(INPUT.name(), INPUT.weights(), 4, 1);
    assertTrue(refusal(GramRequest.all(wider)).startsWith(store.file(REQUEST) + ": tensors: found"));
    GramRequest elsewhere = GramRequest.all(new LinearInput("other", List.of("other"), 3, 1));
    Files.copy(store.file(REQUEST), store.file(elsewhere));
    assertTrue(refusal(elsewhere).contains("key attar.gram.input"));
    GramRequest expert = new GramRequest(new LinearInput(INPUT.name(), INPUT.weights(), 3, 2), 1);
    Files.copy(store.file(REQUEST), store.file(expert));
    assertTrue(refusal(expert).contains("key attar.gram.expert: found '0', expected '1'"));
  }

  @Test
  void valuesThatCannotBeAreRefused() throws IOException {
    write(store, REQUEST, 1, 2, 3, -4, 5, 6);
    assertEquals(
      store.file(REQUEST) + ": diagonal element 1: found -4.0, expected a finite number, not negative",
      refusal(REQUEST)
    );
    write(store, REQUEST, 1, 2, 3, 4, 5, Float.NaN);
    assertTrue(refusal(REQUEST).contains("diagonal element 2"));
  }

  @Test
  void aDamagedFileIsRefusedOrRead() throws IOException {
    write(store, REQUEST, UPPER);
    byte[] whole = Files.readAllBytes(store.file(REQUEST));
    for (int length = 0; length < whole.length - 32; length += 11) {
      Files.write(store.file(REQUEST), Arrays.copyOf(whole, length));
      assertTrue(refusal(REQUEST).startsWith(store.file(REQUEST) + ": "));
    }
    Random random = new Random(3);
    for (int i = 0; i < 500; i++) {
      byte[] damaged = whole.clone();
      damaged[random.nextInt(damaged.length)] ^= (byte) (1 << random.nextInt(8));
      Files.write(store.file(REQUEST), damaged);
      try {
        store.find(REQUEST).orElseThrow().close();
      } catch (FormatException e) {
        assertTrue(e.getMessage().startsWith(store.file(REQUEST) + ": "), e.getMessage());
      }
    }
  }

  @Test
  void whatFailsLeavesNoFile() throws IOException {
    assertThrows(IOException.class, () ->
      store.write(REQUEST, 1, part -> {
        part.accept(MemorySegment.ofArray(UPPER));
        throw new IOException("no more");
      })
    );
    try (var files = Files.list(store.folder())) {
      assertEquals(0, files.count());
    }
  }
}
