package dev.attar.cli;

import dev.attar.distill.DistillException;
import java.io.IOException;
import java.nio.file.Path;

/** A run has failed, or was told to end, that can be gone on with. */
final class ResumableException extends IOException {

  private static final long serialVersionUID = 1L;

  private final String folder;

  /**
   * @param folder holds what was done
   * @param cause what went wrong
   */
  ResumableException(Path folder, Exception cause) {
    super(cause);
    this.folder = folder.toString();
  }

  /** What the user can do. */
  String advice() {
    // What the same options led to, they would lead to again.
    String resume = getCause() instanceof DistillException ? "" : "--resume goes on with it, ";
    return "what was done is kept in " + folder + ": " + resume + "--overwrite starts anew";
  }
}
