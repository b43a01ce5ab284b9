package dev.attar.bench;

/** Hears how far a run has come. Called by several threads, one at a time. */
@FunctionalInterface
public interface ProgressListener {
  /**
   * A phase has come further. Phases follow one another; a new name begins a new phase.
   *
   * @param phase what is done, {@code evaluating}, {@code timing}
   * @param done units of work done, from 0
   * @param total units of work in the phase
   * @param unit what is counted, plural: {@code windows}, {@code runs}, {@code MB}
   */
  void at(String phase, long done, long total, String unit);
}
