package dev.attar.cli;

import java.util.List;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.ParameterException;

/** Checks of the values of a command's options. */
final class Usage {

  private Usage() {}

  /** What says that a command was given wrong options. */
  static ParameterException error(CommandSpec command, String message) {
    return new ParameterException(command.commandLine(), message);
  }

  /** Says that some options, at least one, need something: {@code --effort, --damping need --method gptq}. */
  static String needs(List<String> given, String needed) {
    return String.join(", ", given) + (given.size() == 1 ? " needs " : " need ") + needed;
  }

  /** Says that options, two or more, exclude each other. */
  static String exclusive(List<String> given) {
    return (String.join(", ", given.subList(0, given.size() - 1)) + " and " + given.getLast() + " exclude each other");
  }

  /**
   * The value of an option.
   *
   * @param value what the user gave; {@code null} for nothing
   * @throws ParameterException if it is out of range
   */
  static int range(CommandSpec command, String option, Integer value, int byDefault, int min, int max) {
    return value == null ? byDefault : (int) range(command, option, (long) value, min, max);
  }

  /**
   * The bytes of an option.
   *
   * @throws ParameterException if there is not even one
   */
  static long bytes(CommandSpec command, String option, ByteSize size) {
    if (size.bytes() < 1) {
      throw error(
        command,
        "invalid value for option '" + option + "': " + size.word() + ", expected a size of 1 byte or more"
      );
    }
    return size.bytes();
  }

  /**
   * The value of an option.
   *
   * @throws ParameterException if it is out of range
   */
  static long range(CommandSpec command, String option, long value, long min, long max) {
    if (value < min || value > max) {
      String expected = max == Integer.MAX_VALUE ? min + " or more" : min + " to " + max;
      throw error(command, "invalid value for option '" + option + "': " + value + ", expected " + expected);
    }
    return value;
  }
}
