package dev.attar.lowrank;

/** Hears how a run goes, on the thread that started it. */
public interface LowRankListener {
  /** How far a phase is. */
  void at(String phase, long done, long total, String unit);

  /** Which device computes, in one line. */
  void device(String line);

  /** What the user should know, in one line. */
  void warn(String message);
}
