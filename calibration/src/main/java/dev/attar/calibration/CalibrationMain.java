package dev.attar.calibration;

import dev.attar.llama.LlamaLibrary;
import dev.attar.llama.WorkerChannel;
import java.io.IOException;

/** The process in which the model runs: answers {@link Request}s until its input ends. */
final class CalibrationMain {

  private CalibrationMain() {}

  /** Serves the parent. */
  public static void main(String[] args) throws IOException {
    WorkerChannel channel = WorkerChannel.open();
    LlamaLibrary.load().logTo(System.err);
    try (CalibrationServer server = new CalibrationServer(channel)) {
      server.serve();
    }
  }
}
