package dev.attar.llama;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Random;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class NativeBundleTest {

  @TempDir
  private Path temp;

  private final Map<String, byte[]> files = new HashMap<>();
  private final AtomicInteger opened = new AtomicInteger();
  private Path cache;

  @BeforeEach
  void makeFiles() throws Exception {
    cache = temp.resolve("a").resolve("cache");
    Random random = new Random(1);
    StringBuilder index = new StringBuilder();
    for (String name : List.of("libone.so", "lib two.so")) {
      byte[] content = new byte[200_000];
      random.nextBytes(content);
      files.put(name, content);
      String sha256 = HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(content));
      index.append(sha256).append(" 200000 ").append(name).append('\n');
    }
    files.put("index", index.toString().getBytes(StandardCharsets.UTF_8));
  }

  private NativeBundle bundle() throws IOException {
    return NativeBundle.of(name -> {
      opened.incrementAndGet();
      return files.containsKey(name) ? new ByteArrayInputStream(files.get(name)) : null;
    }).orElseThrow();
  }

  private void assertUnpacked(Path folder) throws IOException {
    assertArrayEquals(files.get("libone.so"), Files.readAllBytes(folder.resolve("libone.so")));
    assertArrayEquals(files.get("lib two.so"), Files.readAllBytes(folder.resolve("lib two.so")));
  }

  private void assertNothingElse() throws IOException {
    try (Stream<Path> all = Files.list(cache)) {
      assertEquals(
        List.of(bundle().hash(), bundle().hash() + ".lock"),
        all
          .map(path -> path.getFileName().toString())
          .sorted()
          .toList()
      );
    }
  }

  @Test
  void unpacksOnce() throws IOException {
    Path folder = bundle().unpack(cache);
    assertEquals(cache.resolve(bundle().hash()), folder);
    assertUnpacked(folder);
    assertNothingElse();
    NativeBundle again = bundle();
    int before = opened.get();
    assertEquals(folder, again.unpack(cache));
    assertEquals(before, opened.get());
  }

  @Test
  void otherContentGoesToAnotherFolder() throws Exception {
    Path folder = bundle().unpack(cache);
    String index = new String(files.get("index"), StandardCharsets.UTF_8);
    files.put("index", index.lines().findFirst().orElseThrow().getBytes(StandardCharsets.UTF_8));
    assertFalse(bundle().unpack(cache).equals(folder));
  }

  @Test
  void repairsAFileOfAnotherSize() throws IOException {
    Path folder = bundle().unpack(cache);
    Files.write(folder.resolve("libone.so"), new byte[10]);
    assertUnpacked(bundle().unpack(cache));
    assertNothingElse();
  }

  @Test
  void repairsAMissingFile() throws IOException {
    Path folder = bundle().unpack(cache);
    Files.delete(folder.resolve("lib two.so"));
    assertUnpacked(bundle().unpack(cache));
    assertNothingElse();
  }

  @Test
  void goesOnAfterAProcessThatWasKilledInBetween() throws IOException {
    Path fresh = Files.createDirectories(cache.resolve(bundle().hash() + ".new"));
    Files.write(fresh.resolve("libone.so"), new byte[10]);
    Files.createDirectories(cache.resolve(bundle().hash() + ".old"));
    assertUnpacked(bundle().unpack(cache));
    assertNothingElse();
  }

  @Test
  void threadsMayUnpackAtOnce() throws Exception {
    List<Callable<Path>> tasks = new ArrayList<>();
    for (int i = 0; i < 8; i++) {
      tasks.add(() -> bundle().unpack(cache));
    }
    try (ExecutorService threads = Executors.newFixedThreadPool(8)) {
      for (Future<Path> folder : threads.invokeAll(tasks)) {
        assertUnpacked(folder.get());
      }
    }
    assertNothingElse();
  }

  @Test
  void processesMayUnpackAtOnce() throws Exception {
    List<Callable<String>> tasks = new ArrayList<>();
    for (int i = 0; i < 3; i++) {
      tasks.add(() -> {
        try (WorkerProcess worker = TestWorkers.start(UnpackMain.class, cache.toString())) {
          return worker.receive().input().readUTF();
        }
      });
    }
    try (ExecutorService threads = Executors.newFixedThreadPool(3)) {
      for (Future<String> version : threads.invokeAll(tasks)) {
        assertTrue(version.get().startsWith(LlamaLibrary.VERSION), version.get());
      }
    }
  }

  /** Loads the bundled libraries by way of the cache folder in its argument and tells their version. */
  static final class UnpackMain {

    private UnpackMain() {}

    public static void main(String[] args) throws IOException {
      WorkerChannel channel = WorkerChannel.open();
      Optional<NativeBundle> bundle = NativeBundle.of(Platform.host());
      LlamaLibrary.Places places = new LlamaLibrary.Places(null, bundle, Path.of(args[0]), List.of());
      String version = LlamaLibrary.load(places).version();
      channel.send(Frame.of(0, out -> out.writeUTF(version)));
    }
  }

  @Test
  void refusesContentThatIsNotWhatTheIndexSays() {
    files.get("libone.so")[77] ^= 1;
    IOException e = assertThrows(IOException.class, () -> bundle().unpack(cache));
    assertTrue(e.getMessage().contains("libone.so has SHA-256"), e.getMessage());
    assertFalse(Files.exists(cache.resolve("libone.so")));
  }

  @Test
  void refusesAMissingFile() {
    files.remove("libone.so");
    IOException e = assertThrows(IOException.class, () -> bundle().unpack(cache));
    assertTrue(e.getMessage().contains("libone.so is missing"), e.getMessage());
  }

  @Test
  void isEmptyWithoutAnIndex() throws IOException {
    assertEquals(Optional.empty(), NativeBundle.of(_ -> null));
  }

  @Test
  void saysWhenTheCacheCannotBeWritten() throws IOException {
    Path file = Files.createFile(temp.resolve("file"));
    assertThrows(IOException.class, () -> bundle().unpack(file.resolve("cache")));
    Path folder = bundle().unpackForThisProcess();
    assertUnpacked(folder);
  }
}
