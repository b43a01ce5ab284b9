package dev.attar.bench.worker;

import dev.attar.bench.accuracy.TokenComparison;
import dev.attar.bench.accuracy.TokenScores;
import dev.attar.bench.accuracy.Windows;
import dev.attar.llama.Frame;
import java.io.DataInput;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.OptionalLong;

/** What a model's worker answers to a {@link Request}. */
sealed interface Reply {
  /**
   * The model is there.
   *
   * @param seconds how long llama.cpp took
   * @param vocabulary number of tokens it knows
   * @param llama version of llama.cpp
   * @param devices what llama.cpp computes on
   */
  record Loaded(double seconds, int vocabulary, String llama, List<String> devices) implements Reply {}

  /** The tokens of a text. */
  record Tokenized(int[] tokens) implements Reply {
    /** The most tokens that a reply has room for. */
    static final int MOST = Frame.LONGEST / Integer.BYTES - 1;

    @Override
    public boolean equals(Object other) {
      return this == other;
    }

    @Override
    public int hashCode() {
      return System.identityHashCode(this);
    }

    @Override
    public String toString() {
      return tokens.length + " tokens";
    }
  }

  /** It is done. */
  record Done() implements Reply {}

  /** Scores of a step by the base, or by the only model. */
  record Scored(TokenScores scores) implements Reply {}

  /** Scores of a step by a variant. */
  record Compared(TokenComparison scores) implements Reply {}

  /**
   * Time of a run.
   *
   * @param seconds until the last token was computed
   * @param firstTokenSeconds until the likeliest next token was known
   */
  record Timed(double seconds, double firstTokenSeconds) implements Reply {}

  /** The most resident memory that the worker had so far, in bytes, where the system says. */
  record Memory(OptionalLong peakResident) implements Reply {}

  private static int kind(Reply reply) {
    return switch (reply) {
      case Loaded _ -> 1;
      case Tokenized _ -> 2;
      case Done _ -> 3;
      case Scored _ -> 4;
      case Compared _ -> 5;
      case Timed _ -> 6;
      case Memory _ -> 7;
    };
  }

  /** As it goes through the pipe. */
  static Frame toFrame(Reply reply) throws IOException {
    return Frame.of(kind(reply), out -> {
      switch (reply) {
        case Loaded loaded -> {
          out.writeDouble(loaded.seconds);
          out.writeInt(loaded.vocabulary);
          out.writeUTF(loaded.llama);
          out.writeInt(loaded.devices.size());
          for (String device : loaded.devices) {
            out.writeUTF(device);
          }
        }
        case Tokenized tokenized -> {
          out.writeInt(tokenized.tokens.length);
          for (int token : tokenized.tokens) {
            out.writeInt(token);
          }
        }
        case Done _ -> {}
        case Scored scored -> scored.scores.write(out);
        case Compared compared -> compared.scores.write(out);
        case Timed timed -> {
          out.writeDouble(timed.seconds);
          out.writeDouble(timed.firstTokenSeconds);
        }
        case Memory memory -> out.writeLong(memory.peakResident.orElse(-1));
      }
    });
  }

  /** What {@link #toFrame} wrote. */
  static Reply of(Frame frame) throws IOException {
    DataInput in = frame.input();
    return switch (frame.kind()) {
      case 1 -> {
        double seconds = in.readDouble();
        int vocabulary = in.readInt();
        String llama = in.readUTF();
        List<String> devices = new ArrayList<>();
        for (int n = in.readInt(); n > 0; n--) {
          devices.add(in.readUTF());
        }
        yield new Loaded(seconds, vocabulary, llama, devices);
      }
      case 2 -> {
        int n = in.readInt();
        if (n < 0 || n > frame.length() / Integer.BYTES) {
          throw new IOException(n + " tokens in a message of " + frame.length() + " bytes");
        }
        int[] tokens = new int[n];
        for (int i = 0; i < n; i++) {
          tokens[i] = in.readInt();
        }
        yield new Tokenized(tokens);
      }
      case 3 -> new Done();
      case 4 -> new Scored(TokenScores.read(in, Windows.MOST_STEP_TOKENS));
      case 5 -> new Compared(TokenComparison.read(in, Windows.MOST_STEP_TOKENS));
      case 6 -> new Timed(in.readDouble(), in.readDouble());
      case 7 -> {
        long bytes = in.readLong();
        yield new Memory(bytes < 0 ? OptionalLong.empty() : OptionalLong.of(bytes));
      }
      default -> throw new IOException("unknown reply " + frame.kind());
    };
  }
}
