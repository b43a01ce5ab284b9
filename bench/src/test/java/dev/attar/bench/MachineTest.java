package dev.attar.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.formats.Version;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.BitSet;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class MachineTest {

  private static final String X86 = """
    processor\t: 0
    vendor_id\t: GenuineIntel
    cpu family\t: 6
    model\t\t: 158
    model name\t: Intel(R) Core(TM)  i7-8700 CPU @ 3.20GHz
    stepping\t: 10
    flags\t\t: fpu vme de pse

    processor\t: 1
    vendor_id\t: GenuineIntel
    model name\t: Intel(R) Core(TM)  i7-8700 CPU @ 3.20GHz
    """;

  private static final String ARM64 = """
    processor\t: %d
    BogoMIPS\t: 243.75
    Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
    CPU implementer\t: %s
    CPU architecture: 8
    CPU variant\t: 0x3
    CPU part\t: %s
    CPU revision\t: 1

    """;

  private static final String MEMINFO = """
    MemTotal:       24684084 kB
    MemFree:        21620796 kB
    MemAvailable:   23634140 kB
    Buffers:           41536 kB
    HugePages_Total:       0
    """;

  @TempDir
  Path folder;

  @Test
  void nameOfX86() {
    assertEquals(Optional.of("Intel(R) Core(TM) i7-8700 CPU @ 3.20GHz"), Machine.processorName(X86));
  }

  @Test
  void nameOfArm64() {
    String first = ARM64.formatted(0, "0x41", "0xd0c");
    assertEquals(Optional.of("ARM Neoverse-N1"), Machine.processorName(first + ARM64.formatted(1, "0x41", "0xd0c")));
    String small = ARM64.formatted(0, "0x41", "0xd05") + ARM64.formatted(1, "0x41", "0xd05");
    String both = small + ARM64.formatted(2, "0x41", "0xd0b");
    assertEquals(Optional.of("ARM Cortex-A55 + Cortex-A76"), Machine.processorName(both));
    String other = ARM64.formatted(0, "0x61", "0x022");
    assertEquals(Optional.of("ARM implementer 0x61 part 0x022"), Machine.processorName(other));
  }

  @ParameterizedTest
  @ValueSource(strings = { "", "\n\n", "no colon", ":", "model name\t:", "processor : 0\nmodel name" })
  void noName(String cpuinfo) {
    assertEquals(Optional.empty(), Machine.processorName(cpuinfo));
  }

  private void cpu(int number, String siblings) throws IOException {
    Path topology = folder.resolve("system/cpu/cpu" + number + "/topology");
    Files.createDirectories(topology);
    Files.writeString(topology.resolve("thread_siblings"), siblings + "\n");
  }

  private void kinds(String fast, String efficient) throws IOException {
    Files.writeString(Files.createDirectories(folder.resolve("cpu_core")).resolve("cpus"), fast + "\n");
    Files.writeString(Files.createDirectories(folder.resolve("cpu_atom")).resolve("cpus"), efficient + "\n");
  }

  @Test
  void threadsOfOneCoreCountOnce() throws IOException {
    for (int i = 0; i < 12; i++) {
      cpu(i, "%03x".formatted(0x41 << (i % 6)));
    }
    Files.createDirectories(folder.resolve("system/cpu/cpufreq"));
    Files.createDirectories(folder.resolve("system/cpu/cpu12")); // offline, without a topology
    assertEquals(OptionalInt.of(6), Machine.physicalCores(folder));
  }

  @Test
  void efficiencyCoresDoNotCount() throws IOException {
    for (int i = 0; i < 8; i++) {
      cpu(i, "%03x".formatted(3 << (i & ~1)));
    }
    for (int i = 8; i < 12; i++) {
      cpu(i, "%03x".formatted(1 << i));
    }
    assertEquals(OptionalInt.of(8), Machine.physicalCores(folder));
    kinds("0-7", "8-11");
    assertEquals(OptionalInt.of(4), Machine.physicalCores(folder));
    kinds("nonsense", "8-11");
    assertEquals(OptionalInt.of(8), Machine.physicalCores(folder));
  }

  @Test
  void noTopology() throws IOException {
    assertEquals(OptionalInt.empty(), Machine.physicalCores(folder));
    Files.createDirectories(folder.resolve("system/cpu/cpu0"));
    assertEquals(OptionalInt.empty(), Machine.physicalCores(folder));
  }

  @Test
  void lists() {
    BitSet cpus = new BitSet();
    cpus.set(0, 4);
    cpus.set(8);
    assertEquals(Optional.of(cpus), Machine.cpuList("0-3,8\n"));
  }

  @ParameterizedTest
  @ValueSource(strings = { "", "\n", "a", "1-", "3-1", "0-99999", "0-99999999999999999999", "0,,1", "-1" })
  void noLists(String text) {
    assertEquals(Optional.empty(), Machine.cpuList(text));
  }

  @ParameterizedTest
  @CsvSource(nullValues = "-", value = { "6,12,6", "6,4,4", "-,4,4", "-,12,6", "-,1,1", "-,5,2", "0,2,1" })
  void threadsToComputeWith(Integer cores, int logical, int expected) {
    OptionalInt known = cores == null ? OptionalInt.empty() : OptionalInt.of(cores);
    assertEquals(expected, Machine.computeThreads(known, logical));
  }

  @Test
  void availableMemory() {
    long all = 24_684_084L << 10;
    assertEquals(23_634_140L << 10, Machine.availableBytes(MEMINFO, all, 1, ""));
    // A container of 8 GB that has used 7.5 GB, 4 GB of them for files.
    String stat = "anon 3500000000\nfile 4100000000\ninactive_file 3000000000\nactive_file 1000000000\n";
    assertEquals(4_500_000_000L, Machine.availableBytes(MEMINFO, 8_000_000_000L, 500_000_000, stat));
    assertEquals(500_000_000, Machine.availableBytes(MEMINFO, 8_000_000_000L, 500_000_000, ""));
    assertEquals(3_000_000_000L, Machine.availableBytes(MEMINFO, 3_000_000_000L, 500_000_000, stat));
    String full = MEMINFO.replace("23634140", "100");
    assertEquals(102_400, Machine.availableBytes(full, 8_000_000_000L, 500_000_000, stat));
    assertEquals(7, Machine.availableBytes("MemTotal: many kB\nMemAvailable:\n", all, 7, stat));
  }

  @Test
  void controlGroups() {
    Path root = Path.of("/sys/fs/cgroup");
    assertEquals(
      List.of(root.resolve("user.slice/a.scope/memory.stat"), root.resolve("memory.stat")),
      Machine.memoryStatFiles("0::/user.slice/a.scope\n")
    );
    assertEquals(
      List.of(root.resolve("memory/docker/ab12/memory.stat"), root.resolve("memory/memory.stat")),
      Machine.memoryStatFiles("9:cpu,cpuacct:/docker/ab12\n4:memory:/docker/ab12\n0::/other\n")
    );
    assertEquals(root.resolve("memory.stat"), Machine.memoryStatFiles("no such thing").getLast());
  }

  @Test
  void thisMachine() {
    assertFalse(Machine.processor().isBlank());
    assertTrue(Machine.computeThreads() >= 1 && Machine.computeThreads() <= Machine.logicalProcessors());
    assertTrue(Machine.memoryBytes() > 1 << 27);
    assertTrue(Machine.availableMemoryBytes() > 0 && Machine.availableMemoryBytes() <= Machine.memoryBytes());
  }

  @Test
  void environment() {
    Instant before = Instant.now();
    Environment environment = Environment.of("b1234", List.of("CPU"), "attar bench a b");
    assertEquals(Version.current(), environment.attar());
    assertEquals("b1234", environment.llama());
    assertTrue(environment.java().startsWith("25"));
    assertTrue(environment.system().startsWith(System.getProperty("os.name") + " "));
    assertEquals(Machine.processor(), environment.processor());
    assertEquals(Machine.logicalProcessors(), environment.cores());
    assertEquals(Machine.memoryBytes(), environment.memoryBytes());
    assertEquals(List.of("CPU"), environment.devices());
    assertFalse(environment.started().isBefore(before));
  }
}
