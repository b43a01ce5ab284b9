package dev.attar.compute;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicReference;
import java.util.stream.IntStream;

/** Threads that share out a range of numbers, the caller's thread among them. */
public final class Workers implements AutoCloseable {

  /** Work on the numbers {@code from}, inclusive, to {@code to}, exclusive. */
  @FunctionalInterface
  public interface RangeTask {
    void run(int from, int to);
  }

  private static final ThreadLocal<Boolean> WORKING = ThreadLocal.withInitial(() -> false);

  private final int threads;
  private final ExecutorService helpers;

  /** @param threads how many work on a range at most, at least 1 */
  public Workers(int threads) {
    this.threads = threads;
    helpers = Executors.newCachedThreadPool(Thread.ofPlatform().daemon().name("attar-compute-", 1).factory());
  }

  /** Whether the current thread is at work on a part of a range. */
  static boolean isWorking() {
    return WORKING.get();
  }

  /**
   * Cuts a range into parts of {@code step} numbers, the last one with the rest, and gives each to one of the threads. The parts
   * do not depend on the number of threads, their order does. Returns when all of them are done; after a part that threw, no
   * further ones are begun, and what it threw is thrown here. Within a part, a further range is walked by that part's thread alone.
   */
  public void share(int from, int to, int step, RangeTask task) {
    if (step < 1) {
      throw new IllegalArgumentException("step " + step + ", expected at least 1");
    }
    int parts = from < to ? Math.ceilDiv(Math.subtractExact(to, from), step) : 0;
    if (isWorking()) {
      for (int part = 0; part < parts; part++) {
        runPart(from, to, step, part, task);
      }
      return;
    }
    AtomicInteger next = new AtomicInteger();
    AtomicReference<Throwable> failure = new AtomicReference<>();
    Runnable work = () -> {
      WORKING.set(true);
      try {
        for (int part = next.getAndIncrement(); part < parts && failure.get() == null; part = next.getAndIncrement()) {
          runPart(from, to, step, part, task);
        }
      } catch (RuntimeException | Error e) {
        failure.compareAndSet(null, e);
      } finally {
        WORKING.remove();
      }
    };
    CompletableFuture<?>[] others = IntStream.range(1, Math.min(threads, parts))
      .mapToObj(_ -> CompletableFuture.runAsync(work, helpers))
      .toArray(CompletableFuture[]::new);
    work.run();
    CompletableFuture.allOf(others).join();
    switch (failure.get()) {
      case null -> {}
      case Error e -> throw e;
      case RuntimeException e -> throw e;
      case Throwable e -> throw new AssertionError(e);
    }
  }

  private static void runPart(int from, int to, int step, int part, RangeTask task) {
    int start = from + part * step;
    task.run(start, start + Math.min(step, to - start));
  }

  @Override
  public void close() {
    helpers.shutdown();
  }
}
