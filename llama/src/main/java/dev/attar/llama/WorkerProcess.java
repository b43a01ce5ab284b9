package dev.attar.llama;

import java.io.IOException;
import java.io.InputStream;
import java.io.InterruptedIOException;
import java.math.BigDecimal;
import java.net.ProtocolException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;

/**
 * Runs a main class in a JVM of its own, on the class path and the Java of this one, so that native code that ends its process does
 * not end ours. The two talk by {@linkplain Frame frames}: the main opens a {@link WorkerChannel}, which is the other end of this.
 *
 * <p>The worker ends with this object, with this process whatever ends it, and when a thread that waits for it is interrupted. To
 * be used by one thread at a time.
 */
public final class WorkerProcess implements AutoCloseable {

  private static final Duration GRACE = Duration.ofSeconds(2);

  // A worker answers requests, so few frames wait at a time; one that floods is made to wait itself.
  private static final int WAITING = 16;

  /**
   * How to run a worker.
   *
   * @param jvmOptions further options for its JVM, for example {@code -Xmx1g}
   * @param patience time to wait for a frame, a sign of life at the least, before the worker counts as hanging
   */
  public record Options(List<String> jvmOptions, Duration patience) {
    public Options {
      jvmOptions = List.copyOf(jvmOptions);
      if (!patience.isPositive()) {
        throw new IllegalArgumentException("patience of " + patience + ", expected more than none");
      }
    }
  }

  private final Process process;
  private final Duration patience;
  private final WorkerLog log = new WorkerLog();
  private final BlockingQueue<Optional<Frame>> frames = new ArrayBlockingQueue<>(WAITING); // an empty one is the end
  private final Thread frameReader;
  private final CompletableFuture<Void> logReader;
  private final Thread shutdownHook = new Thread(this::shutDown);
  private volatile long lastSign = System.nanoTime();
  private volatile String complaint; // why it failed, if the exit code and the log do not tell
  private volatile boolean shuttingDown;
  private NativeFailure failure;

  private WorkerProcess(Process process, Duration patience) {
    this.process = process;
    this.patience = patience;
    frameReader = Thread.ofPlatform().daemon().name("worker frames").unstarted(this::readFrames);
    logReader = CompletableFuture.runAsync(
      () -> log.readFrom(process.getErrorStream()),
      task -> Thread.ofPlatform().daemon().name("worker log").start(task)
    );
  }

  /**
   * Starts a worker. What goes wrong with it is seen when something is received.
   *
   * @param main class with a {@code main} method that opens a {@link WorkerChannel}
   * @param arguments for it
   * @throws IOException if the operating system refuses to start the process
   */
  public static WorkerProcess start(Class<?> main, List<String> arguments, Options options) throws IOException {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.add("--enable-native-access=ALL-UNNAMED");
    command.add("-XX:+UseSerialGC");
    command.add("-XX:-UsePerfData");
    command.add("-XX:+ExitOnOutOfMemoryError");
    // Standard output is for frames alone.
    command.add("-Xlog:disable");
    command.add("-XX:+DisplayVMOutputToStderr");
    // A crash report goes to the log that we read, not to the user's folder.
    command.add("-XX:+ErrorFileToStderr");
    command.add("-XX:-CreateCoredumpOnCrash");
    command.add("-Dstderr.encoding=UTF-8");
    command.addAll(options.jvmOptions);
    command.add("-cp");
    command.add(System.getProperty("java.class.path"));
    command.add(main.getName());
    command.addAll(arguments);
    ProcessBuilder builder = new ProcessBuilder(command);
    // Without this a failed assertion starts a debugger to print a backtrace.
    builder.environment().put("GGML_NO_BACKTRACE", "1");
    WorkerProcess worker = new WorkerProcess(builder.start(), options.patience);
    try {
      Runtime.getRuntime().addShutdownHook(worker.shutdownHook);
    } catch (IllegalStateException _) {
      worker.shutDown();
    }
    worker.frameReader.start();
    return worker;
  }

  private void shutDown() {
    shuttingDown = true;
    kill();
  }

  /** Not by the {@link Process}, which would close its streams before their last lines are read. */
  private void kill() {
    process.toHandle().destroyForcibly();
  }

  private void readFrames() {
    try (InputStream in = process.getInputStream()) {
      for (Optional<Frame> next = Frame.readFrom(in); next.isPresent(); next = Frame.readFrom(in)) {
        lastSign = System.nanoTime();
        Frame frame = next.get();
        if (frame.kind() == Frame.FAIL) {
          complaint = oneLine(new String(frame.content(), StandardCharsets.UTF_8));
          break;
        }
        if (frame.kind() != Frame.ALIVE) {
          frames.put(next);
        }
      }
    } catch (ProtocolException e) {
      complaint = "the worker process wrote something that is no frame: " + e.getMessage();
      kill();
    } catch (IOException _) {
      // It ended while it wrote. The exit code says more.
    } catch (InterruptedException _) {
      return; // nobody wants the frames any more
    }
    try {
      frames.put(Optional.empty());
    } catch (InterruptedException _) {
      // the same
    }
  }

  /** Text of a worker as part of a message. */
  private static String oneLine(String text) {
    String line = text.strip().replaceAll("\\s*\\R\\s*", " ");
    return line.length() <= 2000 ? line : line.substring(0, 2000) + "…";
  }

  /**
   * Sends a frame.
   *
   * @throws NativeFailure if the worker has ended, or does not take the frame within its time
   * @throws InterruptedIOException if the thread is interrupted, or this process is ending; the worker is ended
   */
  public void send(Frame frame) throws IOException {
    if (failure != null) {
      throw failure;
    }
    // On a thread of its own, since a pipe that nobody empties blocks for good.
    FutureTask<Void> write = new FutureTask<>(() -> {
      frame.writeTo(process.getOutputStream());
      return null;
    });
    Thread.ofVirtual().start(write);
    try {
      write.get(patience.toNanos(), TimeUnit.NANOSECONDS);
    } catch (ExecutionException e) {
      if (!(e.getCause() instanceof IOException)) {
        throw new IllegalStateException(e.getCause());
      }
      throw failure(); // the pipe is broken
    } catch (TimeoutException _) {
      throw hung();
    } catch (InterruptedException e) {
      throw interrupted(e);
    }
  }

  /**
   * Waits for the next frame that is not a mere sign of life.
   *
   * @throws NativeFailure if the worker reports a failure, ends, is ended by someone, shows no sign of life in time, or writes
   *     something else than frames. It is gone then, and every further call throws the same.
   * @throws InterruptedIOException if the thread is interrupted, or this process is ending; the worker is ended
   */
  public Frame receive() throws IOException {
    if (failure != null) {
      throw failure;
    }
    long start = System.nanoTime();
    try {
      while (true) {
        long quiet = System.nanoTime() - (lastSign - start > 0 ? lastSign : start);
        long left = patience.toNanos() - quiet;
        Optional<Frame> frame = frames.poll(left, TimeUnit.NANOSECONDS);
        if (frame == null && left <= 0) {
          throw hung();
        }
        if (frame != null) {
          return frame.orElseThrow(this::failure);
        }
      }
    } catch (InterruptedException e) {
      throw interrupted(e);
    }
  }

  private IOException hung() {
    String seconds = BigDecimal.valueOf(patience.toMillis(), 3).stripTrailingZeros().toPlainString();
    complaint = "the worker process showed no sign of life for " + seconds + " s and was ended";
    kill();
    return failure();
  }

  private IOException interrupted(InterruptedException e) {
    complaint = "the worker process was interrupted and ended";
    Thread.currentThread().interrupt();
    failure();
    InterruptedIOException interrupted = new InterruptedIOException("interrupted while a worker process ran");
    interrupted.initCause(e);
    return interrupted;
  }

  /** To be called when the worker ends or is to end. */
  private IOException failure() {
    if (end() && complaint == null) {
      complaint = "the worker process closed its output before its work was done, and was ended";
    }
    int code = process.exitValue();
    failure = new NativeFailure(complaint == null ? log.reason(code) : complaint, code, log.lines());
    return shuttingDown ? new InterruptedIOException("this process is ending, and its worker with it") : failure;
  }

  /** Waits until the worker has ended; ends it if that takes too long or the thread is interrupted, and then says so. */
  private boolean end() {
    boolean killed = true;
    try {
      killed = !process.waitFor(GRACE);
    } catch (InterruptedException _) {
      Thread.currentThread().interrupt();
    }
    kill();
    process.onExit().join();
    logReader.join();
    frameReader.interrupt();
    try {
      Runtime.getRuntime().removeShutdownHook(shutdownHook);
    } catch (IllegalStateException _) {
      // The JVM is ending: the hook is running.
    }
    return killed;
  }

  /** The last lines of the worker's standard error, where llama.cpp logs, oldest first. Complete when the worker is closed. */
  public List<String> log() {
    return log.lines();
  }

  /** The operating system's number of the process. */
  public long pid() {
    return process.pid();
  }

  /** Ends the worker, gently if it is waiting for a frame, and returns when it is gone. */
  @Override
  public void close() {
    try {
      process.getOutputStream().close();
    } catch (IOException _) {
      // It is gone already, with a frame that it has not read.
    }
    end();
  }
}
