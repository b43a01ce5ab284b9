package dev.attar.calibration;

import dev.attar.llama.Frame;
import java.io.DataInput;
import java.io.DataOutput;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/** What a worker answers to a {@link Request}. */
sealed interface Reply {
  /**
   * All is ready.
   *
   * @param windows number of windows
   * @param tokens number of tokens in them
   * @param inputs what enters linear layers, in the order of the computation
   * @param warnings what the user should know
   */
  record Opened(int windows, long tokens, List<LinearInput> inputs, List<String> warnings) implements Reply {}

  /**
   * Another window was run.
   *
   * @param done how many so far
   */
  record Window(int done) implements Reply {}

  /**
   * Sums of the squares of what enters the next input, in the inputs' order.
   *
   * @param squares all columns of the first expert, then the second's …
   * @param counts number of rows of each expert
   */
  @SuppressWarnings("ArrayRecordComponent") // only passed on
  record Importance(double[] squares, long[] counts) implements Reply {}

  /**
   * The influence of each block.
   *
   * @param blocks as {@link Calibrator#influence} gives it
   */
  @SuppressWarnings("ArrayRecordComponent") // only passed on
  record Influence(double[] blocks) implements Reply {}

  /** It is done. */
  record Done() implements Reply {}

  private static int kind(Reply reply) {
    return switch (reply) {
      case Opened _ -> 1;
      case Window _ -> 2;
      case Importance _ -> 3;
      case Done _ -> 4;
      case Influence _ -> 5;
    };
  }

  /** As it goes through the pipe. */
  static Frame toFrame(Reply reply) throws IOException {
    return Frame.of(kind(reply), out -> {
      switch (reply) {
        case Opened opened -> {
          out.writeInt(opened.windows);
          out.writeLong(opened.tokens);
          out.writeInt(opened.inputs.size());
          for (LinearInput input : opened.inputs) {
            writeStrings(out, input.weights());
            out.writeInt(input.columns());
            out.writeInt(input.experts());
          }
          writeStrings(out, opened.warnings);
        }
        case Window window -> out.writeInt(window.done);
        case Importance importance -> {
          out.writeInt(importance.counts.length);
          for (long count : importance.counts) {
            out.writeLong(count);
          }
          writeNumbers(out, importance.squares);
        }
        case Influence influence -> writeNumbers(out, influence.blocks);
        case Done _ -> {}
      }
    });
  }

  private static void writeNumbers(DataOutput out, double[] numbers) throws IOException {
    out.writeInt(numbers.length);
    for (double number : numbers) {
      out.writeDouble(number);
    }
  }

  private static void writeStrings(DataOutput out, List<String> strings) throws IOException {
    out.writeInt(strings.size());
    for (String string : strings) {
      out.writeUTF(string);
    }
  }

  /** What {@link #toFrame} wrote. */
  static Reply of(Frame frame) throws IOException {
    DataInput in = frame.input();
    return switch (frame.kind()) {
      case 1 -> {
        int windows = in.readInt();
        long tokens = in.readLong();
        List<LinearInput> inputs = new ArrayList<>();
        for (int n = in.readInt(); n > 0; n--) {
          List<String> weights = readStrings(in);
          if (weights.isEmpty()) {
            throw new IOException("an input without weights");
          }
          inputs.add(new LinearInput(weights.getFirst(), weights, in.readInt(), in.readInt()));
        }
        yield new Opened(windows, tokens, inputs, readStrings(in));
      }
      case 2 -> new Window(in.readInt());
      case 3 -> {
        long[] counts = new long[count(in, frame)];
        for (int i = 0; i < counts.length; i++) {
          counts[i] = in.readLong();
        }
        yield new Importance(readNumbers(in, frame), counts);
      }
      case 4 -> new Done();
      case 5 -> new Influence(readNumbers(in, frame));
      default -> throw new IOException("unknown reply " + frame.kind());
    };
  }

  private static int count(DataInput in, Frame frame) throws IOException {
    int n = in.readInt();
    if (n < 0 || n > frame.length() / Double.BYTES) {
      throw new IOException(n + " numbers in a message of " + frame.length() + " bytes");
    }
    return n;
  }

  private static double[] readNumbers(DataInput in, Frame frame) throws IOException {
    double[] numbers = new double[count(in, frame)];
    for (int i = 0; i < numbers.length; i++) {
      numbers[i] = in.readDouble();
    }
    return numbers;
  }

  private static List<String> readStrings(DataInput in) throws IOException {
    List<String> strings = new ArrayList<>();
    for (int n = in.readInt(); n > 0; n--) {
      strings.add(in.readUTF());
    }
    return strings;
  }
}
