package dev.attar.cli;

import dev.attar.quant.budget.SizeTarget;
import java.math.BigDecimal;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;
import picocli.CommandLine.Spec.Target;

/** Options for the size that a model is to become, instead of a type. */
final class TargetOptions {

  private static final int MOST_BITS = 64;

  @Spec(Target.MIXEE)
  private CommandSpec command;

  @Option(
    names = "--target-size",
    paramLabel = "SIZE",
    converter = Converters.Size.class,
    description = "Instead of -t: choose each tensor's type so that the file takes at most SIZE, 500M or 4.5G (powers of " +
      "1024), and the loss, measured on the --calibration text, is least."
  )
  private ByteSize size;

  @Option(
    names = "--target-bpw",
    paramLabel = "X",
    converter = Converters.Decimal.class,
    description = "The same for at most X bits per weight, in the mean of all tensors."
  )
  private Double bits;

  /** The options that the user gave, by name. */
  List<String> given() {
    List<String> given = new ArrayList<>();
    if (size != null) {
      given.add("--target-size");
    }
    if (bits != null) {
      given.add("--target-bpw");
    }
    return given;
  }

  /**
   * The size that the model is to become; empty if the user gave none. If both are given, that in bytes.
   *
   * @throws ParameterException if it is out of range
   */
  Optional<SizeTarget> target() {
    if (size != null) {
      return Optional.of(new SizeTarget.FileSize(Usage.bytes(command, "--target-size", size)));
    }
    if (bits != null && !(bits > 0 && bits <= MOST_BITS)) {
      throw Usage.error(
        command,
        "invalid value for option '--target-bpw': " + bits + ", expected above 0 and at most " + MOST_BITS
      );
    }
    return Optional.ofNullable(bits).map(SizeTarget.BitsPerWeight::new);
  }

  /** What the size is called, which the user must have given: {@code 500M} as typed, {@code 4.5bpw}. */
  String name() {
    return size != null ? size.word() : BigDecimal.valueOf(bits).stripTrailingZeros().toPlainString() + "bpw";
  }
}
