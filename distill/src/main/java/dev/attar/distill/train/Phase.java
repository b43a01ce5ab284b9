package dev.attar.distill.train;

import java.util.Locale;

/** What is done in steps. */
enum Phase {
  RECONSTRUCTION,
  DISTILLATION;

  /** Its name for users. */
  @Override
  public String toString() {
    return name().toLowerCase(Locale.ROOT);
  }
}
