package dev.attar.llama;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.ByteArrayInputStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class WorkerLogTest {

  private static WorkerLog read(String text) {
    WorkerLog log = new WorkerLog();
    log.readFrom(new ByteArrayInputStream(text.getBytes(StandardCharsets.UTF_8)));
    return log;
  }

  @Test
  void keepsTheLastLines() {
    String text = IntStream.range(0, 1000)
      .mapToObj(i -> "line " + i + "\r\n")
      .collect(Collectors.joining());
    List<String> lines = read(text + "ä without an end").lines();
    assertEquals(200, lines.size());
    assertEquals("line 801", lines.getFirst());
    assertEquals("ä without an end", lines.getLast());
  }

  @Test
  void cutsLongLines() {
    List<String> lines = read(".".repeat(10_000_000) + "\nnext\n").lines();
    assertEquals(List.of(".".repeat(4096), "next"), lines);
  }

  @Test
  void leavesOutWhatTheJvmSaysForItself() {
    WorkerLog log = read(
      """
      Picked up JAVA_TOOL_OPTIONS: -Dx=y
      WARNING: Using incubator modules: jdk.incubator.vector
      Error occurred during initialization of VM
      Could not reserve enough space for 999999999KB object heap
      Error: Could not create the Java Virtual Machine.
      Error: A fatal exception has occurred. Program will exit.
      """
    );
    assertEquals(List.of("Could not reserve enough space for 999999999KB object heap"), log.lines());
  }

  @Test
  void takesTheTellingLinesFromACrashReport() {
    WorkerLog log = read(
      """
        llama_decode: begin
        #
        # A fatal error has been detected by the Java Runtime Environment:
        #
        #  SIGSEGV (0xb) at pc=0x00007f86ea5b1731, pid=12, tid=13
        #
        # JRE version: OpenJDK Runtime Environment (25.0.3+9) (build 25.0.3+9-LTS)
        # Problematic frame:
        # C  [libggml-cpu.so+0x98731]  ggml_compute+0x21
        #
        """ +
        "a register\n".repeat(500)
    );
    assertEquals(List.of("llama_decode: begin"), log.lines());
    assertEquals(
      "llama.cpp crashed (exit code 134): SIGSEGV (0xb) in C [libggml-cpu.so+0x98731] ggml_compute+0x21",
      log.reason(134)
    );
  }

  @Test
  void takesTheReasonFromAReportOfWantOfMemory() {
    WorkerLog log = read(
      """
      #
      # There is insufficient memory for the Java Runtime Environment to continue.
      # Native memory allocation (mmap) failed to map 16384 bytes. Error detail: committing reserved memory.
      # Possible reasons:
      """
    );
    assertEquals(List.of(), log.lines());
    assertTrue(log.reason(1).contains("(exit code 1): Native memory allocation (mmap) failed"), log.reason(1));
  }

  @ParameterizedTest
  @CsvSource(
    delimiter = '|',
    textBlock = """
      loading;model.cpp:7: GGML_ASSERT(x) failed;bye | model.cpp:7: GGML_ASSERT(x) failed
      failed to open a;failed to open b              | failed to open b
      one;two;  three                                | three
      ''                                             | it said nothing
    """
  )
  void choosesTheTellingLine(String text, String expected) {
    String reason = read(text.replace(';', '\n')).reason(1);
    assertEquals("the worker process ended before its work was done (exit code 1): " + expected, reason);
  }
}
