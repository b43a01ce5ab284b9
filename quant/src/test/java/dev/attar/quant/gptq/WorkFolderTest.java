package dev.attar.quant.gptq;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.formats.MappedFile;
import dev.attar.formats.TensorType;
import dev.attar.quant.QuantizationException;
import java.io.IOException;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Optional;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class WorkFolderTest {

  private static final String NAME = "blk.0.attn_q.weight";

  private final Map<String, String> settings = new LinkedHashMap<>();

  @TempDir
  private Path folder;

  private Path out;
  private Path work;
  private WorkFolder last;

  @BeforeEach
  void name() {
    out = folder.resolve("out.gguf");
    work = folder.resolve("out.gguf.work");
    settings.put("effort", "2");
    settings.put("file a=b #1: c.gguf", "12 bytes\nof 'ü'");
    settings.put("type", "Q4_K_M");
  }

  /** Opens the folder, which ends its use so far as the end of a process would. */
  private WorkFolder open(boolean resume, boolean overwrite) throws IOException {
    release();
    last = WorkFolder.open(out, settings, resume, overwrite);
    return last;
  }

  @AfterEach
  void release() throws IOException {
    if (last != null) {
      last.close();
    }
  }

  private String refusal(Map<String, String> other) throws IOException {
    release();
    QuantizationException e = assertThrows(QuantizationException.class, () -> WorkFolder.open(out, other, true, false));
    return e.getMessage();
  }

  @Test
  void aFolderOfTheUsersOwnIsNeitherUsedNorReplaced() throws IOException {
    Files.writeString(Files.createDirectory(work).resolve("diary.txt"), "dear");
    for (boolean resume : new boolean[] { true, false }) {
      FileAlreadyExistsException e = assertThrows(FileAlreadyExistsException.class, () ->
        WorkFolder.open(out, settings, resume, !resume)
      );
      assertEquals(work + ": is not of an interrupted run, and in the way of this one", e.getMessage());
    }
    assertEquals("dear", Files.readString(work.resolve("diary.txt")));
  }

  @Test
  void twoRunsCannotMakeOneOutput() throws IOException {
    try (WorkFolder first = WorkFolder.open(out, settings, false, false)) {
      for (boolean resume : new boolean[] { true, false }) {
        QuantizationException e = assertThrows(QuantizationException.class, () ->
          WorkFolder.open(out, settings, resume, !resume)
        );
        assertEquals(WorkFolder.of(out) + ": another run is making this output", e.getMessage());
      }
      first.writeReport(new TensorReport("a", TensorType.Q4_K, 0.01, 0.5));
    }
    try (WorkFolder again = WorkFolder.open(out, settings, true, false)) {
      assertEquals(0.5, again.readReport("a").errorRatio());
    }
  }

  @Test
  void isBesideTheOutputUntilItIsDeleted() throws IOException {
    WorkFolder opened = open(false, false);
    assertEquals(work, WorkFolder.of(out));
    opened.write("tensors/a", to -> to.write(1));
    assertTrue(Files.exists(work.resolve("tensors/a")));
    opened.delete();
    assertFalse(Files.exists(work));
  }

  @Test
  void isNeitherUsedNorReplacedUnasked() throws IOException {
    open(false, false).write("tensors/a", to -> to.write(1));
    FileAlreadyExistsException e = assertThrows(FileAlreadyExistsException.class, () -> open(false, false));
    assertEquals(
      work + ": left by an interrupted run; --resume goes on with it, --overwrite starts anew",
      e.getMessage()
    );
    // Going on comes before starting anew.
    open(true, true);
    assertTrue(Files.exists(work.resolve("tensors/a")));
    open(false, true);
    assertFalse(Files.exists(work.resolve("tensors/a")));
    assertTrue(Files.isDirectory(work.resolve("tensors")));
  }

  @Test
  void resumesWithoutAnythingToResume() throws IOException {
    open(true, false);
    assertTrue(Files.exists(work));
    // Killed before the settings were there.
    Files.delete(work.resolve("settings"));
    open(true, false);
  }

  @Test
  void otherSettingsAreRefusedByTheFirstThatDiffers() throws IOException {
    open(false, false);
    open(true, false);
    Map<String, String> other = new LinkedHashMap<>(settings);
    other.put("effort", "3");
    other.put("type", "Q4_0");
    assertEquals(work + ": the interrupted run had effort 2, this one has 3; --overwrite starts anew", refusal(other));
    other.put("effort", "2");
    assertEquals(
      work + ": the interrupted run had type Q4_K_M, this one has Q4_0; --overwrite starts anew",
      refusal(other)
    );
    other.put("type", "Q4_K_M");
    other.put("text 2", "b.txt");
    assertEquals(
      work + ": the interrupted run had text 2 nothing, this one has b.txt; --overwrite starts anew",
      refusal(other)
    );
    other.remove("text 2");
    other.remove("type");
    assertEquals(
      work + ": the interrupted run had type Q4_K_M, this one has nothing; --overwrite starts anew",
      refusal(other)
    );
    open(true, false);
  }

  @Test
  void damagedSettingsAreRefused() throws IOException {
    open(false, false);
    Files.writeString(work.resolve("settings"), "effort=\\u12");
    assertEquals(work.resolve("settings") + ": damaged or missing; --overwrite starts anew", refusal(settings));
    Files.write(work.resolve("settings"), new byte[] { (byte) 0xFF, 0, 1, 2 });
    assertTrue(refusal(settings).startsWith(work + ": the interrupted run had effort nothing, this one has 2"));
  }

  @Test
  void namesBecomeFilesOfTheirOwn() {
    assertEquals("tensors/" + NAME, WorkFolder.tensorName(NAME));
    assertEquals("tensors/..%2f..%5c%3a", WorkFolder.tensorName("../..\\:"));
    assertEquals("tensors/%2541%c3%bc", WorkFolder.tensorName("%41ü"));
  }

  @Test
  void aFileIsThereWholeOrNotAtAll() throws IOException {
    WorkFolder opened = open(false, false);
    String name = WorkFolder.tensorName(NAME);
    assertEquals(Optional.empty(), opened.tensor(NAME, 5));
    IllegalStateException failure = new IllegalStateException("half way");
    assertEquals(
      failure,
      assertThrows(IllegalStateException.class, () ->
        opened.write(name, to -> {
          to.write(1);
          throw failure;
        })
      )
    );
    assertEquals(Optional.empty(), opened.tensor(NAME, 5));
    byte[] bytes = "whole".getBytes(StandardCharsets.UTF_8);
    opened.write(name, to -> to.write(bytes));
    try (MappedFile file = opened.tensor(NAME, 5).orElseThrow()) {
      assertArrayEquals(bytes, file.bytes().toArray(ValueLayout.JAVA_BYTE));
    }
    QuantizationException e = assertThrows(QuantizationException.class, () -> opened.tensor(NAME, 6));
    assertEquals(opened.tensorFile(NAME) + ": 5 bytes, expected 6 of " + NAME, e.getMessage());
    opened.deleteDamaged("other", 5);
    opened.deleteDamaged(NAME, 5);
    assertTrue(Files.exists(opened.tensorFile(NAME)));
    opened.deleteDamaged(NAME, 6);
    assertEquals(Optional.empty(), opened.tensor(NAME, 6));
  }

  @Test
  void reportsAreReadAsTheyWereWritten() throws IOException {
    WorkFolder opened = open(false, false);
    TensorReport report = new TensorReport(NAME, TensorType.IQ4_NL, 0.1, 0.123456789);
    opened.writeReport(report);
    assertEquals(report, opened.readReport(NAME));
    Path file = work.resolve("tensors").resolve(NAME + ".report");
    for (String damaged : new String[] { "", "Q4_K", "Q4_K 1", "Q4_X 1 2", "Q4_K a 2", "Q4_K 1 b" }) {
      Files.writeString(file, damaged);
      assertDamaged(opened, file);
    }
    Files.write(file, new byte[] { 'Q', (byte) 0xE9 });
    assertDamaged(opened, file);
    Files.delete(file);
    assertDamaged(opened, file);
  }

  private static void assertDamaged(WorkFolder opened, Path file) {
    QuantizationException e = assertThrows(QuantizationException.class, () -> opened.readReport(NAME));
    assertEquals(file + ": damaged or missing; --overwrite starts anew", e.getMessage());
  }
}
