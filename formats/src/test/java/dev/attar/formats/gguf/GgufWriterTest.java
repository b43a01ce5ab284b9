package dev.attar.formats.gguf;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Tensor;
import dev.attar.formats.TensorInfo;
import dev.attar.formats.TensorType;
import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.charset.Charset;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

class GgufWriterTest {

  private static final Metadata NOTHING = Metadata.of(Map.of());
  private static final List<TensorInfo> ONE = List.of(new TensorInfo("t", TensorType.F32, new long[] { 3 }));

  @TempDir
  private Path folder;

  private List<String> files() throws IOException {
    try (Stream<Path> files = Files.list(folder)) {
      return files
        .map(f -> f.getFileName().toString())
        .sorted()
        .toList();
    }
  }

  @ParameterizedTest
  @ValueSource(ints = { 1, 2, 3, 4, 5, 6, 7, 8 })
  void whatIsWrittenIsReadBack(int seed) throws IOException {
    Random random = new Random(seed);
    Metadata metadata = RandomModels.metadata(random, true);
    if (seed % 2 == 0) {
      metadata = metadata.with("general.alignment", MetadataValue.uint32(1L << random.nextInt(10)));
    }
    List<TensorInfo> tensors = RandomModels.tensors(random);
    List<byte[]> contents = RandomModels.contents(random, tensors);
    Path out = folder.resolve("out.gguf");
    write(out, metadata, tensors, contents);

    assertEquals(List.of("out.gguf"), files());
    GgufLayout layout = GgufLayout.of(metadata, tensors);
    assertEquals(layout.fileBytes(), Files.size(out));
    try (GgufModel model = GgufModel.open(out)) {
      assertEquals(metadata, model.metadata());
      assertEquals(List.copyOf(metadata.values().keySet()), List.copyOf(model.metadata().values().keySet()));
      assertEquals(tensors, model.tensors().stream().map(Tensor::info).toList());
      assertEquals(layout.headerBytes(), model.parts().getFirst().dataOffset());
      assertEquals(layout.alignment(), model.parts().getFirst().alignment());
      for (int i = 0; i < tensors.size(); i++) {
        byte[] bytes = new byte[contents.get(i).length];
        model.tensors().get(i).readRows(0, (int) tensors.get(i).rows(), bytes, 0);
        assertArrayEquals(contents.get(i), bytes);
      }
    }
  }

  @Test
  void whatTheCheckRefusesNeverHasTheName() throws IOException, InterruptedException {
    Path out = folder.resolve("out.gguf");
    Files.writeString(out, "precious");
    try (GgufWriter writer = GgufWriter.create(out, NOTHING, ONE, true)) {
      writer.write(0, 0, new byte[12], 0, 12);
      IOException e = assertThrows(IOException.class, () ->
        writer.commit(written -> {
          try (GgufModel model = GgufModel.open(written)) {
            throw new IOException("refused " + model.tensors().size());
          }
        })
      );
      assertEquals("refused 1", e.getMessage());
      assertEquals(List.of("out.gguf"), files());
      assertThrows(IOException.class, () -> writer.commit());
    }
    assertEquals("precious", Files.readString(out));
    try (GgufWriter writer = GgufWriter.create(out, NOTHING, ONE, true)) {
      writer.write(0, 0, new byte[12], 0, 12);
      assertThrows(IllegalStateException.class, () ->
        writer.commit(_ -> {
          throw new IllegalStateException();
        })
      );
    }
    assertEquals("precious", Files.readString(out));
    assertEquals(List.of("out.gguf"), files());
    try (GgufWriter writer = GgufWriter.create(out, NOTHING, ONE, true)) {
      writer.write(0, 0, new byte[12], 0, 12);
      writer.commit(written -> assertEquals("precious", Files.readString(out), written.toString()));
    }
    GgufModel.open(out).close();
  }

  static void write(Path out, Metadata metadata, List<TensorInfo> tensors, List<byte[]> contents) throws IOException {
    try (GgufWriter writer = GgufWriter.create(out, metadata, tensors, false)) {
      for (int i = 0; i < tensors.size(); i++) {
        writer.write(i, 0, contents.get(i), 0, contents.get(i).length);
      }
      writer.commit();
    }
  }

  @Test
  void pieceByPieceFromSeveralThreadsInAnyOrder() throws Exception {
    Random random = new Random(11);
    Metadata metadata = RandomModels.metadata(random, true);
    List<TensorInfo> tensors = RandomModels.tensors(random);
    List<byte[]> contents = RandomModels.contents(random, tensors);
    Path whole = folder.resolve("whole.gguf");
    write(whole, metadata, tensors, contents);

    record Piece(int tensor, int from, int length) {}
    List<Piece> pieces = new ArrayList<>();
    for (int i = 0; i < tensors.size(); i++) {
      for (int from = 0; from < contents.get(i).length; ) {
        int length = Math.min(1 + random.nextInt(500), contents.get(i).length - from);
        pieces.add(new Piece(i, from, length));
        from += length;
      }
    }
    Collections.shuffle(pieces, random);
    Path out = folder.resolve("out.gguf");
    try (
      GgufWriter writer = GgufWriter.create(out, metadata, tensors, false);
      ExecutorService threads = Executors.newFixedThreadPool(4)
    ) {
      List<Future<?>> done = new ArrayList<>();
      for (Piece p : pieces) {
        done.add(
          threads.submit(() -> {
            writer.write(p.tensor, p.from, contents.get(p.tensor), p.from, p.length);
            return null;
          })
        );
      }
      for (Future<?> piece : done) {
        piece.get();
      }
      writer.commit();
    }
    assertEquals(-1, Files.mismatch(whole, out));
  }

  @Test
  void everyByteMustBeWritten() throws IOException {
    Path out = folder.resolve("out.gguf");
    try (GgufWriter writer = GgufWriter.create(out, NOTHING, ONE, false)) {
      writer.write(0, 0, new byte[4], 0, 4);
      writer.write(0, 8, new byte[4], 0, 4);
      IllegalStateException e = assertThrows(IllegalStateException.class, writer::commit);
      assertEquals(out + ": tensor t lacks its bytes from 4", e.getMessage());
      assertThrows(IndexOutOfBoundsException.class, () -> writer.write(0, 8, new byte[5], 0, 5));
      assertThrows(IndexOutOfBoundsException.class, () -> writer.write(1, 0, new byte[1], 0, 1));
      writer.write(0, 2, new byte[7], 0, 7); // over both
      writer.commit();
      assertThrows(IllegalStateException.class, writer::commit);
      assertThrows(IllegalStateException.class, () -> writer.write(0, 0, new byte[1], 0, 1));
    }
    assertEquals(List.of("out.gguf"), files());
  }

  @Test
  void aClosedWriterLeavesNothing() throws IOException {
    Path out = folder.resolve("out.gguf");
    try (GgufWriter writer = GgufWriter.create(out, NOTHING, ONE, false)) {
      writer.write(0, 0, new byte[12], 0, 12);
      assertEquals(1, files().size());
      assertFalse(Files.exists(out));
    }
    assertEquals(List.of(), files());
  }

  @Test
  void anExistingOutputIsKeptUnlessOverwritten() throws IOException {
    Path out = Files.writeString(folder.resolve("out.gguf"), "old");
    String message = assertThrows(FileAlreadyExistsException.class, () ->
      GgufWriter.create(out, NOTHING, ONE, false)
    ).getMessage();
    assertEquals(out + ": already exists, use --overwrite to replace it", message);
    assertEquals("old", Files.readString(out));
    try (GgufWriter writer = GgufWriter.create(out, NOTHING, ONE, true)) {
      writer.write(0, 0, new byte[12], 0, 12);
      assertEquals("old", Files.readString(out));
      writer.commit();
    }
    assertEquals(List.of("out.gguf"), files());
    GgufModel.open(out).close();
  }

  @Test
  void anOutputThatAppearsMeanwhileIsKept() throws IOException {
    Path out = folder.resolve("out.gguf");
    try (GgufWriter writer = GgufWriter.create(out, NOTHING, List.of(), false)) {
      Files.writeString(out, "other");
      String message = assertThrows(IOException.class, writer::commit).getMessage();
      assertEquals(out + ": cannot be written: already exists, use --overwrite to replace it", message);
    }
    assertEquals("other", Files.readString(out));
    assertEquals(List.of("out.gguf"), files());
  }

  @Test
  void theModelBeingReadCanBeReplaced() throws IOException {
    assumeTrue(!System.getProperty("os.name").startsWith("Windows"), "a mapped file cannot be replaced on Windows");
    Path file = folder.resolve("model.gguf");
    write(file, NOTHING, ONE, List.of(new byte[] { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 }));
    try (GgufModel model = GgufModel.open(file); GgufWriter writer = GgufWriter.create(file, NOTHING, ONE, true)) {
      byte[] bytes = new byte[12];
      model.tensors().getFirst().readRows(0, 1, bytes, 0);
      writer.write(0, 0, bytes, 0, 12);
      writer.commit();
      byte[] again = new byte[12];
      model.tensors().getFirst().readRows(0, 1, again, 0);
      assertArrayEquals(bytes, again);
    }
  }

  @Test
  void aSymbolicLinkIsFollowed() throws IOException {
    Path real = Files.createDirectory(folder.resolve("real"));
    Path target = Files.writeString(real.resolve("model.gguf"), "old");
    Path link = folder.resolve("link.gguf");
    try {
      Files.createSymbolicLink(link, target);
    } catch (IOException | UnsupportedOperationException e) {
      assumeTrue(false, "no symbolic links here: " + e);
    }
    try (GgufWriter writer = GgufWriter.create(link, NOTHING, List.of(), true)) {
      writer.commit();
    }
    assertTrue(Files.isSymbolicLink(link));
    GgufModel.open(target).close();
  }

  @Test
  void outputsThatCannotBeAreRefusedAtOnce() throws IOException {
    Path nowhere = folder.resolve("none").resolve("out.gguf");
    String message = assertThrows(IOException.class, () -> GgufWriter.create(nowhere, NOTHING, ONE, true)).getMessage();
    assertEquals(nowhere + ": the folder " + nowhere.toAbsolutePath().getParent() + " does not exist", message);

    message = assertThrows(IOException.class, () -> GgufWriter.create(folder, NOTHING, ONE, true)).getMessage();
    assertEquals(folder + ": is a folder, expected the name of a file to write", message);

    Path below = Files.writeString(folder.resolve("file"), "").resolve("out.gguf");
    message = assertThrows(IOException.class, () -> GgufWriter.create(below, NOTHING, ONE, true)).getMessage();
    assertTrue(message.startsWith(below + ": "), message);

    List<TensorInfo> huge = List.of(new TensorInfo("t", TensorType.F32, new long[] { 1L << 30, 1L << 28 }));
    Path out = folder.resolve("out.gguf");
    message = assertThrows(IOException.class, () -> GgufWriter.create(out, NOTHING, huge, true)).getMessage();
    assertTrue(
      message.matches(".*out\\.gguf: needs 1,152,921,504,606,847,\\d+ bytes, only [\\d,]+ are free.*"),
      message
    );
    assertEquals(List.of("file"), files());
  }

  @Test
  void aProcessToldToEndLeavesNothing() throws Exception {
    Path out = folder.resolve("out.gguf");
    Process process = child("wait", out.toString());
    assertEquals('r', process.getInputStream().read());
    assertEquals(1, files().size());
    if (process.supportsNormalTermination()) {
      process.destroy();
    } else {
      process.getOutputStream().close(); // the child then exits by itself
    }
    process.waitFor();
    assertEquals(List.of(), files());
  }

  @Test
  void aFailedWriteNamesTheOutputAndLeavesNothing() throws Exception {
    assumeTrue(Files.isExecutable(Path.of("/bin/sh")), "limits the size of files by the shell");
    Path out = folder.resolve("out.gguf");
    Process process = child("fill", out.toString());
    String output = new String(process.getInputStream().readAllBytes(), Charset.defaultCharset());
    assertEquals(0, process.waitFor(), output);
    assertTrue(output.startsWith(out + ": cannot be written: "), output);
    assertEquals(2, output.lines().distinct().count(), output); // the message and "done"
    assertEquals(List.of(), files());
  }

  /** Starts {@link Child} in a JVM of its own. */
  private static Process child(String... arguments) throws IOException, URISyntaxException {
    List<String> command = new ArrayList<>();
    if (arguments[0].equals("fill")) {
      command.addAll(List.of("/bin/sh", "-c", "ulimit -f 2000 && exec \"$@\"", "sh"));
    }
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.add("-cp");
    List<String> classes = new ArrayList<>();
    for (Class<?> c : List.of(GgufWriter.class, GgufWriterTest.class)) {
      classes.add(Path.of(c.getProtectionDomain().getCodeSource().getLocation().toURI()).toString());
    }
    command.addAll(List.of(String.join(System.getProperty("path.separator"), classes), Child.class.getName()));
    command.addAll(List.of(arguments));
    return new ProcessBuilder(command).redirectErrorStream(true).start();
  }

  /** What the processes of these tests run. */
  static final class Child {

    private Child() {}

    public static void main(String[] args) throws IOException {
      Path out = Path.of(args[1]);
      List<TensorInfo> large = List.of(new TensorInfo("t", TensorType.I8, new long[] { 8 << 20 }));
      GgufWriter writer = GgufWriter.create(out, NOTHING, large, false);
      byte[] bytes = new byte[8 << 20];
      if (args[0].equals("wait")) {
        writer.write(0, 0, bytes, 0, 1000);
        System.out.print('r');
        System.out.flush();
        System.exit(System.in.read());
      }
      for (int i = 0; i < 2; i++) {
        try {
          writer.write(0, 0, bytes, 0, bytes.length);
        } catch (IOException e) {
          System.out.println(e.getMessage());
        }
      }
      writer.close();
      System.out.println("done");
    }
  }

  @Test
  void whatLlamaCppCannotReadIsRefused() {
    List<TensorInfo> twice = List.of(ONE.getFirst(), ONE.getFirst());
    assertThrows(IllegalArgumentException.class, () -> GgufLayout.of(NOTHING, twice));
    List<TensorInfo> longName = List.of(new TensorInfo("é".repeat(32), TensorType.F32, new long[] { 1 }));
    assertThrows(IllegalArgumentException.class, () -> GgufLayout.of(NOTHING, longName));
    Metadata empty = NOTHING.with("", MetadataValue.bool(true));
    assertThrows(IllegalArgumentException.class, () -> GgufLayout.of(empty, ONE));
    Metadata odd = NOTHING.with("general.alignment", MetadataValue.uint32(24));
    assertThrows(IllegalArgumentException.class, () -> GgufLayout.of(odd, ONE));
    Metadata surrogate = NOTHING.with("k", MetadataValue.string("\uD800"));
    assertThrows(IllegalArgumentException.class, () -> GgufLayout.of(surrogate, ONE));
    List<TensorInfo> endless = List.of(
      new TensorInfo("a", TensorType.I8, new long[] { Long.MAX_VALUE }),
      new TensorInfo("b", TensorType.I8, new long[] { Long.MAX_VALUE })
    );
    assertThrows(IllegalArgumentException.class, () -> GgufLayout.of(NOTHING, endless));
  }
}
