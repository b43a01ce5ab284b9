package dev.attar.cli;

import dev.attar.compute.DistributionLoss.Divergence;
import dev.attar.distill.DistillOptions.Loss;
import dev.attar.distill.DistillOptions.StatePair;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.Spec.Target;

/** Options for what a student is to become. */
final class LossOptions {

  /** How many of the teacher's tokens are kept in a cache. */
  private static final int DEFAULT_TOP = 64;

  private static final double DEFAULT_BETA = 0.5;

  /** More than any sum of losses needs, and not so much that single precision loses it. */
  private static final double MOST_WEIGHT = 1e6;

  private static final double LEAST_TEMPERATURE = 0.01;
  private static final double MOST_TEMPERATURE = 1000;
  private static final int MOST_TOP = 1 << 16;
  private static final Pattern PAIR = Pattern.compile("(-1|\\d{1,6}):(-1|\\d{1,6})");

  /** What is compared between teacher and student. */
  enum Kind {
    KL("kl", Divergence.FORWARD),
    REVERSE_KL("reverse-kl", Divergence.REVERSE),
    JS("js", Divergence.JENSEN_SHANNON),
    NONE("none", Divergence.FORWARD);

    private final String word;
    private final Divergence divergence;

    Kind(String word, Divergence divergence) {
      this.word = word;
      this.divergence = divergence;
    }

    @Override
    public String toString() {
      return word;
    }
  }

  /** How hidden states are compared. */
  enum StateLoss {
    MSE,
    COSINE
  }

  @Spec(Target.MIXEE)
  private CommandSpec command;

  @Option(
    names = "--loss",
    paramLabel = "LOSS",
    description = "How far the student's predictions are from the teacher's: kl, the divergence KL(teacher || student) (the default); " +
      "reverse-kl; js, the generalized Jensen-Shannon divergence; or none, to train on the text alone."
  )
  private Kind kind = Kind.KL;

  @Option(
    names = "--beta",
    paramLabel = "B",
    converter = Converters.Decimal.class,
    description = "With --loss js: the weight of the teacher in the mixture of the two, above 0 and below 1 (default: 0.5)."
  )
  private Double beta;

  @Option(
    names = "--temperature",
    paramLabel = "T",
    converter = Converters.Decimal.class,
    description = "What logits are divided by before they are compared (default: 1)."
  )
  private Double temperature;

  @Option(
    names = "--kl-weight",
    paramLabel = "W",
    converter = Converters.Decimal.class,
    description = "Weight of the divergence (default: 1)."
  )
  private Double divergenceWeight;

  @Option(
    names = "--ce-weight",
    paramLabel = "W",
    converter = Converters.Decimal.class,
    description = "Weight of the cross-entropy on the text (default: 0; with --loss none 1)."
  )
  private Double crossEntropyWeight;

  @Option(
    names = "--states",
    paramLabel = "LIST",
    description = "Compare hidden states too: what leaves these blocks, STUDENT:TEACHER from 0, in pairs: 0:1,1:3; auto, up to four " +
      "pairs of blocks that stand for each other; or none (the default). Where widths differ, a projection is learned."
  )
  private String states = "none";

  @Option(
    names = "--states-weight",
    paramLabel = "W",
    converter = Converters.Decimal.class,
    description = "Weight of the loss of hidden states (default: 1)."
  )
  private Double statesWeight;

  @Option(
    names = "--states-loss",
    paramLabel = "LOSS",
    description = "How hidden states are compared: mse, the mean squared difference, or cosine, their direction (the default)."
  )
  private StateLoss statesLoss;

  @Option(
    names = "--cache",
    paramLabel = "DIR",
    description = "Keep what the teacher says in this folder, and use what is there: for several epochs, or several runs with this " +
      "teacher and text. Of its predictions, the --top-k likeliest tokens and the rest's mass are kept."
  )
  private Path cache;

  @Option(
    names = "--top-k",
    paramLabel = "K",
    description = "Compare the teacher's K likeliest tokens and the mass of the rest, not all tokens (default: all; with --cache 64)."
  )
  private Integer top;

  /** The folder for what the teacher says, if one is wanted. */
  Optional<Path> cache() {
    return Optional.ofNullable(cache);
  }

  /** What is compared. */
  Kind kind() {
    return kind;
  }

  /**
   * Checks that the options go together.
   *
   * @throws ParameterException if they do not, or a value is out of range
   */
  void requireSense() {
    if (kind != Kind.JS && beta != null) {
      throw Usage.error(command, "--beta needs --loss js");
    }
    if (kind == Kind.NONE) {
      forbid(
        "--loss kl, reverse-kl or js",
        given("--temperature", temperature),
        given("--kl-weight", divergenceWeight),
        given("--top-k", top),
        given("--cache", cache)
      );
    }
    if (states.equals("none")) {
      forbid("--states", given("--states-weight", statesWeight), given("--states-loss", statesLoss));
    }
    if (!(beta() > 0 && beta() < 1)) {
      throw Usage.error(command, "invalid value for option '--beta': " + beta + ", expected above 0 and below 1");
    }
    if (!(temperature() >= LEAST_TEMPERATURE && temperature() <= MOST_TEMPERATURE)) {
      throw Usage.error(
        command,
        "invalid value for option '--temperature': " + temperature + ", expected 0.01 to 1000"
      );
    }
    if (top != null) {
      Usage.range(command, "--top-k", top, 1, MOST_TOP);
    }
    double all = divergenceWeight() + crossEntropyWeight() + (states.equals("none") ? 0 : statesWeight());
    if (all == 0) {
      throw Usage.error(command, "all weights of losses are 0, there is nothing to learn");
    }
    Optional<List<StatePair>> _ = pairs();
  }

  private static Optional<String> given(String option, Object value) {
    return value == null ? Optional.empty() : Optional.of(option);
  }

  @SafeVarargs
  private void forbid(String needed, Optional<String>... options) {
    List<String> given = new ArrayList<>();
    for (Optional<String> option : options) {
      option.ifPresent(given::add);
    }
    if (!given.isEmpty()) {
      throw Usage.error(command, Usage.needs(given, needed));
    }
  }

  private double beta() {
    return beta == null ? DEFAULT_BETA : beta;
  }

  private double temperature() {
    return temperature == null ? 1 : temperature;
  }

  private double divergenceWeight() {
    return kind == Kind.NONE ? 0 : weight("--kl-weight", divergenceWeight, 1);
  }

  private double crossEntropyWeight() {
    return weight("--ce-weight", crossEntropyWeight, kind == Kind.NONE ? 1 : 0);
  }

  private double statesWeight() {
    return weight("--states-weight", statesWeight, 1);
  }

  private double weight(String option, Double value, double byDefault) {
    double weight = value == null ? byDefault : value;
    if (!(weight >= 0 && weight <= MOST_WEIGHT)) {
      throw Usage.error(command, "invalid value for option '" + option + "': " + weight + ", expected 0 to 1000000");
    }
    return weight;
  }

  /**
   * The states that are compared; empty for those that stand for each other.
   *
   * @throws ParameterException if they are no list of pairs
   */
  private Optional<List<StatePair>> pairs() {
    if (states.equals("none")) {
      return Optional.of(List.of());
    }
    if (states.equals("auto")) {
      return Optional.empty();
    }
    List<StatePair> pairs = new ArrayList<>();
    for (String word : states.split(",", -1)) {
      Matcher matcher = PAIR.matcher(word);
      if (!matcher.matches()) {
        throw Usage.error(
          command,
          "invalid value for option '--states': '" +
            word +
            "' is no pair STUDENT:TEACHER, expected 0:1,1:3, auto or none"
        );
      }
      pairs.add(new StatePair(Integer.parseInt(matcher.group(1)), Integer.parseInt(matcher.group(2))));
    }
    return Optional.of(pairs);
  }

  /**
   * The loss.
   *
   * @param standing the states that stand for each other
   * @param vocabulary tokens that predictions are over
   */
  Loss loss(List<StatePair> standing, int vocabulary) {
    Optional<Integer> wanted = Optional.ofNullable(top).or(() -> cache().map(_ -> DEFAULT_TOP));
    return new Loss(
      kind.divergence,
      (float) beta(),
      (float) temperature(),
      (float) divergenceWeight(),
      (float) crossEntropyWeight(),
      // As many as all are no choice.
      wanted.isEmpty() || kind == Kind.NONE
        ? OptionalInt.empty()
        : OptionalInt.of(Math.clamp(wanted.get(), 1, vocabulary - 1)),
      pairs().orElse(standing),
      (float) statesWeight(),
      statesLoss != StateLoss.MSE
    );
  }
}
