package dev.attar.cli;

import dev.attar.calibration.Calibrator;
import dev.attar.compute.DeviceChoice;
import dev.attar.compute.Devices;
import dev.attar.distill.DistillOptions;
import dev.attar.distill.DistillOptions.Loss;
import dev.attar.distill.DistillOptions.Reconstruction;
import dev.attar.distill.DistillOptions.Schedule;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.OptionalLong;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.Spec.Target;

/** Options for how a student is trained: on what, how long, how fast, on which device. */
final class TrainingOptions {

  private static final int DEFAULT_BATCH = 16;
  private static final int DEFAULT_VALIDATION_WINDOWS = 16;
  private static final int DEFAULT_VALIDATION_EVERY = 50;
  private static final int DEFAULT_CHECKPOINT_EVERY = 100;
  private static final int DEFAULT_RECONSTRUCTION = 100;
  private static final int DEFAULT_WARMUP = 50;
  /** For students of this width; wider ones learn more slowly in proportion (Yang et al., 2022, Tensor Programs V). */
  private static final double DEFAULT_RATE = 1e-3;

  private static final int RATED_WIDTH = 256;
  private static final double DEFAULT_LEAST_RATE = 0.1;
  private static final double DEFAULT_DECAY = 0.01;
  private static final double DEFAULT_CLIP = 1;

  // Those of most language models (Touvron et al., 2023, Llama 2, section 2.2).
  private static final float BETA1 = 0.9f;
  private static final float BETA2 = 0.95f;
  private static final float EPSILON = 1e-8f;

  /** Of steps that are few, the part that may warm up, and the part of them that reconstruction takes beside them. */
  private static final int PART = 10;

  private static final int MOST_STEPS = 1_000_000_000;
  private static final int MOST_BATCH = 1 << 16;
  private static final double MOST_EPOCHS = 1e6;
  private static final double MOST = 1e6;

  /** Whether what blocks compute is kept for gradients, or computed anew. */
  enum Recompute {
    AUTO,
    ALWAYS,
    NEVER
  }

  @Spec(Target.MIXEE)
  private CommandSpec command;

  @Option(
    names = "--text",
    paramLabel = "TEXT",
    description = "Train on this text: a document in UTF-8, or in a file *.jsonl one on each line, {\"text\": ...}. May be repeated."
  )
  private List<Path> texts = new ArrayList<>();

  @Option(
    names = "--valid",
    paramLabel = "TEXT",
    description = "Validate on this text (default: the last windows of --text, which are then not trained on). May be repeated."
  )
  private List<Path> validation = new ArrayList<>();

  @Option(names = "--tokens", paramLabel = "N", description = "Use the first N tokens of --text only (default: all).")
  private Long tokens;

  @Option(
    names = "--valid-windows",
    paramLabel = "N",
    description = "Validate on so many windows, or as many as --valid has (default: " +
      DEFAULT_VALIDATION_WINDOWS +
      ")."
  )
  private Integer validationWindows;

  @Option(names = { "-c", "--ctx" }, paramLabel = "N", description = "Tokens in a window of the texts (default: 512).")
  private Integer context;

  @Option(
    names = "--steps",
    paramLabel = "N",
    description = "Train for N steps (default: until the text was read once, or for --max-time)."
  )
  private Integer steps;

  @Option(
    names = "--epochs",
    paramLabel = "X",
    converter = Converters.Decimal.class,
    description = "Instead of --steps: read the text X times, 0.5 or 3."
  )
  private Double epochs;

  @Option(
    names = "--max-time",
    paramLabel = "TIME",
    converter = Converters.Time.class,
    description = "End training when this time is up, 30m or 1h30m, with the best weights so far. Without --steps and --epochs the " +
      "learning rate falls over as many steps as there is time for."
  )
  private Duration maxTime;

  @Option(
    names = "--reconstruct-steps",
    paramLabel = "N",
    description = "Before, let each block learn alone for N steps to give what the teacher's blocks that it stands for give (default: " +
      DEFAULT_RECONSTRUCTION +
      ", or a " +
      PART +
      "th of --steps, where the student's blocks can be exchanged with the teacher's; 0 for none), a quarter of --max-time at most."
  )
  private Integer reconstruction;

  @Option(
    names = "--learning-rate",
    paramLabel = "X",
    converter = Converters.Decimal.class,
    description = "The learning rate of AdamW at its highest (default: 0.001 for students whose embedding has up to 256 numbers, in " +
      "inverse proportion to them for others: 0.0000625 for 4096)."
  )
  private Double rate;

  @Option(
    names = "--reconstruct-rate",
    paramLabel = "X",
    converter = Converters.Decimal.class,
    description = "The same for --reconstruct-steps (default: that of --learning-rate)."
  )
  private Double reconstructionRate;

  @Option(
    names = "--warmup",
    paramLabel = "N",
    description = "Steps in which the learning rate rises (default: " +
      DEFAULT_WARMUP +
      ", a " +
      PART +
      "th of --steps at most)."
  )
  private Integer warmup;

  @Option(
    names = "--min-rate",
    paramLabel = "X",
    converter = Converters.Decimal.class,
    description = "The part of the learning rate that is left at the end of its cosine, 0 to 1 (default: 0.1)."
  )
  private Double leastRate;

  @Option(
    names = "--weight-decay",
    paramLabel = "X",
    converter = Converters.Decimal.class,
    description = "Decay of weights of matrices by AdamW (default: 0.01)."
  )
  private Double decay;

  @Option(
    names = "--clip",
    paramLabel = "X",
    converter = Converters.Decimal.class,
    description = "Shorten gradients that are longer than this (default: 1)."
  )
  private Double clip;

  @Option(names = "--batch", paramLabel = "N", description = "Windows in a step (default: " + DEFAULT_BATCH + ").")
  private Integer batch;

  @Option(
    names = "--micro-batch",
    paramLabel = "N",
    description = "Windows that are computed together, a divisor of --batch (default: as many as are fast and fit the memory)."
  )
  private Integer micro;

  @Option(
    names = "--recompute",
    paramLabel = "WHEN",
    description = "Compute what happens in a block anew when its gradient is computed, which takes less memory and a third more time: " +
      "always, never, or auto (the default), where memory is short."
  )
  private Recompute recompute = Recompute.AUTO;

  @Option(
    names = "--validate-every",
    paramLabel = "N",
    description = "Steps between validations (default: " + DEFAULT_VALIDATION_EVERY + ")."
  )
  private Integer validationEvery;

  @Option(
    names = "--checkpoint-every",
    paramLabel = "N",
    description = "Steps between checkpoints in OUT.work, from which --resume goes on (default: " +
      DEFAULT_CHECKPOINT_EVERY +
      ")."
  )
  private Integer checkpointEvery;

  @Option(
    names = "--seed",
    paramLabel = "N",
    description = "Of the order of windows and of fresh weights (default: 0)."
  )
  private long seed;

  @Option(
    names = "--max-memory",
    paramLabel = "SIZE",
    converter = Converters.Size.class,
    description = "How much memory of the device training may take, 1500M or 3G (powers of 1024; default: seven eighths of what is free)."
  )
  private ByteSize maxMemory;

  @Option(
    names = "--device",
    paramLabel = "DEVICE",
    description = "What trains: cpu, cuda (an NVIDIA GPU), or auto (the default), cuda if 'attar devices' says that it is available."
  )
  private DeviceChoice device = DeviceChoice.AUTO;

  @Option(
    names = "--timeout",
    paramLabel = "SECONDS",
    description = "Give the teacher up if it shows no sign of life for so long (default: 600)."
  )
  private Integer timeout;

  /** The texts that are trained on. */
  List<Path> texts() {
    return texts;
  }

  /** The texts that are validated on; none if windows of the others are held out. */
  List<Path> validation() {
    return validation;
  }

  /** All texts. */
  List<Path> inputs() {
    List<Path> all = new ArrayList<>(texts);
    all.addAll(validation);
    return all;
  }

  /** The most tokens of the texts that are trained on; empty for all. */
  OptionalLong tokens() {
    return tokens == null
      ? OptionalLong.empty()
      : OptionalLong.of(Usage.range(command, "--tokens", tokens, 1, Calibrator.MOST_TOKENS));
  }

  /** Tokens in a window. */
  int context() {
    return Usage.range(command, "--ctx", context, Calibrator.DEFAULT_CONTEXT, 2, Calibrator.MOST_CONTEXT);
  }

  /** Windows to validate on. */
  int validationWindows() {
    int most = (int) (Calibrator.MOST_TOKENS / context());
    return Usage.range(command, "--valid-windows", validationWindows, DEFAULT_VALIDATION_WINDOWS, 1, most);
  }

  /** How long the teacher may show no sign of life. */
  Duration patience() {
    return Duration.ofSeconds(
      Usage.range(command, "--timeout", timeout, MeasureOptions.DEFAULT_TIMEOUT, 1, Integer.MAX_VALUE)
    );
  }

  /** Of fresh weights, too. */
  long seed() {
    return seed;
  }

  /** What trains. */
  DeviceChoice device() {
    return device;
  }

  /** Whether the user wants blocks to be reconstructed whatever stands in the way. */
  boolean insistsOnReconstruction() {
    return reconstruction != null && reconstruction > 0;
  }

  /**
   * Checks that the options go together.
   *
   * @throws ParameterException if they do not, or a value is out of range
   */
  void requireSense() {
    if (texts.isEmpty()) {
      throw Usage.error(command, "no text given, expected --text TEXT to train on");
    }
    if (steps != null && epochs != null) {
      throw Usage.error(command, Usage.exclusive(List.of("--steps", "--epochs")));
    }
    if (epochs != null && !(epochs > 0 && epochs <= MOST_EPOCHS)) {
      throw Usage.error(
        command,
        "invalid value for option '--epochs': " + epochs + ", expected above 0 and at most 1000000"
      );
    }
    if (reconstruction != null) {
      Usage.range(command, "--reconstruct-steps", reconstruction, 0, MOST_STEPS);
    }
    if (reconstructionRate != null && reconstruction != null && reconstruction == 0) {
      throw Usage.error(command, "--reconstruct-rate needs --reconstruct-steps");
    }
    OptionalLong _ = tokens();
    int _ = validationWindows();
    Duration _ = patience();
    int windows = batch();
    if (micro != null) {
      Usage.range(command, "--micro-batch", micro, 1, windows);
      if (windows % micro != 0) {
        throw Usage.error(
          command,
          "invalid value for option '--micro-batch': " + micro + ", expected a divisor of --batch " + windows
        );
      }
    }
    Schedule _ = schedule(steps == null ? OptionalInt.empty() : OptionalInt.of(steps), RATED_WIDTH);
    double _ = reconstructionRate(RATED_WIDTH);
  }

  /** Checks, before long work, that the texts can be read and that there is the device. */
  void check() throws IOException {
    for (Path text : inputs()) {
      Calibrator.checkText(text);
    }
    Devices.require(device);
  }

  private int batch() {
    return Usage.range(command, "--batch", batch, DEFAULT_BATCH, 1, MOST_BATCH);
  }

  private double reconstructionRate(int width) {
    return positive("--reconstruct-rate", reconstructionRate, rate(width));
  }

  private double rate(int width) {
    return positive("--learning-rate", rate, (DEFAULT_RATE * RATED_WIDTH) / Math.max(RATED_WIDTH, width));
  }

  private double positive(String option, Double value, double byDefault) {
    double used = value == null ? byDefault : value;
    if (!(used > 0 && used <= MOST)) {
      throw Usage.error(
        command,
        "invalid value for option '" + option + "': " + used + ", expected above 0 and at most 1000000"
      );
    }
    return used;
  }

  private double part(String option, Double value, double byDefault) {
    double used = value == null ? byDefault : value;
    if (!(used >= 0 && used <= 1)) {
      throw Usage.error(command, "invalid value for option '" + option + "': " + used + ", expected 0 to 1");
    }
    return used;
  }

  private Schedule schedule(OptionalInt count, int width) {
    if (count.isPresent()) {
      Usage.range(command, "--steps", count.getAsInt(), 1, MOST_STEPS);
    }
    int rise = Usage.range(command, "--warmup", warmup, DEFAULT_WARMUP, 0, MOST_STEPS);
    return new Schedule(
      count,
      Optional.ofNullable(maxTime),
      (float) rate(width),
      warmup == null && count.isPresent() ? Math.min(rise, count.getAsInt() / PART) : rise,
      (float) part("--min-rate", leastRate, DEFAULT_LEAST_RATE),
      BETA1,
      BETA2,
      EPSILON,
      (float) part("--weight-decay", decay, DEFAULT_DECAY),
      (float) positive("--clip", clip, DEFAULT_CLIP)
    );
  }

  /**
   * How many steps of distillation there are; empty if that depends on the time.
   *
   * @param windows how many windows the texts have to train on
   */
  OptionalInt steps(int windows) {
    if (steps != null) {
      return OptionalInt.of(steps);
    }
    if (epochs == null && maxTime != null) {
      return OptionalInt.empty();
    }
    double reads = epochs == null ? 1 : epochs;
    return OptionalInt.of((int) Math.clamp(Math.ceil((reads * windows) / batch()), 1, MOST_STEPS));
  }

  /** How many steps there are before the text is looked at; empty if it is not known yet. */
  OptionalInt knownSteps() {
    return steps == null ? OptionalInt.empty() : OptionalInt.of(steps);
  }

  /**
   * How many steps of reconstruction there are.
   *
   * @param possible whether the student's blocks can be exchanged with the teacher's
   * @param count steps of distillation; empty if that is not known
   */
  int reconstructionSteps(boolean possible, OptionalInt count) {
    if (reconstruction != null) {
      return reconstruction;
    }
    int few = count.isPresent() ? Math.ceilDiv(count.getAsInt(), PART) : DEFAULT_RECONSTRUCTION;
    return possible ? Math.min(DEFAULT_RECONSTRUCTION, few) : 0;
  }

  /**
   * How to train.
   *
   * @param loss what is minimized
   * @param ends the teacher's blocks with which the student's end; empty if they cannot be exchanged
   * @param count steps of distillation; empty if that depends on the time
   * @param width the student's embedding length
   * @param threads how many compute
   */
  DistillOptions options(Loss loss, Optional<List<Integer>> ends, OptionalInt count, int width, int threads) {
    int before = reconstructionSteps(ends.isPresent(), count);
    return new DistillOptions(
      loss,
      ends.filter(_ -> before > 0).map(list -> new Reconstruction(list, before, (float) reconstructionRate(width))),
      schedule(count, width),
      batch(),
      micro == null ? OptionalInt.empty() : OptionalInt.of(micro),
      context(),
      switch (recompute) {
        case AUTO -> Optional.empty();
        case ALWAYS -> Optional.of(true);
        case NEVER -> Optional.of(false);
      },
      Usage.range(command, "--validate-every", validationEvery, DEFAULT_VALIDATION_EVERY, 1, MOST_STEPS),
      Usage.range(command, "--checkpoint-every", checkpointEvery, DEFAULT_CHECKPOINT_EVERY, 1, MOST_STEPS),
      seed,
      threads,
      device,
      maxMemory == null ? OptionalLong.empty() : OptionalLong.of(Usage.bytes(command, "--max-memory", maxMemory))
    );
  }
}
