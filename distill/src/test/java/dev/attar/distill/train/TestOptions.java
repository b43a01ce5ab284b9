package dev.attar.distill.train;

import dev.attar.compute.DeviceChoice;
import dev.attar.compute.DistributionLoss.Divergence;
import dev.attar.distill.DistillOptions;
import dev.attar.distill.DistillOptions.Loss;
import dev.attar.distill.DistillOptions.Reconstruction;
import dev.attar.distill.DistillOptions.Schedule;
import dev.attar.distill.DistillOptions.StatePair;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.OptionalLong;

/** Options for tests. */
final class TestOptions {

  private Loss loss = new Loss(Divergence.FORWARD, 0.5f, 2, 0.7f, 0.3f, OptionalInt.empty(), List.of(), 0, false);
  private Optional<Reconstruction> reconstruction = Optional.empty();
  private OptionalInt steps = OptionalInt.of(8);
  private Optional<Duration> maxTime = Optional.empty();
  private float rate = 0.01f;
  private int batch = 4;
  private int micro = 2;
  private int validationEvery = 4;
  private int checkpointEvery = 3;

  private TestOptions() {}

  static TestOptions of() {
    return new TestOptions();
  }

  /** Of the likeliest tokens, and with a state that is projected if the widths differ. */
  TestOptions topAndStates() {
    List<StatePair> states = List.of(new StatePair(0, 1), new StatePair(1, 2));
    loss = new Loss(Divergence.JENSEN_SHANNON, 0.4f, 1.5f, 0.7f, 0.3f, OptionalInt.of(5), states, 0.5f, true);
    return this;
  }

  TestOptions reconstruction(int count) {
    reconstruction = Optional.of(new Reconstruction(List.of(0, 2), count, 0.01f));
    return this;
  }

  TestOptions steps(OptionalInt count) {
    steps = count;
    return this;
  }

  TestOptions maxTime(int seconds) {
    maxTime = Optional.of(Duration.ofSeconds(seconds));
    return this;
  }

  TestOptions rate(float highest) {
    rate = highest;
    return this;
  }

  TestOptions batch(int windows) {
    batch = windows;
    return this;
  }

  TestOptions micro(int windows) {
    micro = windows;
    return this;
  }

  TestOptions every(int validation, int checkpoint) {
    validationEvery = validation;
    checkpointEvery = checkpoint;
    return this;
  }

  DistillOptions build() {
    return new DistillOptions(
      loss,
      reconstruction,
      new Schedule(steps, maxTime, rate, 2, 0.1f, 0.9f, 0.95f, 1e-8f, 0.01f, 1),
      batch,
      OptionalInt.of(micro),
      TalkingTeacher.CONTEXT,
      Optional.empty(),
      validationEvery,
      checkpointEvery,
      17,
      1,
      DeviceChoice.CPU,
      OptionalLong.empty()
    );
  }
}
