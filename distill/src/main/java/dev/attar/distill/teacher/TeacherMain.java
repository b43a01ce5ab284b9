package dev.attar.distill.teacher;

import dev.attar.llama.LlamaLibrary;
import dev.attar.llama.WorkerChannel;
import java.io.IOException;

/** The process in which the teacher runs: answers {@link Request}s until its input ends. */
final class TeacherMain {

  private TeacherMain() {}

  /** Serves the parent. */
  public static void main(String[] args) throws IOException {
    WorkerChannel channel = WorkerChannel.open();
    LlamaLibrary.load().logTo(System.err);
    try (TeacherServer server = new TeacherServer(channel)) {
      server.serve();
    }
  }
}
