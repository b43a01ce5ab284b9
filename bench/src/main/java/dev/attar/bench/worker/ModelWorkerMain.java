package dev.attar.bench.worker;

import dev.attar.llama.LlamaLibrary;
import dev.attar.llama.WorkerChannel;
import java.io.IOException;

/** The process in which one model runs: answers {@link Request}s until its input ends. */
public final class ModelWorkerMain {

  private ModelWorkerMain() {}

  /** Serves the parent. */
  public static void main(String[] args) throws IOException {
    WorkerChannel channel = WorkerChannel.open();
    LlamaLibrary.load().logTo(System.err);
    try (ModelServer server = new ModelServer(channel)) {
      server.serve();
    }
  }
}
