package dev.attar.bench;

import com.sun.management.OperatingSystemMXBean;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryIteratorException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.BitSet;
import java.util.HashMap;
import java.util.HashSet;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The machine that this runs on. What cannot be found out is unknown, never an error. */
public final class Machine {

  private static final Path SYSTEM = Path.of("/sys/devices");
  private static final Path CGROUP = Path.of("/sys/fs/cgroup");
  private static final Path CPUINFO = Path.of("/proc/cpuinfo");
  private static final Path MEMINFO = Path.of("/proc/meminfo");
  private static final Path OWN_CGROUP = Path.of("/proc/self/cgroup");

  private static final int MAX_CPUS = 1 << 16;
  private static final long SYSCTL_SECONDS = 5;
  private static final Pattern RANGE = Pattern.compile("(\\d{1,6})(?:-(\\d{1,6}))?");

  /** Cores of arm64 machines, which have numbers where x86 has names: implementer and part of the register MIDR_EL1. */
  private static final Map<String, String> ARM_CORES = Map.ofEntries(
    Map.entry("0x41 0xd03", "Cortex-A53"),
    Map.entry("0x41 0xd05", "Cortex-A55"),
    Map.entry("0x41 0xd08", "Cortex-A72"),
    Map.entry("0x41 0xd0b", "Cortex-A76"),
    Map.entry("0x41 0xd0c", "Neoverse-N1"),
    Map.entry("0x41 0xd40", "Neoverse-V1"),
    Map.entry("0x41 0xd41", "Cortex-A78"),
    Map.entry("0x41 0xd44", "Cortex-X1"),
    Map.entry("0x41 0xd49", "Neoverse-N2"),
    Map.entry("0x41 0xd4f", "Neoverse-V2"),
    Map.entry("0xc0 0xac3", "Ampere-1")
  );

  private Machine() {}

  /** Operating system and architecture, {@code Linux 6.8.0, amd64}. */
  public static String system() {
    return property("os.name") + " " + property("os.version") + ", " + property("os.arch");
  }

  /** Name of the processor; the architecture if it has none. */
  public static String processor() {
    Optional<String> name = switch (Os.CURRENT) {
      case LINUX -> text(CPUINFO).flatMap(Machine::processorName);
      case MAC -> sysctl("machdep.cpu.brand_string");
      case WINDOWS -> Optional.ofNullable(System.getenv("PROCESSOR_IDENTIFIER"));
      case OTHER -> Optional.empty();
    };
    return name
      .map(String::strip)
      .filter(text -> !text.isEmpty())
      .orElse(property("os.arch"));
  }

  /** Logical processors that this process may use. */
  public static int logicalProcessors() {
    return Runtime.getRuntime().availableProcessors();
  }

  /**
   * How many threads llama.cpp's tools compute with unless told otherwise: one for each physical core, without the efficiency cores of
   * hybrid processors; but no more than {@link #logicalProcessors}.
   */
  public static int computeThreads() {
    OptionalInt cores = switch (Os.CURRENT) {
      case LINUX -> physicalCores(SYSTEM);
      case MAC -> number(sysctl("hw.perflevel0.physicalcpu").or(() -> sysctl("hw.physicalcpu")));
      case WINDOWS, OTHER -> OptionalInt.empty();
    };
    return computeThreads(cores, logicalProcessors());
  }

  /** Physical memory in bytes, or the most that this process may use (in a container) if that is less; 0 if it is not known. */
  public static long memoryBytes() {
    return bean().map(OperatingSystemMXBean::getTotalMemorySize).orElse(0L);
  }

  /**
   * Memory in bytes that can be had now without swapping, within what this process may use; caches of files count as available. 0 if
   * it is not known.
   */
  public static long availableMemoryBytes() {
    long free = bean().map(OperatingSystemMXBean::getFreeMemorySize).orElse(0L);
    if (Os.CURRENT != Os.LINUX) {
      return free;
    }
    String meminfo = text(MEMINFO).orElse("");
    String memoryStat = text(OWN_CGROUP)
      .flatMap(own -> memoryStatFiles(own).stream().map(Machine::text).flatMap(Optional::stream).findFirst())
      .orElse("");
    return availableBytes(meminfo, memoryBytes(), free, memoryStat);
  }

  /**
   * The processor's name from Linux's {@code /proc/cpuinfo}: {@code model name} on x86; on arm64 the names of its kinds of core.
   */
  static Optional<String> processorName(String cpuinfo) {
    Set<String> cores = new LinkedHashSet<>();
    String implementer = "";
    for (String line : cpuinfo.lines().toList()) {
      int colon = line.indexOf(':');
      String key = colon < 0 ? "" : line.substring(0, colon).strip();
      String value = line.substring(colon + 1).strip();
      switch (key) {
        case "model name" -> {
          if (!value.isEmpty()) {
            return Optional.of(value.replaceAll("\\s+", " "));
          }
        }
        case "CPU implementer" -> implementer = value;
        case "CPU part" -> {
          String numbers = implementer + " " + value;
          cores.add(ARM_CORES.getOrDefault(numbers, "implementer " + implementer + " part " + value));
        }
        default -> {
          // says nothing of the name
        }
      }
    }
    return cores.isEmpty() ? Optional.empty() : Optional.of("ARM " + String.join(" + ", cores));
  }

  /**
   * Number of physical cores by Linux's sysfs, where each logical processor has a mask of those that share its core; only those that
   * are not efficiency cores if there are two kinds.
   *
   * @param devices {@code /sys/devices}
   */
  static OptionalInt physicalCores(Path devices) {
    Optional<BitSet> fast = text(devices.resolve("cpu_atom/cpus")).isPresent()
      ? text(devices.resolve("cpu_core/cpus")).flatMap(Machine::cpuList)
      : Optional.empty();
    Set<String> cores = new HashSet<>();
    try (DirectoryStream<Path> cpus = Files.newDirectoryStream(devices.resolve("system/cpu"), "cpu[0-9]*")) {
      for (Path cpu : cpus) {
        Optional<BitSet> number = cpuList(cpu.getFileName().toString().substring("cpu".length()));
        if (number.isPresent() && (fast.isEmpty() || fast.get().intersects(number.get()))) {
          text(cpu.resolve("topology/thread_siblings")).map(String::strip).ifPresent(cores::add);
        }
      }
    } catch (IOException | DirectoryIteratorException _) {
      return OptionalInt.empty();
    }
    return cores.isEmpty() ? OptionalInt.empty() : OptionalInt.of(cores.size());
  }

  /** Numbers of processors from Linux's form, {@code 0-3,8}; empty if it is another. */
  static Optional<BitSet> cpuList(String text) {
    BitSet cpus = new BitSet();
    for (String part : text.strip().split(",", -1)) {
      Matcher range = RANGE.matcher(part);
      if (!range.matches()) {
        return Optional.empty();
      }
      int first = Integer.parseInt(range.group(1));
      int last = range.group(2) == null ? first : Integer.parseInt(range.group(2));
      if (last < first || last >= MAX_CPUS) {
        return Optional.empty();
      }
      cpus.set(first, last + 1);
    }
    return Optional.of(cpus);
  }

  /** {@link #computeThreads()} where this many cores are known to be there. */
  static int computeThreads(OptionalInt physicalCores, int logicalProcessors) {
    int cores = physicalCores.orElse(logicalProcessors <= 4 ? logicalProcessors : logicalProcessors / 2);
    return Math.clamp(cores, 1, logicalProcessors);
  }

  /**
   * Available memory on Linux.
   *
   * @param meminfo {@code /proc/meminfo}
   * @param most bytes that this process may use
   * @param free bytes of those that nothing uses; where a limit holds, caches of files count as used
   * @param memoryStat {@code memory.stat} of the control group that the limit is set for
   */
  static long availableBytes(String meminfo, long most, long free, String memoryStat) {
    OptionalLong available = entry(meminfo, "MemAvailable:");
    OptionalLong physical = entry(meminfo, "MemTotal:");
    if (available.isEmpty() || physical.isEmpty()) {
      return free;
    }
    if (most >= physical.getAsLong()) {
      return available.getAsLong();
    }
    long caches = entry(memoryStat, "inactive_file").orElse(0) + entry(memoryStat, "active_file").orElse(0);
    return Math.min(available.getAsLong(), Math.min(most, free + caches));
  }

  /** A number of bytes in a list of {@code key value} lines, some of which say {@code kB}. */
  private static OptionalLong entry(String text, String key) {
    for (String line : text.lines().toList()) {
      String[] words = line.strip().split("\\s+");
      if (words.length >= 2 && words[0].equals(key) && words[1].matches("\\d{1,15}")) {
        long unit = words.length > 2 && words[2].equals("kB") ? 1024 : 1;
        return OptionalLong.of(unit * Long.parseLong(words[1]));
      }
    }
    return OptionalLong.empty();
  }

  /**
   * Where {@code memory.stat} of a process's control group may be, the likeliest first. In a container the group's own folder may be
   * the root.
   *
   * @param own {@code /proc/self/cgroup}: lines {@code number:controllers:path}, without controllers in version 2
   */
  static List<Path> memoryStatFiles(String own) {
    Map<String, String> paths = new HashMap<>();
    for (String line : own.lines().toList()) {
      String[] parts = line.split(":", 3);
      if (parts.length == 3) {
        for (String controller : parts[1].split(",", -1)) {
          paths.put(controller, parts[2].replaceFirst("^/+", ""));
        }
      }
    }
    boolean old = paths.containsKey("memory");
    Path root = old ? CGROUP.resolve("memory") : CGROUP;
    Path group = root.resolve(paths.getOrDefault(old ? "memory" : "", ""));
    return List.of(group.resolve("memory.stat"), root.resolve("memory.stat"));
  }

  private static Optional<OperatingSystemMXBean> bean() {
    return Optional.ofNullable(ManagementFactory.getPlatformMXBean(OperatingSystemMXBean.class));
  }

  private static Optional<String> text(Path file) {
    try {
      return Optional.of(Files.readString(file, StandardCharsets.ISO_8859_1));
    } catch (IOException _) {
      return Optional.empty();
    }
  }

  private static OptionalInt number(Optional<String> text) {
    return text
      .filter(digits -> digits.matches("\\d{1,6}"))
      .map(digits -> OptionalInt.of(Integer.parseInt(digits)))
      .orElse(OptionalInt.empty());
  }

  /** What macOS says of itself. */
  private static Optional<String> sysctl(String name) {
    try {
      Process process = new ProcessBuilder("/usr/sbin/sysctl", "-n", name)
        .redirectError(ProcessBuilder.Redirect.DISCARD)
        .start();
      try {
        if (!process.waitFor(SYSCTL_SECONDS, TimeUnit.SECONDS) || process.exitValue() != 0) {
          return Optional.empty();
        }
        return Optional.of(new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8).strip());
      } finally {
        process.destroyForcibly();
      }
    } catch (IOException _) {
      return Optional.empty();
    } catch (InterruptedException _) {
      Thread.currentThread().interrupt();
      return Optional.empty();
    }
  }

  private static String property(String name) {
    return System.getProperty(name, "");
  }

  /** What tells where to look. */
  private enum Os {
    LINUX,
    MAC,
    WINDOWS,
    OTHER;

    static final Os CURRENT = of(property("os.name").toLowerCase(Locale.ROOT));

    private static Os of(String name) {
      if (name.startsWith("linux")) {
        return LINUX;
      }
      if (name.startsWith("mac")) {
        return MAC;
      }
      return name.startsWith("windows") ? WINDOWS : OTHER;
    }
  }
}
