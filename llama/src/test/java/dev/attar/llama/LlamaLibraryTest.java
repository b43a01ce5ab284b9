package dev.attar.llama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

class LlamaLibraryTest {

  private static final Platform HOST = Platform.host();

  @TempDir
  private Path temp;

  /**
   * The libraries find each other by their names among those that are loaded. So the process's own ones must be the first: other
   * test classes decode with them.
   */
  @BeforeAll
  static void loadTheOwnLibraries() throws IOException {
    LlamaLibrary.load();
  }

  @AfterAll
  static void giveTheLogBack() throws IOException {
    LlamaLibrary.load().captureLog();
  }

  private static NativeBundle bundle() throws IOException {
    return NativeBundle.of(HOST).orElseThrow(() ->
      new AssertionError("this build carries no libraries: it ran without npm or without a network")
    );
  }

  private static LlamaLibrary.Places named(Path folder) {
    return new LlamaLibrary.Places(folder.toString(), Optional.empty(), Path.of("unused"), List.of());
  }

  private String failure(Path folder) {
    IOException e = assertThrows(IOException.class, () -> LlamaLibrary.load(named(folder)));
    assertEquals(1, e.getMessage().lines().count(), e.getMessage());
    assertTrue(e.getMessage().contains(folder.toString()), e.getMessage());
    return e.getMessage();
  }

  /** The libraries in a folder in which the test may change them. */
  private Path copy() throws IOException {
    return bundle().unpack(temp.resolve("copy"));
  }

  private static Path library(Path folder, String stem) throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files
        .filter(f -> HOST.isLibrary(f.getFileName().toString(), stem))
        .findFirst()
        .orElseThrow();
    }
  }

  @Test
  void loadsOnce() throws IOException {
    assertSame(LlamaLibrary.load(), LlamaLibrary.load());
  }

  @Test
  void loadsTheBundledLibraries() throws IOException {
    Path cache = temp.resolve("cache");
    LlamaLibrary library = LlamaLibrary.load(new LlamaLibrary.Places(" ", Optional.of(bundle()), cache, List.of()));
    assertTrue(library.version().startsWith(LlamaLibrary.VERSION), library.version());
    assertEquals(Optional.of(cache.resolve(bundle().hash())), library.folder());
  }

  @Test
  void loadsTheBundledLibrariesWhereNoCacheCanBe() throws IOException {
    Path file = Files.createFile(temp.resolve("file"));
    LlamaLibrary library = LlamaLibrary.load(
      new LlamaLibrary.Places(null, Optional.of(bundle()), file.resolve("cache"), List.of())
    );
    assertTrue(library.version().startsWith(LlamaLibrary.VERSION), library.version());
  }

  @Test
  void theNamedFolderComesFirst() throws IOException {
    Path folder = copy();
    LlamaLibrary library = LlamaLibrary.load(
      new LlamaLibrary.Places(folder.toString(), Optional.of(bundle()), temp.resolve("cache"), List.of())
    );
    assertEquals(Optional.of(folder), library.folder());
  }

  @Test
  @EnabledOnOs(
    value = OS.LINUX,
    disabledReason = "elsewhere a library's name alone does not give its dependencies' symbols"
  )
  void asksTheSystemLast() throws IOException {
    String name = library(copy(), "llama").toString();
    LlamaLibrary library = LlamaLibrary.load(
      new LlamaLibrary.Places(null, Optional.empty(), temp, List.of("libattar-has-no-such.so", name))
    );
    assertEquals(Optional.empty(), library.folder());
    assertTrue(library.version().startsWith(LlamaLibrary.VERSION), library.version());
  }

  @Test
  void saysHowToGetLibraries() {
    LlamaLibrary.Places nowhere = new LlamaLibrary.Places(
      null,
      Optional.empty(),
      temp,
      List.of("libattar-has-no-such.so")
    );
    String message = assertThrows(IOException.class, () -> LlamaLibrary.load(nowhere)).getMessage();
    assertTrue(message.contains("ATTAR_LLAMA_LIB"), message);
    assertTrue(message.contains("libattar-has-no-such.so"), message);
    assertTrue(message.contains(LlamaLibrary.VERSION), message);
  }

  @Test
  void refusesANamedFolderThatIsNone() throws IOException {
    assertTrue(failure(temp.resolve("nothing")).contains("found nothing, expected the folder"));
    assertTrue(failure(Files.createFile(temp.resolve("file"))).contains("found a file, expected the folder"));
    assertTrue(failure(temp).contains("no " + HOST.libraryName("ggml-base")));
  }

  @Test
  void refusesADamagedLibrary() throws IOException {
    Path folder = copy();
    Files.writeString(library(folder, "llama"), "not a library");
    assertTrue(failure(folder).contains("cannot be loaded: "));
  }

  @Test
  @EnabledOnOs(value = OS.LINUX, disabledReason = "changes the machine in an ELF header")
  void refusesALibraryForAnotherMachine() throws IOException {
    Path folder = copy();
    Path file = library(folder, "ggml-base");
    byte[] elf = Files.readAllBytes(file);
    elf[18] = (byte) (HOST.machine().equals("x64") ? 183 : 62); // e_machine: AArch64, x86-64
    Files.write(file, elf);
    assertTrue(failure(folder).contains("cannot be loaded: "));
  }

  @Test
  void refusesAnotherRelease() throws IOException {
    Path folder = copy();
    Path file = library(folder, "llama");
    byte[] bytes = Files.readAllBytes(file);
    String text = new String(bytes, StandardCharsets.ISO_8859_1);
    int at = text.indexOf("0.5.0-dev\0");
    assertTrue(at > 0);
    bytes[at + 2] = '4';
    Files.write(file, bytes);
    String message = failure(folder);
    assertTrue(message.contains("llama.cpp 0.4.0-dev, expected 0.5.0"), message);
  }

  @Test
  void refusesALibraryWithoutAVersion() throws IOException {
    Path folder = copy();
    Files.write(library(folder, "llama"), Files.readAllBytes(library(folder, "ggml-base")));
    String message = failure(folder);
    assertTrue(message.contains("without llama_version"), message);
  }

  @Test
  void keepsTheLogToItself() throws IOException {
    LlamaLibrary library = LlamaLibrary.load(
      new LlamaLibrary.Places(null, Optional.of(bundle()), temp.resolve("cache"), List.of())
    );
    library.loadBackends();
    assertTrue(String.join("\n", library.log()).contains("CPU backend"), () -> library.log().toString());
  }
}
