package dev.attar.bench;

import dev.attar.formats.Version;
import java.time.Instant;
import java.util.List;

/**
 * Where and with what was measured.
 *
 * @param attar version of Attar
 * @param llama version of llama.cpp
 * @param java version of Java
 * @param system operating system and architecture
 * @param processor name of the processor
 * @param cores logical processors that this process may use
 * @param memoryBytes physical memory, or the most that this process may use if that is less; 0 if it is not known
 * @param devices what llama.cpp computes on, as it names them
 * @param commandLine the command as the user gave it
 * @param started when
 */
public record Environment(
  String attar,
  String llama,
  String java,
  String system,
  String processor,
  int cores,
  long memoryBytes,
  List<String> devices,
  String commandLine,
  Instant started
) {
  public Environment {
    devices = List.copyOf(devices);
  }

  /** What holds here and now. */
  public static Environment of(String llamaVersion, List<String> devices, String commandLine) {
    return new Environment(
      Version.current(),
      llamaVersion,
      Runtime.version().toString(),
      Machine.system(),
      Machine.processor(),
      Machine.logicalProcessors(),
      Machine.memoryBytes(),
      devices,
      commandLine,
      Instant.now()
    );
  }
}
