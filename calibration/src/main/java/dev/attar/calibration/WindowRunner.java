package dev.attar.calibration;

import dev.attar.llama.Batch;
import dev.attar.llama.LlamaContext;
import dev.attar.llama.LlamaModel;
import dev.attar.llama.NodeObserver;
import java.io.IOException;
import java.nio.file.Path;

/** Has a model read windows of tokens, one at a time, while an observer watches. */
final class WindowRunner implements AutoCloseable {

  /** The most tokens that are computed together: llama.cpp's own. There is room for their logits, used or not. */
  static final int BATCH = 512;

  private final Path file;
  private final TokenWindows windows;
  private final LlamaContext context;
  private final Batch batch;

  /**
   * Makes a context.
   *
   * @param file the model's, for messages
   */
  WindowRunner(Path file, LlamaModel model, TokenWindows windows, int threads, NodeObserver observer)
    throws IOException {
    this.file = file;
    this.windows = windows;
    int size = Math.min(BATCH, windows.window());
    context = model.context(new LlamaContext.Options(windows.window(), size, size, 1, threads), observer);
    batch = new Batch(size);
  }

  /** Runs a window, counted from 0. */
  void run(int window) throws IOException {
    context.clear();
    for (int from = 0; from < windows.window(); from += BATCH) {
      decode(window, from);
    }
  }

  /** Runs the beginning of the first window, with the graph that every batch has. */
  void runFirstBatch() throws IOException {
    context.clear();
    decode(0, 0);
  }

  private void decode(int window, int from) throws IOException {
    batch.clear();
    for (int i = from; i < Math.min(windows.window(), from + BATCH); i++) {
      // Where a token's output is not wanted, the last layer leaves it out before its feed-forward part.
      batch.add(windows.token(window, i), i, 0, true);
    }
    try {
      context.decode(batch);
      context.synchronize();
    } catch (IllegalArgumentException e) {
      // More positions than the model has.
      throw new IOException(file + ": windows of " + windows.window() + " tokens: " + e.getMessage(), e);
    }
  }

  @Override
  public void close() {
    batch.close();
    context.close();
  }
}
