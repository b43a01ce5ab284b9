package dev.attar.cli;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

class TemporaryFolderTest {

  @TempDir
  private Path folder;

  @Test
  void isGoneWithAllThatIsInIt() throws IOException {
    Path path;
    try (TemporaryFolder temporary = TemporaryFolder.create(1)) {
      path = temporary.path();
      Files.writeString(Files.createDirectory(path.resolve("sub")).resolve("file"), "x");
      Files.writeString(path.resolve("file"), "x");
    }
    assertFalse(Files.exists(path));
  }

  @Test
  @DisabledOnOs(value = OS.WINDOWS, disabledReason = "has no such permissions")
  void isForThisUserAlone() throws IOException {
    try (TemporaryFolder temporary = TemporaryFolder.create(1)) {
      assertEquals("rwx------", PosixFilePermissions.toString(Files.getPosixFilePermissions(temporary.path())));
    }
  }

  @Test
  void aFolderWithTooLittleRoom() throws IOException {
    TemporaryFolder.requireRoom(folder, 1, "");
    IOException e = assertThrows(IOException.class, () -> TemporaryFolder.requireRoom(folder, Long.MAX_VALUE, ", go"));
    String message = ErrorReport.message(e);
    assertTrue(message.startsWith(folder + ": "), message);
    assertTrue(message.endsWith(" free, expected 9.22 EB for the models to be made, go"), message);
  }
}
