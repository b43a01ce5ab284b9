package dev.attar.llama;

import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.time.Duration;
import java.util.List;

/** Starts the small workers of the tests. */
final class TestWorkers {

  static final WorkerProcess.Options OPTIONS = new WorkerProcess.Options(
    List.of("-Xmx64m", "-XX:TieredStopAtLevel=1"),
    Duration.ofMinutes(1)
  );

  private TestWorkers() {}

  static WorkerProcess start(Class<?> main, String... arguments) throws IOException {
    return WorkerProcess.start(main, List.of(arguments), OPTIONS);
  }

  /** How a worker fails instead of sending anything. */
  static NativeFailure failureOf(Class<?> main, String... arguments) throws IOException {
    try (WorkerProcess worker = start(main, arguments)) {
      return assertThrows(NativeFailure.class, worker::receive);
    }
  }
}
