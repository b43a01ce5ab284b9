package dev.attar.llama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.OptionalLong;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

class ProcessMemoryTest {

  private static final long MIB = 1 << 20;

  @TempDir
  private Path temp;

  @Test
  void seesWhatIsUsed() {
    try (Arena arena = Arena.ofConfined()) {
      arena.allocate(256 * MIB).fill((byte) 1);
    }
    long peak = ProcessMemory.peakResidentBytes().orElseThrow();
    assertTrue(peak > 256 * MIB, () -> peak + " bytes, which counts what has been given back");
    assertTrue(peak < 64_000 * MIB, () -> peak + " bytes");
  }

  @Test
  @EnabledOnOs(OS.LINUX)
  void twoSourcesAgree() {
    long status = ProcessMemory.peakResidentBytes().orElseThrow();
    long usage = 1024 * ProcessMemory.maxrss().orElseThrow(); // kilobytes on Linux
    // It includes the moment between fork and exec, when this was a copy of a parent that may have been larger.
    assertTrue(usage > status - 16 * MIB, () -> usage + " and " + status);
    assertTrue(usage < 64_000 * MIB, () -> usage + " bytes");
  }

  @Test
  void readsTheStatusFile() throws IOException {
    Path status = temp.resolve("status");
    Files.writeString(status, "Name:\tjava\nVmPeak:\t  99 kB\nVmHWM:\t  12345 kB\nVmRSS:\t 1 kB\n");
    assertEquals(OptionalLong.of(12345 * 1024), ProcessMemory.linux(status));
    Files.writeString(status, "VmHWM:\t99999999999999999999 kB\nVmHWM: 5\n");
    assertEquals(OptionalLong.empty(), ProcessMemory.linux(status));
    assertEquals(OptionalLong.empty(), ProcessMemory.linux(temp.resolve("none")));
  }
}
