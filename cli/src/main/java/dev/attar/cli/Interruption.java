package dev.attar.cli;

import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

/**
 * Lets a command clean up when the process is told to end (Ctrl-C, a termination signal): the thread that runs it is interrupted
 * and the process waits for it, then ends with the signal's exit code (130 for Ctrl-C).
 */
final class Interruption {

  private static final int PATIENCE_SECONDS = 10;

  private final CountDownLatch done = new CountDownLatch(1);

  private Interruption() {}

  /** Begins to watch over a thread. */
  static Interruption watch(Thread worker) {
    Interruption interruption = new Interruption();
    Runtime.getRuntime().addShutdownHook(new Thread(() -> interruption.stop(worker), "interruption"));
    return interruption;
  }

  /** Says that the command has ended, in whatever way. */
  void done() {
    done.countDown();
  }

  private void stop(Thread worker) {
    if (done.getCount() == 0) {
      return;
    }
    worker.interrupt();
    try {
      boolean _ = done.await(PATIENCE_SECONDS, TimeUnit.SECONDS);
    } catch (InterruptedException _) {
      Thread.currentThread().interrupt();
    }
  }
}
