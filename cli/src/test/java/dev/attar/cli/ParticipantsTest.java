package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;

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
    assertEquals(List.of("tiny.v1", "model-q8_0", "big", "other"), Participants.names(models, List.of()));
  }

  @Test
  void equalNamesGetTheFolderBeforeThem() throws IOException {
    List<Path> models = List.of(Path.of("a/model.gguf"), Path.of("b/model.gguf"), Path.of("c/other.gguf"));
    assertEquals(List.of("a/model", "b/model", "other"), Participants.names(models, List.of()));
    assertEquals(List.of("a/model", "b/model", "c/other"), Participants.names(models, List.of("other")));
    Path checkpoint = Files.createDirectory(folder.resolve("x"));
    Path file = folder.resolve("x.gguf");
    assertEquals(
      List.of(checkpoint.toString(), file.toString()),
      Participants.names(List.of(checkpoint, file), List.of())
    );
  }
}
