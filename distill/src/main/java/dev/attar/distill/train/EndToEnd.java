package dev.attar.distill.train;

import dev.attar.distill.DistillOptions;
import dev.attar.distill.teacher.Answer;
import dev.attar.distill.teacher.Question;
import java.io.IOException;

/** Trains the whole student for the objective. */
final class EndToEnd implements Learner {

  private final Objective objective;
  private final Optimizer optimizer;
  private final DistillOptions.Loss loss;
  private double norm;

  EndToEnd(Objective objective, Optimizer optimizer, DistillOptions.Loss loss) {
    this.objective = objective;
    this.optimizer = optimizer;
    this.loss = loss;
  }

  @Override
  public Question question(int[] windows) {
    return objective.question(windows);
  }

  @Override
  public void learn(int[] windows, Answer answer, int batch, LossSums sums) throws IOException {
    objective.learn(windows, answer, batch, sums);
  }

  @Override
  public double gradientNorm() {
    norm = Math.sqrt(optimizer.squares());
    return norm;
  }

  @Override
  public String notFinite() {
    return optimizer.notFinite();
  }

  @Override
  public void update(double rate, int number) {
    optimizer.step(norm, rate, number);
  }

  @Override
  public Losses losses(LossSums sums) {
    return Losses.of(sums, loss);
  }
}
