package dev.attar.distill.teacher;

import java.io.IOException;

/**
 * A text in windows of tokens, and what a teacher says of them. Windows are numbered: first those to train on, then those that are held out
 * to validate with. All have the same number of tokens.
 *
 * <p>A question is put with {@link #ask} and its answer taken with {@link #answer}; one more question may be put before the answer to the
 * last one is taken, so that the teacher computes while something else does. For one thread.
 */
public interface Teacher extends AutoCloseable {
  /** Windows to train on, at least 1. */
  int training();

  /** Windows to validate with, at least 1: their numbers follow. */
  int validation();

  /** Tokens in a window. */
  int context();

  /** Tokens that distributions are over: those that teacher and student share, from number 0 on. */
  int vocabulary();

  /**
   * A window's tokens, as the model reads them: the first one is the token of the beginning where the model wants one.
   *
   * @param window its number
   * @return {@link #context} numbers below {@link #vocabulary}; not to be changed
   */
  int[] tokens(int window) throws IOException;

  /**
   * Puts a question.
   *
   * @throws IllegalStateException if two are unanswered
   */
  void ask(Question question) throws IOException;

  /**
   * The answer to the oldest question that has none yet; waits for it. Valid until the next call of this.
   *
   * @throws IllegalStateException if nothing was asked
   * @throws IOException if the teacher cannot be run, or gives numbers that are not finite; the message names it and the window
   */
  Answer answer() throws IOException;

  @Override
  void close() throws IOException;
}
