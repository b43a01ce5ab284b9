package dev.attar.formats;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.formats.gguf.GgufModel;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class ModelsTest {

  @TempDir
  private Path folder;

  @Test
  void aGgufFileIsKnownByItsFirstBytes() throws IOException {
    Path renamed = Files.copy(Path.of("../samples/sample/imatrix.gguf"), folder.resolve("model.safetensors"));
    try (Model model = Models.open(renamed)) {
      assertInstanceOf(GgufModel.class, model);
      assertEquals(56, model.tensors().size());
    }
  }

  @ParameterizedTest
  @CsvSource(
    {
      "model.gguf, '', found an empty file",
      "notes.txt, Hello there, found the text 'Hello there'",
      "notes.txt, 'Grüße, Welt!!', found the text 'Grüße",
      "pytorch_model.bin, 'PK\3\4....', found a PyTorch checkpoint or other archive",
      "old.bin, 'lmgg\1...', found a GGML file older than GGUF",
      "weights.bin, '\1\2\3', found the bytes 01 02 03",
      "weights.bin, '........{\"__metadata__', found a safetensors file without that ending"
    }
  )
  void anythingElseIsNamed(String name, String content, String found) throws IOException {
    Path file = Files.write(folder.resolve(name), content.getBytes(StandardCharsets.UTF_8));
    String message = assertThrows(FormatException.class, () -> Models.open(file)).getMessage();
    assertTrue(message.startsWith(file + ": byte 0: " + found), message);
    assertTrue(message.contains("expected a GGUF file, a folder with config.json"), message);
    assertEquals(1, message.lines().count());
  }

  @Test
  void aPickleIsNamed() throws IOException {
    Path file = Files.write(folder.resolve("model.pth"), new byte[] { (byte) 0x80, 2, (byte) 0x8A, 10 });
    String message = assertThrows(FormatException.class, () -> Models.open(file)).getMessage();
    assertTrue(message.contains("found a PyTorch checkpoint"), message);
  }

  @Test
  void aMissingPathIsNamed() {
    Path missing = folder.resolve("none");
    String message = assertThrows(IOException.class, () -> Models.open(missing)).getMessage();
    assertTrue(message.startsWith(missing + ": no such file or folder, expected a GGUF file"), message);
  }
}
