package dev.attar.bench;

import java.util.List;

/**
 * Why a model could not be measured, or not to the end.
 *
 * @param phase what was being done: {@code opening}, {@code loading}, {@code timing}, {@code evaluating}
 * @param message one line
 * @param nativeLog the last lines that llama.cpp logged, oldest first; may be empty
 */
public record Failure(String phase, String message, List<String> nativeLog) {
  public Failure {
    nativeLog = List.copyOf(nativeLog);
  }
}
