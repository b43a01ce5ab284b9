package dev.attar.formats.architecture;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.fasterxml.jackson.annotation.JsonKey;
import com.fasterxml.jackson.core.Versioned;
import com.fasterxml.jackson.databind.ObjectMapper;
import dev.attar.formats.OutputFiles;
import java.io.IOException;
import java.net.URISyntaxException;
import java.nio.charset.Charset;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class OutputFolderTest {

  private static final byte[] BYTES = { 1, 2, 3 };

  @TempDir
  private Path folder;

  private Path out;

  @BeforeEach
  void name() {
    out = folder.resolve("out");
  }

  private List<String> files() throws IOException {
    try (Stream<Path> files = Files.walk(folder)) {
      return files
        .filter(file -> !file.equals(folder))
        .map(file -> folder.relativize(file).toString())
        .sorted()
        .toList();
    }
  }

  private void write(Path to, List<Path> sources) throws IOException {
    try (OutputFolder output = OutputFolder.create(to, true, sources, 10)) {
      output.write("new.safetensors", BYTES);
      output.commit();
    }
  }

  private static Path checkpoint(Path folder) throws IOException {
    Files.createDirectories(folder);
    Files.writeString(folder.resolve("config.json"), "{\"architectures\": [\"A\"]}");
    Files.writeString(folder.resolve("model.safetensors"), "old");
    return folder;
  }

  @Test
  void theNameIsGivenLast() throws IOException {
    try (OutputFolder output = OutputFolder.create(out, false, List.of(), 10)) {
      output.write("a", BYTES);
      assertTrue(Files.notExists(out));
      assertEquals(folder, output.path().getParent());
      output.commit();
    }
    assertEquals(List.of("out", "out/a"), files());
    assertEquals(3, Files.size(out.resolve("a")));
  }

  @Test
  void withoutCommitNothingIsLeft() throws IOException {
    try (OutputFolder output = OutputFolder.create(out, false, List.of(), 10)) {
      output.write("a", BYTES);
      assertEquals(2, files().size());
    }
    assertEquals(List.of(), files());
  }

  @Test
  void onlyFilesThatBelongToTheWeightsAreCopied() throws IOException {
    Path source = Files.createDirectory(folder.resolve("source"));
    List<String> wanted = List.of(
      "added_tokens.json",
      "chat_template.jinja",
      "chat_template.json",
      "generation_config.json",
      "merges.txt",
      "qwen.tiktoken",
      "sentencepiece.bpe.model",
      "special_tokens_map.json",
      "tekken.json",
      "tokenizer.json",
      "tokenizer.model",
      "tokenizer.model.v3",
      "tokenizer_config.json",
      "vocab.json"
    );
    List<String> others = List.of(
      "LICENSE",
      "README.md",
      "config.json",
      "consolidated.safetensors",
      "imatrix.gguf",
      "model.safetensors",
      "optimizer.pt"
    );
    for (String name : Stream.concat(wanted.stream(), others.stream()).toList()) {
      Files.writeString(source.resolve(name), name);
    }
    Files.createDirectories(source.resolve("tokenizer_folder"));
    Files.writeString(Files.createDirectories(source.resolve("additional_chat_templates")).resolve("t.jinja"), "t");
    try (OutputFolder output = OutputFolder.create(out, false, List.of(), 10)) {
      output.copyCompanions(source);
      output.commit();
    }
    List<String> expected = new ArrayList<>(wanted);
    expected.addAll(List.of("additional_chat_templates", "additional_chat_templates/t.jinja"));
    assertEquals(
      expected.stream().sorted().toList(),
      files()
        .stream()
        .filter(name -> name.startsWith("out/"))
        .map(name -> name.substring(4))
        .toList()
    );
    assertEquals("tokenizer.json", Files.readString(out.resolve("tokenizer.json")));
  }

  private void assertRefused(boolean overwrite, List<Path> sources, String expected) throws IOException {
    List<String> before = files();
    IOException e = assertThrows(IOException.class, () -> OutputFolder.create(out, overwrite, sources, 10));
    assertEquals(out + ": " + expected, e.getMessage());
    assertEquals(before, files());
  }

  @Test
  void whatIsThereIsRefusedUnlessOverwritten() throws IOException {
    Files.createDirectory(out);
    assertRefused(false, List.of(), "already exists, use --overwrite to replace it");
    write(out, List.of());
    assertEquals(List.of("out", "out/new.safetensors"), files());
    checkpoint(out);
    Files.createDirectory(out.resolve("additional_chat_templates"));
    Files.writeString(out.resolve("additional_chat_templates/a"), "");
    assertRefused(false, List.of(), "already exists, use --overwrite to replace it");
    write(out, List.of());
    assertEquals(List.of("out", "out/new.safetensors"), files());
  }

  @Test
  void onlyACheckpointIsReplaced() throws IOException {
    String neither =
      "is neither empty nor a checkpoint, with a config.json that names architectures, and is not replaced";
    Files.writeString(Files.createDirectory(out).resolve("diary.txt"), "dear");
    assertRefused(true, List.of(), neither);
    for (String config : List.of("{}", "[1]", "{\"architectures\"", "")) {
      Files.writeString(out.resolve("config.json"), config);
      assertRefused(true, List.of(), neither);
    }
    checkpoint(out);
    Files.createDirectory(out.resolve("photos"));
    assertRefused(true, List.of(), "has the folder photos in it, as no checkpoint has, and is not replaced");
    Files.delete(out.resolve("photos"));
    assertRefused(true, List.of(), "has the file diary.txt in it, which belongs to no checkpoint, and is not replaced");
    assertEquals("dear", Files.readString(out.resolve("diary.txt")));
  }

  @Test
  void whatIsReadIsNotReplaced() throws IOException {
    checkpoint(out);
    Path file = out.resolve("model.safetensors");
    assertRefused(true, List.of(folder, out), "holds " + out + ", which is read, and is not replaced");
    assertRefused(true, List.of(file), "holds " + file + ", which is read, and is not replaced");
    Path other = checkpoint(folder.resolve("out-2"));
    write(out, List.of(other, folder));
    assertEquals(
      List.of("out", "out-2", "out-2/config.json", "out-2/model.safetensors", "out/new.safetensors"),
      files()
    );
  }

  @Test
  void linksAreFollowedToTheOutputButNotWhenItIsDeleted() throws IOException {
    Path real = checkpoint(folder.resolve("real"));
    Path kept = Files.writeString(Files.createDirectory(folder.resolve("kept")).resolve("file"), "");
    try {
      Files.createSymbolicLink(out, real);
      Files.createSymbolicLink(real.resolve("tokenizer.link"), kept.getParent());
    } catch (IOException | UnsupportedOperationException e) {
      assumeTrue(false, "no symbolic links here: " + e);
    }
    assertRefused(true, List.of(real), "holds " + real + ", which is read, and is not replaced");
    write(out, List.of());
    assertTrue(Files.isSymbolicLink(out));
    assertEquals(List.of("kept", "kept/file", "out", "real", "real/new.safetensors"), files());
  }

  @Test
  void aFolderThatAppearsMeanwhileIsKept() throws IOException {
    try (OutputFolder output = OutputFolder.create(out, false, List.of(), 10)) {
      checkpoint(out);
      String message = assertThrows(IOException.class, output::commit).getMessage();
      assertEquals(out + ": already exists, use --overwrite to replace it", message);
    }
    assertEquals(List.of("out", "out/config.json", "out/model.safetensors"), files());
    try (OutputFolder output = OutputFolder.create(out, true, List.of(), 10)) {
      Files.writeString(Files.createDirectory(out.resolve("photos")).resolve("cat"), "");
      assertThrows(IOException.class, output::commit);
    }
    assertEquals(List.of("out", "out/config.json", "out/model.safetensors", "out/photos", "out/photos/cat"), files());
  }

  @Test
  void outputsThatCannotBeAreRefusedAtOnce() throws IOException {
    out = folder.resolve("none").resolve("out");
    assertRefused(true, List.of(), "the folder " + out.toAbsolutePath().getParent() + " does not exist");
    out = Files.writeString(folder.resolve("file"), "");
    assertRefused(true, List.of(), "is a file, expected the name of a folder to write");
    out = out.resolve("out");
    assertThrows(IOException.class, () -> OutputFolder.create(out, true, List.of(), 10));
    out = folder.resolve("out");
    String message = assertThrows(IOException.class, () ->
      OutputFolder.create(out, true, List.of(), 1L << 60)
    ).getMessage();
    assertTrue(message.matches(".*out: needs 1,152,921,504,606,846,976 bytes, only [\\d,]+ are free.*"), message);
    Path root = folder.getRoot();
    assertThrows(IOException.class, () -> OutputFolder.create(root, true, List.of(), 10));
    assertEquals(List.of("file"), files());
  }

  @Test
  void aProcessToldToEndLeavesNothing() throws Exception {
    Process process = child("wait");
    assertEquals('r', process.getInputStream().read());
    assertTrue(files().size() > 1, files().toString());
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
    Process process = child("fill");
    String output = new String(process.getInputStream().readAllBytes(), Charset.defaultCharset());
    assertEquals(0, process.waitFor(), output);
    assertTrue(output.startsWith(out + ": cannot be written: "), output);
    assertEquals(1, output.lines().count(), output);
    assertEquals(List.of(), files());
  }

  /** Starts {@link Child} in a JVM of its own. */
  private Process child(String what) throws IOException, URISyntaxException {
    List<String> command = new ArrayList<>();
    if (what.equals("fill")) {
      command.addAll(List.of("/bin/sh", "-c", "ulimit -f 2000 && exec \"$@\"", "sh"));
    }
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.add("-cp");
    List<String> classes = new ArrayList<>();
    for (Class<?> c : List.of(OutputFiles.class, Child.class, ObjectMapper.class, Versioned.class, JsonKey.class)) {
      classes.add(Path.of(c.getProtectionDomain().getCodeSource().getLocation().toURI()).toString());
    }
    command.addAll(List.of(String.join(System.getProperty("path.separator"), classes), Child.class.getName()));
    command.addAll(List.of(what, out.toString()));
    return new ProcessBuilder(command).redirectErrorStream(true).start();
  }

  /** What the processes of these tests run. */
  static final class Child {

    private Child() {}

    public static void main(String[] args) throws IOException {
      try (OutputFolder output = OutputFolder.create(Path.of(args[1]), false, List.of(), 10)) {
        if (args[0].equals("wait")) {
          output.write("a", BYTES);
          Thread.ofPlatform()
            .daemon()
            .start(() -> keepWriting(output));
          System.out.print('r');
          System.out.flush();
          System.exit(System.in.read());
        }
        output.write("large", new byte[8 << 20]);
        System.out.println("written");
      } catch (IOException e) {
        System.out.println(e.getMessage());
      }
    }

    /** As a thread does that is not told. */
    private static void keepWriting(OutputFolder output) {
      try {
        for (int i = 0; ; i++) {
          output.write("b" + i, BYTES);
        }
      } catch (IOException _) {
        // The folder is gone.
      }
    }
  }
}
