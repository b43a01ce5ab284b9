package dev.attar.formats;

import java.io.IOException;
import java.nio.file.Path;

/** A file that is not what it should be. The message is one line that names the file, the place, what was found and what was expected. */
public class FormatException extends IOException {

  private static final long serialVersionUID = 1L;

  /**
   * @param file the file at fault
   * @param place where in it: a byte offset, a tensor or a key
   * @param found what stands there
   * @param expected what should
   */
  public FormatException(Path file, String place, String found, String expected) {
    super(file + ": " + place + ": found " + found + ", expected " + expected);
  }

  /**
   * @param file the file at fault
   * @param problem the place and the problem in one clause
   */
  public FormatException(Path file, String problem) {
    super(file + ": " + problem);
  }
}
