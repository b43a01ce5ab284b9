package dev.attar.cli;

import com.github.luben.zstd.Zstd;
import com.github.luben.zstd.ZstdCompressCtx;
import com.github.luben.zstd.ZstdException;
import dev.attar.bench.ProgressListener;
import java.io.EOFException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorCompletionService;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;

/**
 * How many bytes files take when they are compressed with zstd, as for a download. They are cut into chunks, each of which becomes a
 * frame of its own, so that several threads can work; a larger window would find hardly more in weights.
 */
final class CompressedSize {

  /** The level that zstd's own program uses. */
  static final int LEVEL = 3;

  private static final int CHUNK = 4 << 20;
  private static final long MEGABYTE = 1_000_000;
  private static final long PROGRESS_MILLIS = 100;

  private CompressedSize() {}

  /**
   * Compresses files, and keeps nothing of it.
   *
   * @param files what to compress
   * @param threads how many work
   * @param task what progress calls it
   * @return the bytes of all of them, compressed
   * @throws IOException if one cannot be read, or there is no zstd for this platform
   * @throws InterruptedException if the thread is interrupted
   */
  static long of(List<Path> files, int threads, String task, ProgressListener listener)
    throws IOException, InterruptedException {
    long total = 0;
    for (Path file : files) {
      total += Files.size(file);
    }
    long compressed = 0;
    long done = 0;
    for (Path file : files) {
      long before = done;
      long all = total;
      compressed += of(file, threads, bytes -> listener.at(task, (before + bytes) / MEGABYTE, all / MEGABYTE, "MB"));
      done += Files.size(file);
    }
    return compressed;
  }

  /** Hears how many bytes have been read. */
  @FunctionalInterface
  private interface Reader {
    void read(long bytes);
  }

  private static long of(Path file, int threads, Reader reader) throws IOException, InterruptedException {
    try (
      FileChannel channel = FileChannel.open(file, StandardOpenOption.READ);
      ExecutorService workers = Executors.newFixedThreadPool(threads, Thread.ofPlatform().daemon().factory())
    ) {
      long size = channel.size();
      AtomicLong next = new AtomicLong();
      AtomicLong read = new AtomicLong();
      ExecutorCompletionService<Long> all = new ExecutorCompletionService<>(workers);
      for (int i = 0; i < threads; i++) {
        all.submit(() -> compress(channel, size, next, read));
      }
      try {
        long compressed = 0;
        for (int i = 0; i < threads; ) {
          Future<Long> finished = all.poll(PROGRESS_MILLIS, TimeUnit.MILLISECONDS);
          reader.read(read.get());
          if (finished != null) {
            compressed += finished.get();
            i++;
          }
        }
        return compressed;
      } catch (ExecutionException e) {
        throw new IOException(file + ": cannot be compressed: " + reason(e.getCause()), e.getCause());
      } finally {
        // What is left has nothing to read any more.
        next.set(size);
      }
    }
  }

  private static String reason(Throwable cause) {
    return cause instanceof LinkageError ? "no zstd for this platform" : String.valueOf(cause.getMessage());
  }

  /** Compresses chunks as long as there are any; gives their bytes. */
  private static long compress(FileChannel channel, long size, AtomicLong next, AtomicLong read) throws IOException {
    long compressed = 0;
    try (ZstdCompressCtx zstd = new ZstdCompressCtx().setLevel(LEVEL)) {
      ByteBuffer chunk = ByteBuffer.allocateDirect((int) Math.min(CHUNK, size));
      ByteBuffer frame = ByteBuffer.allocateDirect((int) Zstd.compressBound(chunk.capacity()));
      for (long at = next.getAndAdd(CHUNK); at < size; at = next.getAndAdd(CHUNK)) {
        chunk.clear().limit((int) Math.min(CHUNK, size - at));
        while (chunk.hasRemaining()) {
          if (channel.read(chunk, at + chunk.position()) < 0) {
            throw new EOFException("it has become shorter");
          }
        }
        chunk.flip();
        compressed += zstd.compress(frame.clear(), chunk);
        read.addAndGet(chunk.limit());
      }
    } catch (ZstdException e) {
      throw new IOException(e.getMessage(), e);
    }
    return compressed;
  }
}
