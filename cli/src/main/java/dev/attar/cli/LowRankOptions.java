package dev.attar.cli;

import dev.attar.formats.TensorType;
import dev.attar.lowrank.Metric;
import dev.attar.lowrank.RankChoice;
import dev.attar.prune.structure.StructureOptions;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalDouble;
import java.util.OptionalInt;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.Spec.Target;

/** Options for what a factorization leaves, and in which form. */
final class LowRankOptions {

  /** No matrix of a model has a larger side. */
  private static final int MOST_RANK = 1 << 24;

  private static final int MOST_ROUNDS = 100;

  private static final int BLOCK = 32; // of Q8_0, which is what a row of factors has to be a multiple of

  @Spec(Target.MIXEE)
  private CommandSpec command;

  @Option(
    names = "--form",
    paramLabel = "FORM",
    description = "What is written: dense, products in the place of weights, multiplied back (the default); adapter, a quantized " +
      "base and a LoRA adapter that corrects it; or shrink, a model with smaller inner dimensions."
  )
  private LowRankForm form = LowRankForm.DENSE;

  @Option(
    names = "--method",
    paramLabel = "METHOD",
    converter = Converters.MetricWord.class,
    description = "What products keep small: activation, the error of the layers' outputs on a --calibration text (the default), " +
      "or svd, the error of the weights."
  )
  private Metric metric;

  @Option(
    names = "--ratio",
    paramLabel = "R",
    converter = Converters.Decimal.class,
    description = "How much is KEPT, 0.8 (for attar prune it is what goes). With --form dense: of the numbers in the matrices, " +
      "which go where they matter most to the predictions on the --calibration text (of small models: each matrix is tried out, " +
      "which takes minutes); with --form shrink: of the neurons."
  )
  private Double ratio;

  @Option(names = "--rank", paramLabel = "N", description = "The same rank for all matrices.")
  private Integer rank;

  @Option(
    names = "--energy",
    paramLabel = "E",
    converter = Converters.Decimal.class,
    description = "With --form dense: the least ranks that keep this part of the energy of each matrix, 0.99."
  )
  private Double energy;

  @Option(
    names = "--base-type",
    paramLabel = "TYPE",
    description = "With --form adapter: the file type of the base, for instance Q2_K; 'list' shows all."
  )
  private String baseType;

  @Option(
    names = "--base-method",
    paramLabel = "METHOD",
    description = "How to quantize the base: rtn, rounding (the default), or gptq, which needs a --calibration text."
  )
  private Method baseMethod;

  @Option(
    names = "--rounds",
    paramLabel = "N",
    description = "With --form adapter: correct the base, round what the adapter leaves of the weights anew, correct that, and so " +
      "on, N times in all (default: 1). From 2 on the pair is better, and the base alone is worse."
  )
  private Integer rounds;

  @Option(
    names = "--adapter-type",
    paramLabel = "TYPE",
    converter = Converters.Type.class,
    description = "The type of the adapter's factors: q8_0 or f16 (default: q8_0 if the rank is a multiple of 32)."
  )
  private TensorType adapterType;

  @Option(
    names = "--head-size",
    paramLabel = "N",
    description = "With --form shrink: leave heads of N values; llama.cpp is slow on processors with others than multiples of 16."
  )
  private Integer headSize;

  @Option(
    names = "--head-ratio",
    paramLabel = "R",
    converter = Converters.Decimal.class,
    description = "With --form shrink: leave heads of this part of their values, 0.75, or the nearest multiple of 16."
  )
  private Double headRatio;

  @Option(
    names = "--multiple-of",
    paramLabel = "N",
    description = "With --form shrink: leave widths of feed-forward networks that are multiples of N (default: " +
      StructureOptions.DEFAULT_MULTIPLE +
      ", which k-quants need)."
  )
  private Integer multiple;

  /** How often the base is rounded and corrected. */
  int rounds() {
    return Usage.range(command, "--rounds", rounds, 1, 1, MOST_ROUNDS);
  }

  /** What is written. */
  LowRankForm form() {
    return form;
  }

  /** What products keep small. */
  Metric metric() {
    return metric == null ? Metric.ACTIVATION : metric;
  }

  /** The base's file type as the user typed it; {@code null} if there is none. */
  String baseType() {
    return baseType;
  }

  /** How the base is quantized. */
  Method baseMethod() {
    return baseMethod == null ? Method.RTN : baseMethod;
  }

  /** The rank of all matrices, which must be given. */
  int rank() {
    return rank;
  }

  /** The type of the adapter's factors; for an adapter, whose rank must be given. */
  TensorType adapterType() {
    return adapterType != null ? adapterType : rank % BLOCK == 0 ? TensorType.Q8_0 : TensorType.F16;
  }

  /** The part of the neurons that is kept, of a model that shrinks; empty for all. */
  OptionalDouble neurons() {
    return ratio == null ? OptionalDouble.empty() : OptionalDouble.of(ratio);
  }

  /** How many values of a head's queries and keys are kept; empty for what {@link #headRatio} says. */
  OptionalInt headSize() {
    return headSize == null ? OptionalInt.empty() : OptionalInt.of(headSize);
  }

  /** The part of them that is kept; empty for what {@link #headSize} says. */
  OptionalDouble headRatio() {
    return headRatio == null ? OptionalDouble.empty() : OptionalDouble.of(headRatio);
  }

  /** Whether heads become smaller. */
  boolean hasHeads() {
    return headSize != null || headRatio != null;
  }

  /**
   * What widths stay multiples of.
   *
   * @throws ParameterException if it is out of range
   */
  int multiple() {
    return Usage.range(
      command,
      "--multiple-of",
      multiple,
      StructureOptions.DEFAULT_MULTIPLE,
      1,
      CutOptions.MOST_MULTIPLE
    );
  }

  /** How the ranks of products are chosen, which must be given. */
  RankChoice ranks() {
    return rank != null
      ? new RankChoice.Same(rank)
      : ratio != null
        ? new RankChoice.Size(ratio)
        : new RankChoice.Energy(energy);
  }

  /** What was asked for, for the name of a file. */
  String name() {
    return switch (form) {
      case DENSE -> metric().word() +
      (rank != null ? "-rank" + rank : ratio != null ? "-" + Text.plain(ratio) : "-energy" + Text.plain(energy));
      case ADAPTER -> baseType;
      case SHRINK -> "shrunk" +
      asked()
        .values()
        .stream()
        .map(value -> "-" + Text.plain(value.doubleValue()))
        .reduce("", String::concat);
    };
  }

  /** What was asked for, by the names of the options. */
  Map<String, Number> asked() {
    Map<String, Number> asked = new LinkedHashMap<>();
    Optional.ofNullable(rank).ifPresent(value -> asked.put("rank", value));
    Optional.ofNullable(ratio).ifPresent(value -> asked.put("ratio", value));
    Optional.ofNullable(energy).ifPresent(value -> asked.put("energy", value));
    Optional.ofNullable(headSize).ifPresent(value -> asked.put("head_size", value));
    Optional.ofNullable(headRatio).ifPresent(value -> asked.put("head_ratio", value));
    return asked;
  }

  /**
   * Checks that the options go together.
   *
   * @throws ParameterException if they do not, or a value is out of range
   */
  void requireSense() {
    switch (form) {
      case DENSE -> {
        forbid(ofAdapter(), "--form adapter");
        forbid(ofShrink(), "--form shrink");
        requireRanks();
      }
      case ADAPTER -> {
        forbid(ofShrink(), "--form shrink");
        forbid(given("--ratio", ratio, "--energy", energy), "--form dense");
        requireAdapter();
      }
      case SHRINK -> {
        forbid(ofAdapter(), "--form adapter");
        forbid(given("--rank", rank), "--form dense or adapter");
        forbid(given("--method", metric, "--energy", energy), "--form dense");
        requireShrink();
      }
    }
    requirePart("--ratio", ratio);
    requirePart("--energy", energy);
    requirePart("--head-ratio", headRatio);
    int _ = Usage.range(command, "--rank", rank, 1, 1, MOST_RANK);
  }

  private void requireRanks() {
    List<String> given = given("--ratio", ratio, "--rank", rank, "--energy", energy);
    if (given.isEmpty()) {
      throw Usage.error(
        command,
        "--form dense needs ranks, expected --ratio R, the part of the numbers that is kept, --rank N or --energy E"
      );
    }
    if (given.size() > 1) {
      throw Usage.error(command, Usage.exclusive(given));
    }
  }

  private void requireAdapter() {
    if (baseType == null) {
      throw Usage.error(
        command,
        "--form adapter needs a base to correct, expected --base-type TYPE, Q2_K for instance"
      );
    }
    if (rank == null) {
      throw Usage.error(command, "--form adapter needs the rank of the correction, expected --rank N, 32 for instance");
    }
    if (rounds() > 1 && baseMethod() == Method.GPTQ) {
      throw Usage.error(command, "--rounds above 1 needs --base-method rtn: what an adapter leaves is rounded");
    }
    if (adapterType != null && adapterType != TensorType.Q8_0 && adapterType != TensorType.F16) {
      throw Usage.error(
        command,
        "invalid value for option '--adapter-type': " + adapterType + ", expected q8_0 or f16"
      );
    }
    if (adapterType == TensorType.Q8_0 && rank % BLOCK != 0) {
      throw Usage.error(
        command,
        "--adapter-type q8_0 needs a rank that is a multiple of " + BLOCK + ", found --rank " + rank + ": expected f16"
      );
    }
  }

  private void requireShrink() {
    if (ratio == null && !hasHeads()) {
      throw Usage.error(
        command,
        "--form shrink needs what is kept, expected --ratio R, a part of the neurons, --head-size N or --head-ratio R"
      );
    }
    if (headSize != null && headRatio != null) {
      throw Usage.error(command, Usage.exclusive(List.of("--head-size", "--head-ratio")));
    }
    if (ratio == null) {
      forbid(given("--multiple-of", multiple), "--ratio");
    }
    int _ = multiple();
    int _ = Usage.range(command, "--head-size", headSize, 2, 2, MOST_RANK);
  }

  private List<String> ofAdapter() {
    return given(
      "--base-type",
      baseType,
      "--base-method",
      baseMethod,
      "--adapter-type",
      adapterType,
      "--rounds",
      rounds
    );
  }

  private List<String> ofShrink() {
    return given("--head-size", headSize, "--head-ratio", headRatio, "--multiple-of", multiple);
  }

  /** The names of options that have values: names and values in turn. */
  private static List<String> given(Object... namesAndValues) {
    List<String> given = new ArrayList<>();
    for (int i = 0; i < namesAndValues.length; i += 2) {
      if (namesAndValues[i + 1] != null) {
        given.add((String) namesAndValues[i]);
      }
    }
    return given;
  }

  private void requirePart(String option, Double value) {
    if (value != null && !(value > 0 && value < 1)) {
      throw Usage.error(
        command,
        "invalid value for option '" + option + "': " + value + ", expected above 0 and below 1, the part that is kept"
      );
    }
  }

  private void forbid(List<String> given, String needed) {
    if (!given.isEmpty()) {
      throw Usage.error(command, Usage.needs(given, needed));
    }
  }
}
