package dev.attar.calibration;

import dev.attar.llama.Tokens;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.OptionalLong;
import java.util.stream.Collectors;

/**
 * Windows of the same number of tokens, cut from a stream in which the documents of all texts follow one another, a token of the
 * beginning before each where the model wants that. Such a token takes the place of the first one of each window too, as llama-imatrix
 * does it.
 */
public final class TokenWindows {

  // Enough of a file to begin with, and for its tokens not to depend on what comes after.
  private static final int BYTES_PER_TOKEN = 8;
  private static final int MARGIN_BYTES = 1 << 16;
  private static final int MARGIN_TOKENS = 1024;
  private static final int MOST_BYTES = Integer.MAX_VALUE - 8;

  /** No language gets by with fewer different tokens; a short text needs only one in so many. */
  private static final int LEAST_DIFFERENT = 16;

  private static final int TOKENS_PER_DIFFERENT = 8;

  private final Tokens vocabulary;
  private final int window;
  private final int wanted;
  private int[] stream = new int[1 << 10];
  private int length;
  private final List<String> warnings = new ArrayList<>();

  private TokenWindows(Tokens vocabulary, int window, int wanted) {
    this.vocabulary = vocabulary;
    this.window = window;
    this.wanted = wanted;
  }

  /**
   * Reads texts until there are enough tokens.
   *
   * @param texts files in UTF-8, at least one
   * @param tokens how many are wanted, at most 2^30: rounded down to whole windows, at least one; empty for as many as there are
   * @param window tokens in a window, at least 1
   * @param alive called now and then
   * @throws IOException if a text cannot be read or is malformed, if there is not one window, or if all tokens are unknown ones
   */
  public static TokenWindows read(Tokens vocabulary, List<Path> texts, OptionalLong tokens, int window, Runnable alive)
    throws IOException {
    int wanted = (int) Math.max(1, tokens.orElse(Calibrator.MOST_TOKENS) / window) * window;
    TokenWindows windows = new TokenWindows(vocabulary, window, wanted);
    for (Path text : texts) {
      Documents.check(text);
    }
    for (Path text : texts) {
      if (windows.length < wanted) {
        windows.add(text, alive);
      }
    }
    String names = texts.stream().map(Path::toString).collect(Collectors.joining(", "));
    if (windows.length < window) {
      throw new IOException(
        names + ": " + windows.length + " tokens, expected at least " + window + ", the length of a window"
      );
    }
    if (windows.length < wanted && tokens.isPresent()) {
      windows.warnings.add(
        String.format(
          Locale.ROOT,
          "%s: %d tokens, fewer than the %d asked for: %d windows of %d are used",
          names,
          windows.length,
          wanted,
          windows.length / window,
          window
        )
      );
    }
    windows.length -= windows.length % window;
    windows.checkKnown(names);
    windows.checkDiversity(names);
    return windows;
  }

  private void add(Path text, Runnable alive) throws IOException {
    if (Documents.hasLines(text)) {
      Documents.forEachLine(text, document -> {
        alive.run();
        add(vocabulary.encode(document, true, false));
        return length < wanted;
      });
    } else if (Files.size(text) > 0) {
      add(encodePart(text, alive));
    }
  }

  /** The tokens of a file, or of so much of it that there are enough. */
  private int[] encodePart(Path text, Runnable alive) throws IOException {
    long size = Files.size(text);
    long bytes = (long) BYTES_PER_TOKEN * (wanted - length) + MARGIN_BYTES;
    while (true) {
      alive.run();
      int part = (int) Math.min(bytes, MOST_BYTES);
      int[] tokens = vocabulary.encode(Documents.beginning(text, part), true, false);
      if (part >= size || part == MOST_BYTES || tokens.length >= (long) wanted - length + MARGIN_TOKENS) {
        return tokens;
      }
      bytes *= 2;
    }
  }

  private void add(int[] tokens) {
    int taken = Math.min(tokens.length, wanted - length);
    if (length + taken > stream.length) {
      stream = Arrays.copyOf(stream, (int) Math.min(wanted, Math.max(2L * stream.length, length + taken)));
    }
    System.arraycopy(tokens, 0, stream, length, taken);
    length += taken;
  }

  private void checkKnown(String names) throws IOException {
    int known = 0;
    int unknown = 0;
    for (int i = 0; i < length; i++) {
      if (vocabulary.isUnknown(stream[i])) {
        unknown++;
      } else if (vocabulary.bos().orElse(-1) != stream[i]) {
        known++;
      }
    }
    String found = names + ": " + unknown + " of " + length + " tokens are unknown to the model's vocabulary";
    if (known == 0) {
      throw new IOException(found + ", the rest are beginnings of texts: nothing can be learnt from them");
    }
    if (unknown > known) {
      warnings.add(found);
    }
  }

  private void checkDiversity(String names) {
    int different = (int) Arrays.stream(stream, 0, length)
      .filter(token -> vocabulary.bos().orElse(-1) != token)
      .distinct()
      .count();
    int expected = Math.min(LEAST_DIFFERENT, length / TOKENS_PER_DIFFERENT);
    if (different < expected) {
      String found = different + (different == 1 ? " different token" : " different tokens") + " in " + length;
      warnings.add(
        names + ": " + found + ", expected at least " + expected + ": what is measured on them fits no other text"
      );
    }
  }

  /** Number of windows. */
  public int count() {
    return length / window;
  }

  /** Tokens in a window. */
  public int window() {
    return window;
  }

  /** Tokens in all windows. */
  public int tokens() {
    return length;
  }

  /** A token as the model is to see it. */
  public int token(int windowIndex, int position) {
    boolean bos = position == 0 && vocabulary.addsBos() && vocabulary.bos().isPresent();
    return bos ? vocabulary.bos().getAsInt() : stream[windowIndex * window + position];
  }

  /** What the user should know. */
  public List<String> warnings() {
    return warnings;
  }
}
