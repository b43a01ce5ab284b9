package dev.attar.distill.teacher;

import dev.attar.distill.teacher.Question.Distribution;
import dev.attar.llama.Frame;
import java.io.DataInput;
import java.io.DataOutput;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.OptionalLong;

/** What a {@link LlamaTeacher} asks of its worker. */
sealed interface Request {
  /**
   * Load the model and read the texts; comes first. Answered by {@link Reply.Opened}.
   *
   * @param tokens an empty file, for all windows' tokens: int32 in the machine's byte order
   */
  record Open(Path model, LlamaTeacher.Settings settings, Path tokens) implements Request {}

  /**
   * Answer a question. Answered by {@link Reply.Answered}.
   *
   * @param slot where the answer goes
   * @param file the slot's memory from now on; empty if it stays
   * @param bytes its length
   */
  record Ask(int slot, Optional<Path> file, long bytes, Question question) implements Request {}

  private static int kind(Request request) {
    return switch (request) {
      case Open _ -> 1;
      case Ask _ -> 2;
    };
  }

  /** As it goes through the pipe. */
  static Frame toFrame(Request request) throws IOException {
    return Frame.of(kind(request), out -> {
      switch (request) {
        case Open open -> {
          out.writeUTF(open.model.toString());
          write(out, open.settings);
          out.writeUTF(open.tokens.toString());
        }
        case Ask ask -> {
          out.writeInt(ask.slot);
          out.writeUTF(ask.file.map(Path::toString).orElse(""));
          out.writeLong(ask.bytes);
          write(out, ask.question.windows());
          write(out, ask.question.distribution());
          write(out, ask.question.states());
        }
      }
    });
  }

  private static void write(DataOutput out, LlamaTeacher.Settings settings) throws IOException {
    write(out, settings.training());
    write(out, settings.validation());
    out.writeLong(settings.tokens().orElse(0));
    out.writeInt(settings.context());
    out.writeInt(settings.validationWindows());
    out.writeInt(settings.vocabulary());
    out.writeInt(settings.threads());
    out.writeInt(settings.gpuLayers().orElse(-1));
    out.writeLong(settings.patience().toMillis());
  }

  private static void write(DataOutput out, List<Path> paths) throws IOException {
    out.writeInt(paths.size());
    for (Path path : paths) {
      out.writeUTF(path.toString());
    }
  }

  private static void write(DataOutput out, int[] numbers) throws IOException {
    out.writeInt(numbers.length);
    for (int number : numbers) {
      out.writeInt(number);
    }
  }

  private static void write(DataOutput out, Distribution distribution) throws IOException {
    switch (distribution) {
      case Distribution.None _ -> out.writeInt(0);
      case Distribution.Logits _ -> out.writeInt(-1);
      case Distribution.Top top -> {
        out.writeInt(top.k());
        out.writeFloat(top.temperature());
      }
    }
  }

  /** What {@link #toFrame} wrote. */
  static Request of(Frame frame) throws IOException {
    DataInput in = frame.input();
    return switch (frame.kind()) {
      case 1 -> new Open(Path.of(in.readUTF()), readSettings(in), Path.of(in.readUTF()));
      case 2 -> {
        int slot = in.readInt();
        String file = in.readUTF();
        long bytes = in.readLong();
        Question question = new Question(readNumbers(in, frame), readDistribution(in), readNumbers(in, frame));
        yield new Ask(slot, file.isEmpty() ? Optional.empty() : Optional.of(Path.of(file)), bytes, question);
      }
      default -> throw new IOException("unknown request " + frame.kind());
    };
  }

  private static LlamaTeacher.Settings readSettings(DataInput in) throws IOException {
    List<Path> training = readPaths(in);
    List<Path> validation = readPaths(in);
    long tokens = in.readLong();
    int context = in.readInt();
    int validationWindows = in.readInt();
    int vocabulary = in.readInt();
    int threads = in.readInt();
    int gpuLayers = in.readInt();
    return new LlamaTeacher.Settings(
      training,
      validation,
      tokens == 0 ? OptionalLong.empty() : OptionalLong.of(tokens),
      context,
      validationWindows,
      vocabulary,
      threads,
      gpuLayers < 0 ? OptionalInt.empty() : OptionalInt.of(gpuLayers),
      Duration.ofMillis(in.readLong())
    );
  }

  private static List<Path> readPaths(DataInput in) throws IOException {
    List<Path> paths = new ArrayList<>();
    for (int n = in.readInt(); n > 0; n--) {
      paths.add(Path.of(in.readUTF()));
    }
    return paths;
  }

  private static int[] readNumbers(DataInput in, Frame frame) throws IOException {
    int n = in.readInt();
    if (n < 0 || n > frame.length() / Integer.BYTES) {
      throw new IOException(n + " numbers in a message of " + frame.length() + " bytes");
    }
    int[] numbers = new int[n];
    for (int i = 0; i < n; i++) {
      numbers[i] = in.readInt();
    }
    return numbers;
  }

  private static Distribution readDistribution(DataInput in) throws IOException {
    int k = in.readInt();
    return switch (k) {
      case 0 -> new Distribution.None();
      case -1 -> new Distribution.Logits();
      default -> new Distribution.Top(k, in.readFloat());
    };
  }
}
