package dev.attar.llama;

import java.io.BufferedOutputStream;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.InterruptedIOException;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.Deque;
import java.util.Optional;
import java.util.concurrent.atomic.AtomicLong;

/**
 * The worker's end of a {@link WorkerProcess}, to be opened first of all in its main.
 *
 * <p>It takes standard input and output for the frames; what Java or native code prints goes to standard error. The worker does not
 * outlive its parent: when the input ends, because the parent closed it or died, a worker that waits for a frame is told so and has
 * two seconds to finish, and one that is busy is ended after a moment. What any thread throws and does not catch is the worker's
 * {@linkplain #fail failure}, so that a main may simply throw. Ctrl-C is the parent's to handle and ignored here.
 */
public final class WorkerChannel {

  private static final int OUT = 1;
  private static final int ERR = 2;
  private static final Duration GRACE = Duration.ofSeconds(2);
  private static final Duration MOMENT = Duration.ofMillis(200);
  private static final long SIGN_INTERVAL = Duration.ofMillis(250).toNanos();

  private final OutputStream out;
  private final AtomicLong lastSign = new AtomicLong(System.nanoTime() - SIGN_INTERVAL);

  private final Object inbox = new Object();
  private final Deque<Frame> frames = new ArrayDeque<>();
  private boolean ended;
  private boolean told; // that it ended

  private WorkerChannel(OutputStream out) {
    this.out = out;
  }

  /** Opens the channel; to be called once. */
  public static WorkerChannel open() throws IOException {
    WorkerChannel channel = new WorkerChannel(new BufferedOutputStream(takeOutput()));
    System.setOut(System.err);
    Thread.setDefaultUncaughtExceptionHandler((_, e) -> channel.fail(e));
    InputStream in = System.in;
    Thread.ofPlatform()
      .daemon()
      .name("parent")
      .start(() -> channel.listen(in));
    return channel;
  }

  private static OutputStream takeOutput() throws IOException {
    if (Posix.isHere()) {
      Posix.ignoreTerminalSignals();
      FileOutputStream pipe = new FileOutputStream("/dev/fd/" + OUT);
      if (Posix.copyDescriptor(ERR, OUT)) {
        return pipe;
      }
      pipe.close();
    }
    // On Windows each C library has standard output for itself: native code must not print there.
    return new FileOutputStream(FileDescriptor.out);
  }

  /** Reads ahead, so that the end of the input is seen while the worker is busy. */
  private void listen(InputStream in) {
    try {
      for (Optional<Frame> frame = Frame.readFrom(in); frame.isPresent(); frame = Frame.readFrom(in)) {
        synchronized (inbox) {
          frames.add(frame.get());
          inbox.notifyAll();
        }
      }
    } catch (IOException _) {
      // An end like any other.
    }
    try {
      synchronized (inbox) {
        ended = true;
        inbox.notifyAll();
        // Maybe it has just answered and is about to ask for the next frame.
        inbox.wait(MOMENT.toMillis());
        if (!told) {
          exit();
        }
      }
      Thread.sleep(GRACE);
    } catch (InterruptedException _) {
      // then at once
    }
    exit();
  }

  private static void exit() {
    if (Posix.isHere()) {
      Posix.exit(1);
    } else {
      Runtime.getRuntime().halt(1);
    }
  }

  /**
   * Waits for the next frame.
   *
   * @return empty when the parent wants no more: free what was taken, and return from the main
   */
  public Optional<Frame> receive() throws IOException {
    synchronized (inbox) {
      try {
        while (frames.isEmpty() && !ended) {
          inbox.wait();
        }
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        InterruptedIOException interrupted = new InterruptedIOException("interrupted while waiting for a frame");
        interrupted.initCause(e);
        throw interrupted;
      }
      if (ended) {
        told = true;
        inbox.notifyAll();
        return Optional.empty();
      }
      return Optional.of(frames.remove());
    }
  }

  /** Sends a frame. Safe for use by several threads. */
  public void send(Frame frame) throws IOException {
    synchronized (out) {
      frame.writeTo(out);
    }
  }

  /** Shows the parent that the work goes on. To be called often: most calls send nothing. Safe for use by several threads. */
  public void alive() throws IOException {
    long now = System.nanoTime();
    long last = lastSign.get();
    if (now - last >= SIGN_INTERVAL && lastSign.compareAndSet(last, now)) {
      send(new Frame(Frame.ALIVE, new byte[0]));
    }
  }

  /**
   * Tells the parent why the work failed, in one line, and ends this process with exit code 1. An {@link IOException} speaks for
   * itself; of anything else the stack trace goes to the log.
   */
  public void fail(Throwable e) {
    try {
      send(new Frame(Frame.FAIL, message(e).getBytes(StandardCharsets.UTF_8)));
    } catch (IOException _) {
      // The parent is gone.
    }
    System.exit(1);
  }

  private static String message(Throwable e) {
    return switch (e) {
      case IOException io -> Natives.describe(io);
      case UncheckedIOException io -> Natives.describe(io.getCause());
      default -> {
        e.printStackTrace();
        yield "the worker process failed: " + e;
      }
    };
  }
}
