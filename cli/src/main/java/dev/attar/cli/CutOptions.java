package dev.attar.cli;

import dev.attar.prune.structure.Structure;
import dev.attar.prune.structure.StructureOptions;
import java.util.ArrayList;
import java.util.List;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.Spec.Target;

/** Options for the removal of neurons, heads and layers. */
final class CutOptions {

  /** The largest multiple of widths that makes sense; no feed-forward network has so many neurons. */
  static final int MOST_MULTIPLE = 1 << 20;

  private static final double MOST_SPEED = 1000;

  @Spec(Target.MIXEE)
  private CommandSpec command;

  @Option(
    names = "--structure",
    paramLabel = "WHAT",
    description = "Remove something as a whole, which makes the model smaller and faster: ffn, neurons of the feed-forward " +
      "networks; heads, groups of attention heads; or layers."
  )
  private Structure structure;

  @Option(
    names = "--ratio",
    paramLabel = "R",
    converter = Converters.Decimal.class,
    description = "Remove this part of the neurons, heads or layers, 0.25."
  )
  private Double ratio;

  @Option(
    names = "--target-size",
    paramLabel = "SIZE",
    converter = Converters.Size.class,
    description = "Instead of --ratio: remove as little as lets the GGUF take at most SIZE, 500M or 4.5G (powers of 1024)."
  )
  private ByteSize size;

  @Option(
    names = "--target-speed",
    paramLabel = "X",
    converter = Converters.Times.class,
    description = "Instead of --ratio: remove as little as lets the model generate tokens X times as fast, 1.3, as the whole " +
      "model in the same types. Predicted, measured, and corrected up to twice."
  )
  private Double speed;

  @Option(
    names = "--non-uniform",
    description = "Remove where it harms least, so that layers come to differ: what llama.cpp runs as the architecture deci. " +
      "For ffn and heads of models like Llama."
  )
  private boolean nonUniform;

  @Option(
    names = "--refit",
    negatable = true,
    defaultValue = "true",
    fallbackValue = "true",
    description = "Fit the weights that meet what is left to the calibration text anew (the default; for ffn and heads)."
  )
  private boolean refit;

  @Option(
    names = "--multiple-of",
    paramLabel = "N",
    description = "Leave widths of feed-forward networks that are multiples of N (default: " +
      StructureOptions.DEFAULT_MULTIPLE +
      ", which k-quants need)."
  )
  private Integer multiple;

  /** What is removed; {@code null} if nothing is. */
  Structure structure() {
    return structure;
  }

  /** Whether layers may come to differ. */
  boolean nonUniform() {
    return nonUniform;
  }

  /** Whether weights are fitted anew. */
  boolean refit() {
    return refit;
  }

  /**
   * What widths stay multiples of.
   *
   * @throws ParameterException if it is out of range
   */
  int multiple() {
    return Usage.range(command, "--multiple-of", multiple, StructureOptions.DEFAULT_MULTIPLE, 1, MOST_MULTIPLE);
  }

  /** The options that the user gave, by name; but for the structure. */
  List<String> given() {
    List<String> given = new ArrayList<>(givenTargets());
    if (nonUniform) {
      given.add("--non-uniform");
    }
    if (!refit) {
      given.add("--no-refit");
    }
    if (multiple != null) {
      given.add("--multiple-of");
    }
    return given;
  }

  /** Those of {@link #given} that say how much is removed. */
  List<String> givenTargets() {
    List<String> given = new ArrayList<>();
    if (ratio != null) {
      given.add("--ratio");
    }
    if (size != null) {
      given.add("--target-size");
    }
    if (speed != null) {
      given.add("--target-speed");
    }
    return given;
  }

  /**
   * Checks that the options go together, as they are given with a structure.
   *
   * @return how much is removed
   * @throws ParameterException if they do not, or a value is out of range
   */
  CutTarget requireSense() {
    List<String> targets = givenTargets();
    if (targets.isEmpty()) {
      throw Usage.error(
        command,
        "--structure needs how much to remove, expected --ratio R, --target-size SIZE or --target-speed X"
      );
    }
    if (targets.size() > 1) {
      throw Usage.error(command, Usage.exclusive(targets));
    }
    if (structure != Structure.FFN && multiple != null) {
      throw Usage.error(command, "--multiple-of needs --structure ffn");
    }
    if (structure == Structure.LAYERS && nonUniform) {
      throw Usage.error(command, "--non-uniform needs --structure ffn or heads");
    }
    if (structure == Structure.LAYERS && !refit) {
      throw Usage.error(command, "--no-refit needs --structure ffn or heads");
    }
    int _ = multiple();
    if (size != null) {
      long _ = Usage.bytes(command, "--target-size", size);
      return new CutTarget.FileSize(size);
    }
    if (speed != null) {
      if (!(speed > 1 && speed <= MOST_SPEED)) {
        throw Usage.error(command, "invalid value for option '--target-speed': " + speed + ", expected above 1");
      }
      return new CutTarget.Speed(speed);
    }
    if (!(ratio > 0 && ratio < 1)) {
      throw Usage.error(command, "invalid value for option '--ratio': " + ratio + ", expected above 0 and below 1");
    }
    return new CutTarget.Ratio(ratio);
  }
}
