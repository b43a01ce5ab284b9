package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class ParticipantsTest {

  @TempDir
  private Path folder;

  @Test
  void namesAreThoseOfTheFilesWithoutEnding() throws IOException {
    Path checkpoint = Files.createDirectory(folder.resolve("tiny.v1"));
    List<Path> models = List.of(
      checkpoint,
      folder.resolve("a/model-q8_0.gguf"),
      folder.resolve("big-00001-of-00003.gguf"),
      folder.resolve("other/model.safetensors")
    );
    assertEquals(List.of("tiny.v1", "model-q8_0", "big", "other"), names(models, List.of()));
  }

  @Test
  void equalNamesGetTheFolderBeforeThem() throws IOException {
    List<Path> models = List.of(Path.of("a/model.gguf"), Path.of("b/model.gguf"), Path.of("c/other.gguf"));
    assertEquals(List.of("a/model", "b/model", "other"), names(models, List.of()));
    assertEquals(List.of("a/model", "b/model", "c/other"), names(models, List.of("other")));
    Path checkpoint = Files.createDirectory(folder.resolve("x"));
    Path file = folder.resolve("x.gguf");
    assertEquals(List.of(checkpoint.toString(), file.toString()), names(List.of(checkpoint, file), List.of()));
  }

  private static List<String> names(List<Path> models, List<String> taken) {
    return Participants.names(models.stream().map(MeasuredModel::of).toList(), taken);
  }

  @Test
  void aPlusSeparatesAdapters() throws IOException {
    Path model = Files.createFile(folder.resolve("m.gguf"));
    Path adapter = Files.createFile(folder.resolve("a.gguf"));
    Path plus = Files.createFile(folder.resolve("a+b.gguf"));
    assertEquals(new MeasuredModel(model, List.of()), MeasuredModel.of(model));
    assertEquals(new MeasuredModel(plus, List.of()), MeasuredModel.of(plus));
    MeasuredModel two = MeasuredModel.of(Path.of(model + "+" + plus + "+" + adapter));
    assertEquals(new MeasuredModel(model, List.of(plus, adapter)), two);
    assertEquals("m+a+b+a", two.name());
    MeasuredModel missing = MeasuredModel.of(Path.of(model + "+" + folder.resolve("x+y")));
    assertEquals(new MeasuredModel(model, List.of(folder.resolve("x+y"))), missing);
    Path nothing = folder.resolve("no+model.gguf");
    assertEquals(new MeasuredModel(nothing, List.of()), MeasuredModel.of(nothing));
    assertTrue(two.isSame(MeasuredModel.of(Path.of(two.toString()))));
    assertFalse(two.isSame(MeasuredModel.of(model)));
    assertEquals(List.of("m", "m+a"), names(List.of(model, Path.of(model + "+" + adapter)), List.of()));
  }
}
