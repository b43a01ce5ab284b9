package dev.attar.distill.train;

import dev.attar.compute.AdamStep;
import dev.attar.compute.Device;
import dev.attar.compute.TransformerOperations;
import dev.attar.distill.DistillOptions.Schedule;
import dev.attar.distill.network.Parameter;
import java.util.List;

/** AdamW over some parameters, whose gradients have been added up. */
final class Optimizer {

  private final TransformerOperations operations;
  private final List<Parameter> parameters;
  private final Schedule schedule;

  Optimizer(Device device, List<Parameter> parameters, Schedule schedule) {
    operations = device.transformer();
    this.parameters = List.copyOf(parameters);
    this.schedule = schedule;
  }

  /** The sum of the squares of all gradients; not finite if one of them is not. */
  double squares() {
    double sum = 0;
    for (Parameter parameter : parameters) {
      sum += operations.squares(parameter.gradient());
    }
    return sum;
  }

  /** The name of a parameter whose gradient is not finite. There must be one. */
  String notFinite() {
    return parameters
      .stream()
      .filter(parameter -> !Double.isFinite(operations.squares(parameter.gradient())))
      .findFirst()
      .map(Parameter::name)
      .orElse("all weights");
  }

  /**
   * Changes the weights, and clears their gradients.
   *
   * @param norm the length of the gradient: if it is more than may be, the gradient is shortened
   * @param rate the learning rate
   * @param number of the step, from 1
   */
  void step(double norm, double rate, int number) {
    float shortened = norm > schedule.clip() ? (float) (schedule.clip() / norm) : 1;
    for (Parameter parameter : parameters) {
      AdamStep step = new AdamStep(
        (float) rate,
        schedule.beta1(),
        schedule.beta2(),
        schedule.epsilon(),
        parameter.decays() ? schedule.decay() : 0,
        number,
        shortened
      );
      operations.adamW(parameter.value(), parameter.gradient(), parameter.first(), parameter.second(), step);
      operations.scale(0, parameter.gradient());
    }
  }

  /** Forgets the steps before. */
  void clearMoments() {
    for (Parameter parameter : parameters) {
      operations.scale(0, parameter.first());
      operations.scale(0, parameter.second());
    }
  }
}
