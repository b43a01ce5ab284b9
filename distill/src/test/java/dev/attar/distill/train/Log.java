package dev.attar.distill.train;

import dev.attar.distill.DistillListener;
import java.util.ArrayList;
import java.util.List;
import java.util.function.Consumer;

/** Keeps what a training says. */
final class Log implements DistillListener {

  final List<String> lines = new ArrayList<>();
  private final Consumer<Step> each;

  Log() {
    this(_ -> {});
  }

  /**
   * @param each is told of each step, and may throw
   */
  Log(Consumer<Step> each) {
    this.each = each;
  }

  @Override
  public void at(String phase, long done, long total, String unit) {
    // Said too often.
  }

  @Override
  public void step(Step step) {
    each.accept(step);
  }

  @Override
  public void validated(Validation validation) {
    lines.add("validated " + validation.phase() + " " + validation.step());
  }

  @Override
  public void device(String line) {
    // The machine's own.
  }

  @Override
  public void warn(String message) {
    lines.add("warned: " + message);
  }
}
