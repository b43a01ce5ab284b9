package dev.attar.distill.teacher;

import dev.attar.llama.Frame;
import java.io.DataInput;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/** What a worker answers to a {@link Request}. */
sealed interface Reply {
  /**
   * All is ready.
   *
   * @param training windows to train on
   * @param validation windows to validate with
   * @param vocabulary tokens that distributions are over
   * @param blocks the model's
   * @param embedding numbers in a row of a state
   * @param warnings what the user should know
   */
  record Opened(
    int training,
    int validation,
    int vocabulary,
    int blocks,
    int embedding,
    List<String> warnings
  ) implements Reply {}

  /** The answer is in its slot. */
  record Answered() implements Reply {}

  /** As it goes through the pipe. */
  static Frame toFrame(Reply reply) throws IOException {
    return switch (reply) {
      case Opened opened -> Frame.of(1, out -> {
        out.writeInt(opened.training);
        out.writeInt(opened.validation);
        out.writeInt(opened.vocabulary);
        out.writeInt(opened.blocks);
        out.writeInt(opened.embedding);
        out.writeInt(opened.warnings.size());
        for (String warning : opened.warnings) {
          out.writeUTF(warning);
        }
      });
      case Answered _ -> Frame.of(2);
    };
  }

  /** What {@link #toFrame} wrote. */
  static Reply of(Frame frame) throws IOException {
    DataInput in = frame.input();
    return switch (frame.kind()) {
      case 1 -> {
        int training = in.readInt();
        int validation = in.readInt();
        int vocabulary = in.readInt();
        int blocks = in.readInt();
        int embedding = in.readInt();
        List<String> warnings = new ArrayList<>();
        for (int n = in.readInt(); n > 0; n--) {
          warnings.add(in.readUTF());
        }
        yield new Opened(training, validation, vocabulary, blocks, embedding, warnings);
      }
      case 2 -> new Answered();
      default -> throw new IOException("unknown reply " + frame.kind());
    };
  }
}
