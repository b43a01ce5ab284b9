package dev.attar.llama;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.io.InterruptedIOException;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.List;
import java.util.Optional;
import java.util.Random;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

@Timeout(60)
class WorkerProcessTest {

  private static final int DONE = 127;
  private static final int SIGINT = 2;

  @TempDir
  private Path temp;

  /** A worker that does what its first argument says. */
  static final class TestMain {

    private TestMain() {}

    public static void main(String[] args) throws Exception {
      if (args[0].equals("garbage")) {
        System.out.println("Hello, World!");
        Thread.sleep(60_000);
      }
      WorkerChannel channel = WorkerChannel.open();
      switch (args[0]) {
        case "echo" -> {
          for (Optional<Frame> frame = channel.receive(); frame.isPresent(); frame = channel.receive()) {
            channel.send(frame.get());
          }
          System.err.println("bye");
        }
        case "threads" -> {
          List<Thread> threads = new ArrayList<>();
          for (int i = 0; i < 100; i++) {
            byte[] content = new byte[1000 * i];
            Frame frame = Frame.of(i, out -> out.write(content));
            threads.add(
              Thread.ofVirtual().start(() ->
                Natives.run(() -> {
                  channel.alive();
                  channel.send(frame);
                })
              )
            );
          }
          for (Thread thread : threads) {
            thread.join();
          }
          channel.send(Frame.of(DONE));
        }
        case "print" -> {
          System.out.println("from Java: ä€");
          c("puts", FunctionDescriptor.of(JAVA_INT, ADDRESS), Arena.global().allocateFrom("from C"));
          c("fflush", FunctionDescriptor.of(JAVA_INT, ADDRESS), MemorySegment.NULL);
          channel.send(Frame.of(DONE));
        }
        case "abort" -> {
          System.err.println("/src/ggml.c:12: fatal error");
          System.err.println("the end");
          c("abort", FunctionDescriptor.ofVoid());
        }
        case "crash" -> {
          System.err.println("last words");
          c("strlen", FunctionDescriptor.of(JAVA_LONG, ADDRESS), MemorySegment.NULL);
        }
        case "memory" -> {
          List<byte[]> all = new ArrayList<>();
          while (all.size() < 1 << 20) {
            all.add(new byte[1 << 20]);
          }
        }
        case "throw" -> throw new NoSuchFileException("model.gguf");
        case "bug" -> {
          Thread thread = new Thread(() -> {
            throw new IllegalStateException("two\n lines");
          });
          thread.start();
          Thread.sleep(60_000);
        }
        case "exit" -> System.exit(Integer.parseInt(args[1]));
        case "hang" -> sleepNatively();
        case "slow" -> {
          for (int i = 0; i < 17; i++) {
            Thread.sleep(200);
            channel.alive();
          }
          channel.send(Frame.of(DONE));
        }
        case "busy" -> {
          try (
            FileChannel file = FileChannel.open(Path.of(args[1]), StandardOpenOption.WRITE, StandardOpenOption.CREATE)
          ) {
            file.lock();
            channel.send(Frame.of(DONE));
            sleepNatively();
          }
        }
        case "parent" -> {
          try (WorkerProcess child = TestWorkers.start(TestMain.class, "busy", args[1])) {
            channel.send(child.receive());
            channel.receive();
            System.exit(0);
          }
        }
        default -> throw new IllegalArgumentException(args[0]);
      }
    }

    private static void sleepNatively() throws InterruptedException {
      if (Posix.isHere()) {
        c("sleep", FunctionDescriptor.of(JAVA_INT, JAVA_INT), 60);
      }
      Thread.sleep(60_000);
    }
  }

  private static void c(String name, FunctionDescriptor descriptor, Object... arguments) {
    Linker linker = Linker.nativeLinker();
    Natives.run(() ->
      linker.downcallHandle(linker.defaultLookup().findOrThrow(name), descriptor).invokeWithArguments(arguments)
    );
  }

  private static void signal(WorkerProcess worker, int number) {
    c("kill", FunctionDescriptor.of(JAVA_INT, JAVA_INT, JAVA_INT), (int) worker.pid(), number);
  }

  private static WorkerProcess start(String... arguments) throws IOException {
    return TestWorkers.start(TestMain.class, arguments);
  }

  private static NativeFailure failureOf(String... arguments) throws IOException {
    NativeFailure e = TestWorkers.failureOf(TestMain.class, arguments);
    assertEquals(1, e.getMessage().lines().count(), e.getMessage());
    return e;
  }

  private static boolean isGone(long pid) {
    return ProcessHandle.of(pid)
      .map(process -> !process.isAlive())
      .orElse(true);
  }

  @Test
  void framesComeBackAsTheyWere() throws IOException {
    byte[] large = new byte[5 << 20];
    new Random(1).nextBytes(large);
    WorkerProcess worker = start("echo");
    try (worker) {
      for (byte[] content : new byte[][] { {}, { 1 }, large, { (byte) 0xff, 0 } }) {
        worker.send(Frame.of(content.length % 128, out -> out.write(content)));
      }
      for (byte[] content : new byte[][] { {}, { 1 }, large, { (byte) 0xff, 0 } }) {
        Frame frame = worker.receive();
        assertEquals(content.length % 128, frame.kind());
        assertEquals(content.length, frame.length());
        assertArrayEquals(content, frame.input().readAllBytes());
      }
    }
    assertEquals(List.of("bye"), worker.log(), "closed by the end of its input");
    assertTrue(isGone(worker.pid()));
    worker.close(); // again does nothing
  }

  @Test
  void framesOfSeveralThreadsStayWhole() throws IOException {
    BitSet seen = new BitSet();
    try (WorkerProcess worker = start("threads")) {
      for (Frame frame = worker.receive(); frame.kind() != DONE; frame = worker.receive()) {
        assertEquals(1000 * frame.kind(), frame.length());
        seen.set(frame.kind());
      }
    }
    assertEquals(100, seen.cardinality());
  }

  @Test
  void whatIsPrintedGoesToTheLog() throws IOException {
    WorkerProcess worker = start("print");
    try (worker) {
      assertEquals(DONE, worker.receive().kind());
    }
    assertEquals(Posix.isHere() ? List.of("from Java: ä€", "from C") : List.of("from Java: ä€"), worker.log());
  }

  @Test
  void anAbortIsAFailure() throws IOException {
    NativeFailure e = failureOf("abort");
    assertTrue(e.getMessage().endsWith(": /src/ggml.c:12: fatal error"), e.getMessage());
    assertEquals(List.of("/src/ggml.c:12: fatal error", "the end"), e.log());
    if (Posix.isHere()) {
      assertEquals(134, e.exitCode());
      assertTrue(e.getMessage().startsWith("llama.cpp ended its process (exit code 134, abort): "), e.getMessage());
    }
  }

  @Test
  void aCrashIsAFailure() throws IOException {
    NativeFailure e = failureOf("crash");
    assertTrue(e.getMessage().startsWith("llama.cpp crashed (exit code " + e.exitCode() + "): "), e.getMessage());
    assertTrue(e.getMessage().contains("(0x"), e.getMessage());
    assertTrue(e.getMessage().contains(" in C "), e.getMessage());
    assertEquals(List.of("last words"), e.log());
  }

  @Test
  void aKilledWorkerIsAFailure() throws IOException {
    try (WorkerProcess worker = start("echo")) {
      worker.send(Frame.of(1));
      worker.receive();
      ProcessHandle.of(worker.pid()).orElseThrow().destroyForcibly();
      NativeFailure e = assertThrows(NativeFailure.class, worker::receive);
      assertNotEquals(0, e.exitCode());
      if (Posix.isHere()) {
        assertEquals("the worker process was killed (signal 9), perhaps for want of memory", e.getMessage());
        assertEquals(137, e.exitCode());
      }
      assertSame(e, assertThrows(NativeFailure.class, worker::receive));
      assertSame(e, assertThrows(NativeFailure.class, () -> worker.send(Frame.of(1))));
    }
  }

  @Test
  void sendingToADeadWorkerIsItsFailure() throws Exception {
    try (WorkerProcess worker = start("throw")) {
      ProcessHandle.of(worker.pid()).orElseThrow().onExit().get();
      NativeFailure e = assertThrows(NativeFailure.class, () ->
        worker.send(Frame.of(1, out -> out.write(new byte[1 << 20])))
      );
      assertEquals("model.gguf (NoSuchFile)", e.getMessage());
      assertEquals(1, e.exitCode());
      assertEquals(List.of(), e.log());
    }
  }

  @Test
  void anExceptionOfAnyThreadIsAFailure() throws IOException {
    NativeFailure e = failureOf("bug");
    assertEquals("the worker process failed: java.lang.IllegalStateException: two lines", e.getMessage());
    assertEquals(1, e.exitCode());
    assertTrue(String.join("\n", e.log()).contains("at dev.attar.llama.WorkerProcessTest$TestMain"), e.log()::toString);
  }

  @Test
  void aFullHeapIsAFailure() throws IOException {
    NativeFailure e = failureOf("memory");
    assertTrue(e.getMessage().contains("java.lang.OutOfMemoryError"), e.getMessage());
    assertEquals(3, e.exitCode());
  }

  @ParameterizedTest
  @ValueSource(ints = { 0, 3 })
  void anEarlyEndIsAFailure(int code) throws IOException {
    NativeFailure e = failureOf("exit", Integer.toString(code));
    String expected = "the worker process ended before its work was done (exit code " + code + "): it said nothing";
    assertEquals(expected, e.getMessage());
    assertEquals(code, e.exitCode());
  }

  @Test
  void garbageIsAFailure() throws IOException {
    NativeFailure e = failureOf("garbage");
    String expected = "the worker process wrote something that is no frame: kind 111, 1214606444 bytes"; // "Hello"
    assertEquals(expected, e.getMessage());
  }

  @Test
  void aWorkerThatCannotStartIsAFailure() throws IOException {
    WorkerProcess.Options wrong = new WorkerProcess.Options(List.of("-Xmx1x"), Duration.ofMinutes(1));
    try (WorkerProcess worker = WorkerProcess.start(TestMain.class, List.of(), wrong)) {
      NativeFailure e = assertThrows(NativeFailure.class, worker::receive);
      assertTrue(e.getMessage().endsWith("(exit code 1): Invalid maximum heap size: -Xmx1x"), e.getMessage());
    }
  }

  @Test
  void aWorkerWithoutSignsOfLifeIsEnded() throws IOException {
    WorkerProcess.Options options = new WorkerProcess.Options(List.of(), Duration.ofMillis(1500));
    try (WorkerProcess worker = WorkerProcess.start(TestMain.class, List.of("hang"), options)) {
      NativeFailure e = assertThrows(NativeFailure.class, worker::receive);
      assertEquals("the worker process showed no sign of life for 1.5 s and was ended", e.getMessage());
      assertTrue(isGone(worker.pid()));
    }
  }

  @Test
  void signsOfLifeKeepAWorkerThatTakesLong() throws IOException {
    WorkerProcess.Options options = new WorkerProcess.Options(List.of(), Duration.ofSeconds(3));
    try (WorkerProcess worker = WorkerProcess.start(TestMain.class, List.of("slow"), options)) {
      assertEquals(DONE, worker.receive().kind());
    }
  }

  @Test
  @EnabledOnOs({ OS.LINUX, OS.MAC })
  void aWorkerThatDoesNotReadIsEnded() throws IOException {
    WorkerProcess.Options options = new WorkerProcess.Options(List.of(), Duration.ofMillis(1500));
    try (WorkerProcess worker = WorkerProcess.start(TestMain.class, List.of("echo"), options)) {
      signal(worker, OS.current() == OS.MAC ? 17 : 19); // SIGSTOP
      NativeFailure e = assertThrows(NativeFailure.class, () ->
        worker.send(Frame.of(1, out -> out.write(new byte[1 << 20])))
      );
      assertEquals("the worker process showed no sign of life for 1.5 s and was ended", e.getMessage());
    }
  }

  @Test
  @EnabledOnOs({ OS.LINUX, OS.MAC })
  void ctrlCIsLeftToTheParent() throws IOException {
    WorkerProcess worker = start("echo");
    try (worker) {
      worker.send(Frame.of(1));
      worker.receive();
      signal(worker, SIGINT);
      worker.send(Frame.of(2));
      assertEquals(2, worker.receive().kind());
    }
    assertEquals(List.of("bye"), worker.log());
  }

  @Test
  void interruptionEndsTheWorker() throws Exception {
    try (WorkerProcess worker = start("busy", temp.resolve("lock").toString())) {
      worker.receive();
      FutureTask<Frame> task = new FutureTask<>(worker::receive);
      Thread thread = new Thread(task);
      thread.start();
      thread.interrupt(); // sooner or later, the outcome is the same
      ExecutionException e = assertThrows(ExecutionException.class, task::get);
      assertInstanceOf(InterruptedIOException.class, e.getCause());
      assertTrue(isGone(worker.pid()));
    }
  }

  @Test
  void closingEndsABusyWorker() throws IOException {
    WorkerProcess worker = start("busy", temp.resolve("lock").toString());
    worker.receive();
    worker.close();
    assertTrue(isGone(worker.pid()));
    assertFalse(Thread.currentThread().isInterrupted());
  }

  @ParameterizedTest
  @ValueSource(booleans = { true, false })
  void aWorkerEndsWithItsParent(boolean killed) throws IOException {
    Path lock = temp.resolve("lock");
    try (WorkerProcess parent = start("parent", lock.toString())) {
      assertEquals(DONE, parent.receive().kind());
      // Not asked for by its number: the system may keep the dead child of a dead parent.
      try (FileChannel file = FileChannel.open(lock, StandardOpenOption.WRITE)) {
        assertEquals(null, file.tryLock(), "held by the child");
        if (killed) {
          ProcessHandle.of(parent.pid()).orElseThrow().destroyForcibly();
        } else {
          parent.send(Frame.of(1)); // it exits
        }
        assertTrue(file.lock().isValid(), "free when the child is gone");
      }
    }
  }
}
