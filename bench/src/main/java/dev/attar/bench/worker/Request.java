package dev.attar.bench.worker;

import dev.attar.bench.accuracy.Step;
import dev.attar.bench.accuracy.Windows;
import dev.attar.bench.latency.LatencyTest;
import dev.attar.llama.Frame;
import java.io.DataInput;
import java.io.IOException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;

/** What a parent asks of a model's worker. Each request is answered by one {@link Reply}, {@link Evaluate} by two. */
sealed interface Request {
  /** Open a model, or its vocabulary alone; comes first. Answered by {@link Reply.Loaded}. */
  record Load(Path file, List<Path> adapters, OptionalInt gpuLayers, boolean vocabularyOnly) implements Request {}

  /** Tokenize a file of UTF-8 text and give the first tokens of it. Answered by {@link Reply.Tokenized}. */
  record Tokenize(Path text, int most) implements Request {}

  /**
   * Make ready to evaluate. Answered by {@link Reply.Done}.
   *
   * @param context tokens per window
   * @param threads number of threads that decode
   * @param shared the base's logits; empty if there are no variants
   * @param isBase whether this model writes them or is compared with them
   */
  record OpenEvaluation(int context, int threads, Optional<Path> shared, boolean isBase) implements Request {}

  /**
   * Decode and score a step. Answered by {@link Reply.Done} once the next model may decode, then by {@link Reply.Scored} or {@link
   * Reply.Compared}.
   */
  record Evaluate(int slot, Step step) implements Request {}

  /** Make ready to time runs of at most so many tokens. Answered by {@link Reply.Done}. */
  record OpenTiming(int tokens, int threads) implements Request {}

  /** Time one run with random tokens. Answered by {@link Reply.Timed}. */
  record Time(LatencyTest.Kind kind, int tokens, int threads, long seed) implements Request {}

  /** Answered by {@link Reply.Memory}. */
  record MeasureMemory() implements Request {}

  private static int kind(Request request) {
    return switch (request) {
      case Load _ -> 1;
      case Tokenize _ -> 2;
      case OpenEvaluation _ -> 3;
      case Evaluate _ -> 4;
      case OpenTiming _ -> 5;
      case Time _ -> 6;
      case MeasureMemory _ -> 7;
    };
  }

  /** As it goes through the pipe. */
  static Frame toFrame(Request request) throws IOException {
    return Frame.of(kind(request), out -> {
      switch (request) {
        case Load load -> {
          out.writeUTF(load.file.toString());
          out.writeInt(load.adapters.size());
          for (Path adapter : load.adapters) {
            out.writeUTF(adapter.toString());
          }
          out.writeInt(load.gpuLayers.orElse(-1));
          out.writeBoolean(load.vocabularyOnly);
        }
        case Tokenize tokenize -> {
          out.writeUTF(tokenize.text.toString());
          out.writeInt(tokenize.most);
        }
        case OpenEvaluation open -> {
          out.writeInt(open.context);
          out.writeInt(open.threads);
          out.writeUTF(open.shared.map(Path::toString).orElse(""));
          out.writeBoolean(open.isBase);
        }
        case Evaluate evaluate -> {
          out.writeInt(evaluate.slot);
          evaluate.step.write(out);
        }
        case OpenTiming open -> {
          out.writeInt(open.tokens);
          out.writeInt(open.threads);
        }
        case Time time -> {
          out.writeInt(time.kind.ordinal());
          out.writeInt(time.tokens);
          out.writeInt(time.threads);
          out.writeLong(time.seed);
        }
        case MeasureMemory _ -> {}
      }
    });
  }

  /** What {@link #toFrame} wrote. */
  static Request of(Frame frame) throws IOException {
    DataInput in = frame.input();
    return switch (frame.kind()) {
      case 1 -> {
        Path file = Path.of(in.readUTF());
        List<Path> adapters = new ArrayList<>();
        for (int n = in.readInt(); n > 0; n--) {
          adapters.add(Path.of(in.readUTF()));
        }
        int layers = in.readInt();
        OptionalInt gpuLayers = layers < 0 ? OptionalInt.empty() : OptionalInt.of(layers);
        yield new Load(file, adapters, gpuLayers, in.readBoolean());
      }
      case 2 -> new Tokenize(Path.of(in.readUTF()), in.readInt());
      case 3 -> {
        int context = in.readInt();
        int threads = in.readInt();
        String shared = in.readUTF();
        yield new OpenEvaluation(
          context,
          threads,
          shared.isEmpty() ? Optional.empty() : Optional.of(Path.of(shared)),
          in.readBoolean()
        );
      }
      case 4 -> new Evaluate(in.readInt(), Step.read(in, Windows.MOST_STEP_TOKENS));
      case 5 -> new OpenTiming(in.readInt(), in.readInt());
      case 6 -> new Time(LatencyTest.Kind.values()[in.readInt()], in.readInt(), in.readInt(), in.readLong());
      case 7 -> new MeasureMemory();
      default -> throw new IOException("unknown request " + frame.kind());
    };
  }
}
