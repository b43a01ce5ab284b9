package dev.attar.prune.structure;

/** Hears how a run goes. */
public interface StructureListener {
  /** How far a phase is. */
  void at(String phase, long done, long total, String unit);

  /** Which device computes, in one line. */
  void device(String line);

  /** What the user should know, in one line. */
  void warn(String message);
}
