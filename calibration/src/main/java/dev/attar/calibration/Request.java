package dev.attar.calibration;

import dev.attar.compute.DeviceChoice;
import dev.attar.formats.TensorType;
import dev.attar.llama.Frame;
import java.io.DataInput;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;

/** What a {@link Calibrator} asks of its worker. */
sealed interface Request {
  /** Load the model, read the texts, find the inputs; comes first. Answered by {@link Reply.Opened}. */
  record Open(Path model, Calibrator.Settings settings) implements Request {}

  /** Collect sums of squares. Answered by {@link Reply.Window}s, a {@link Reply.Importance} for each input, {@link Reply.Done}. */
  record CollectImportance() implements Request {}

  /**
   * Collect Gram matrices and drifts and write them. Answered by {@link Reply.Window}s and {@link Reply.Done}.
   *
   * @param drifts weights that are one matrix
   */
  record CollectGrams(Path folder, String identity, List<Wanted> wanted, List<String> drifts) implements Request {}

  /**
   * A Gram matrix.
   *
   * @param input its number among the inputs
   * @param expert as in {@link GramRequest}
   */
  record Wanted(int input, int expert) {}

  /** Measure the influence of blocks. Answered by {@link Reply.Window}s and {@link Reply.Influence}. */
  record MeasureInfluence() implements Request {}

  /** Replace a weight. Answered by {@link Reply.Done}. */
  record Replace(String tensor, TensorType type, Path encoded) implements Request {}

  private static int kind(Request request) {
    return switch (request) {
      case Open _ -> 1;
      case CollectImportance _ -> 2;
      case CollectGrams _ -> 3;
      case Replace _ -> 4;
      case MeasureInfluence _ -> 5;
    };
  }

  /** As it goes through the pipe. */
  static Frame toFrame(Request request) throws IOException {
    return Frame.of(kind(request), out -> {
      switch (request) {
        case Open open -> {
          out.writeUTF(open.model.toString());
          Calibrator.Settings settings = open.settings;
          out.writeInt(settings.texts().size());
          for (Path text : settings.texts()) {
            out.writeUTF(text.toString());
          }
          out.writeLong(settings.tokens());
          out.writeInt(settings.context());
          out.writeInt(settings.threads());
          out.writeUTF(settings.device().name());
          out.writeBoolean(settings.output());
          out.writeBoolean(settings.writable());
          out.writeLong(settings.patience().toMillis());
        }
        case CollectImportance _, MeasureInfluence _ -> {}
        case CollectGrams collect -> {
          out.writeUTF(collect.folder.toString());
          out.writeUTF(collect.identity);
          out.writeInt(collect.wanted.size());
          for (Wanted wanted : collect.wanted) {
            out.writeInt(wanted.input);
            out.writeInt(wanted.expert);
          }
          out.writeInt(collect.drifts.size());
          for (String weight : collect.drifts) {
            out.writeUTF(weight);
          }
        }
        case Replace replace -> {
          out.writeUTF(replace.tensor);
          out.writeUTF(replace.type.name());
          out.writeUTF(replace.encoded.toString());
        }
      }
    });
  }

  /** What {@link #toFrame} wrote. */
  static Request of(Frame frame) throws IOException {
    DataInput in = frame.input();
    return switch (frame.kind()) {
      case 1 -> {
        Path model = Path.of(in.readUTF());
        List<Path> texts = new ArrayList<>();
        for (int n = in.readInt(); n > 0; n--) {
          texts.add(Path.of(in.readUTF()));
        }
        yield new Open(
          model,
          new Calibrator.Settings(
            texts,
            in.readLong(),
            in.readInt(),
            in.readInt(),
            DeviceChoice.valueOf(in.readUTF()),
            in.readBoolean(),
            in.readBoolean(),
            Duration.ofMillis(in.readLong())
          )
        );
      }
      case 2 -> new CollectImportance();
      case 3 -> {
        Path folder = Path.of(in.readUTF());
        String identity = in.readUTF();
        List<Wanted> wanted = new ArrayList<>();
        for (int n = in.readInt(); n > 0; n--) {
          wanted.add(new Wanted(in.readInt(), in.readInt()));
        }
        List<String> drifts = new ArrayList<>();
        for (int n = in.readInt(); n > 0; n--) {
          drifts.add(in.readUTF());
        }
        yield new CollectGrams(folder, identity, wanted, drifts);
      }
      case 4 -> new Replace(in.readUTF(), TensorType.valueOf(in.readUTF()), Path.of(in.readUTF()));
      case 5 -> new MeasureInfluence();
      default -> throw new IOException("unknown request " + frame.kind());
    };
  }
}
