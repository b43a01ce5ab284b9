package dev.attar.formats;

import java.io.IOException;
import java.nio.file.Path;

/**
 * A last look at an output that is complete but does not have its name yet: one that is refused never gets it, and what had that name
 * stays as it was.
 */
@FunctionalInterface
public interface OutputCheck {
  /** Finds nothing wrong. */
  OutputCheck NONE = _ -> {};

  /**
   * Looks at the output.
   *
   * @param written the file or folder under its temporary name; not to be changed
   * @throws IOException if it is not to have its name; the message says why, and names it as the user does
   */
  void check(Path written) throws IOException, InterruptedException;
}
