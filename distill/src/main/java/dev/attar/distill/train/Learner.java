package dev.attar.distill.train;

import dev.attar.distill.DistillOptions.Loss;
import dev.attar.distill.teacher.Answer;
import dev.attar.distill.teacher.Question;
import java.io.IOException;

/** How a phase learns from a teacher's answers. */
interface Learner {
  /** What the teacher is asked of some windows. */
  Question question(int[] windows);

  /**
   * Adds up gradients of the mean loss of a batch.
   *
   * @param windows a part of the batch
   * @param answer of the teacher to the question about them
   * @param batch windows in the batch
   * @param sums to which losses are added
   */
  void learn(int[] windows, Answer answer, int batch, LossSums sums) throws IOException;

  /** The length of the gradient; not finite if a number of it is not. */
  double gradientNorm();

  /** The name of a weight whose gradient is not finite. */
  String notFinite();

  /** Changes the weights and clears the gradients. */
  void update(double rate, int number);

  /** What was minimized. */
  Losses losses(LossSums sums);

  /**
   * The means of a batch.
   *
   * @param loss what is minimized
   * @param divergence NaN where there is none
   * @param crossEntropy NaN where there is none
   * @param states NaN where there is none
   */
  record Losses(double loss, double divergence, double crossEntropy, double states) {
    static Losses of(LossSums sums, Loss loss) {
      return new Losses(
        sums.total(loss),
        loss.divergenceWeight() > 0 ? sums.divergence() : Double.NaN,
        sums.crossEntropy(),
        loss.comparesStates() ? sums.states(loss.states().size()) : Double.NaN
      );
    }
  }
}
