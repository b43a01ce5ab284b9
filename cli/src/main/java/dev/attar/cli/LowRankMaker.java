package dev.attar.cli;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;

/** Makes a model of low rank in one form. */
interface LowRankMaker {
  /**
   * What was made.
   *
   * @param report tells of it
   * @param made its files, to be compared
   */
  record Result(LowRankReport report, EqualBytes.Made made) {}

  /** The files that are written for an output of this name. */
  List<Path> outputs(Path out);

  /**
   * Checks, before long work, that it can be made.
   *
   * @throws IOException if not; the message says why
   */
  void check() throws IOException;

  /** Tells how large it would be; measures and writes nothing. */
  LowRankReport dryRun() throws IOException;

  /**
   * Makes it. The files are checked before, and loaded in llama.cpp before they get their names.
   *
   * @param out the name of the model
   */
  Result run(Path out) throws IOException, InterruptedException;
}
