package dev.attar.llama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.OptionalInt;
import java.util.Random;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class LlamaModelTest {

  private static final Path MODEL = LlamaContextTest.TINY.resolve("model.gguf");
  private static final Path ADAPTER = LlamaContextTest.TINY.resolve("adapter.gguf");
  private static final LlamaContext.Options SMALL = new LlamaContext.Options(256, 64, 64, 1, 1);

  @TempDir
  private Path temp;

  private static String failure(Path file) {
    IOException e = assertThrows(IOException.class, () -> LlamaModel.open(file, LlamaModel.Options.defaults()).close());
    assertEquals(1, e.getMessage().lines().count(), e.getMessage());
    assertTrue(e.getMessage().startsWith(file + ": llama.cpp cannot load it: "), e.getMessage());
    return e.getMessage();
  }

  @Test
  void knowsTheModel() throws IOException {
    try (LlamaModel model = LlamaModel.open(MODEL, LlamaModel.Options.defaults())) {
      assertEquals("llama ?B all F32", model.description());
      assertEquals(36_640, model.parameters());
      assertEquals(4 * 36_640, model.bytes());
      assertEquals(2, model.layers());
      assertEquals(32, model.embeddingLength());
      assertEquals(256, model.trainedContext());
      assertTrue(model.hasDecoder());
      assertFalse(model.hasEncoder());
    }
  }

  @Test
  void tellsTheProgress() throws IOException {
    List<Double> heard = new ArrayList<>();
    LlamaModel.open(MODEL, new LlamaModel.Options(OptionalInt.of(0), false, true, heard::add)).close();
    assertEquals(1.0, heard.getLast());
    for (int i = 0; i < heard.size(); i++) {
      assertTrue(heard.get(i) >= (i == 0 ? 0 : heard.get(i - 1)) && heard.get(i) <= 1, heard::toString);
    }
  }

  @Test
  void whatTheListenerThrowsEndsTheLoading() {
    IllegalStateException thrown = new IllegalStateException("enough");
    LlamaModel.Options options = new LlamaModel.Options(OptionalInt.empty(), false, true, _ -> {
      throw thrown;
    });
    assertEquals(thrown, assertThrows(IllegalStateException.class, () -> LlamaModel.open(MODEL, options).close()));
    AssertionError error = new AssertionError("much too much");
    LlamaModel.Options erring = new LlamaModel.Options(OptionalInt.empty(), false, true, _ -> {
      throw error;
    });
    assertEquals(error, assertThrows(AssertionError.class, () -> LlamaModel.open(MODEL, erring).close()));
  }

  @Test
  void aVocabularyDoesNotDecode() throws IOException {
    try (LlamaModel model = LlamaModel.open(MODEL, LlamaModel.Options.vocabulary())) {
      assertEquals(330, model.tokens().size());
      assertThrows(IllegalStateException.class, () -> model.context(SMALL));
      assertThrows(IllegalStateException.class, () -> model.adapter(ADAPTER));
    }
  }

  @Test
  void refusesWhatIsNotThere() {
    assertTrue(failure(temp.resolve("missing.gguf")).contains("No such file"));
    failure(temp);
  }

  @Test
  void refusesWhatIsNoModel() throws IOException {
    Path file = temp.resolve("garbage.gguf");
    Files.writeString(file, "this is not a model ".repeat(100));
    assertTrue(failure(file).contains("invalid magic"));
    byte[] random = new byte[4096];
    new Random(1).nextBytes(random);
    System.arraycopy("GGUF\3\0\0\0".getBytes(StandardCharsets.ISO_8859_1), 0, random, 0, 8);
    Files.write(file, random);
    failure(file);
    Files.write(file, new byte[0]);
    failure(file);
    assertTrue(failure(ADAPTER).contains("key not found in model: llama.context_length"));
  }

  @Test
  void refusesAFileThatWasCutShort() throws IOException {
    byte[] whole = Files.readAllBytes(MODEL);
    Path file = temp.resolve("short.gguf");
    for (int length : new int[] {
      3,
      20,
      100,
      1000,
      5000,
      8000,
      whole.length / 2,
      whole.length - 4096,
      whole.length - 32
    }) {
      Files.write(file, Arrays.copyOf(whole, length));
      failure(file);
    }
    assertTrue(failure(file).contains("not within the file bounds"), () -> failure(file));
  }

  @Test
  void refusesWhatIsNoAdapter() throws IOException {
    Path cut = temp.resolve("cut.gguf");
    byte[] whole = Files.readAllBytes(ADAPTER);
    Files.write(cut, Arrays.copyOf(whole, whole.length / 3));
    try (LlamaModel model = LlamaModel.open(MODEL, LlamaModel.Options.defaults())) {
      for (Path file : List.of(cut, MODEL, temp.resolve("missing.gguf"))) {
        IOException e = assertThrows(IOException.class, () -> model.adapter(file));
        assertEquals(1, e.getMessage().lines().count(), e.getMessage());
        assertTrue(e.getMessage().startsWith(file + ": llama.cpp cannot load it: "), e.getMessage());
        assertFalse(e.getMessage().contains("no reason given"), e.getMessage());
      }
      assertTrue(
        assertThrows(IOException.class, () -> model.adapter(MODEL))
          .getMessage()
          .contains("'adapter'")
      );
    }
  }

  @Test
  void closingEndsItsContexts() throws IOException {
    LlamaModel model = LlamaModel.open(MODEL, LlamaModel.Options.defaults());
    LlamaContext first = model.context(SMALL);
    LlamaContext second = model.context(SMALL);
    second.close();
    model.close();
    model.close();
    assertThrows(IllegalStateException.class, first::logits);
    first.close();
    assertThrows(IllegalStateException.class, () -> model.context(SMALL));
    assertThrows(IllegalStateException.class, () -> model.adapter(ADAPTER));
    assertEquals(2, model.layers());
  }

  @Test
  void findsTheProcessor() throws IOException {
    List<Device> devices = LlamaLibrary.load().devices();
    Device cpu = devices
      .stream()
      .filter(d -> d.kind() == Device.Kind.CPU)
      .findFirst()
      .orElseThrow();
    assertEquals("CPU", cpu.name());
    assertFalse(cpu.description().isBlank());
    assertTrue(cpu.totalBytes() > 0 && cpu.freeBytes() > 0 && cpu.freeBytes() <= cpu.totalBytes(), cpu::toString);
  }
}
