package dev.attar.cli;

import dev.attar.bench.accuracy.LogitKernel;
import dev.attar.bench.accuracy.TokenScores;
import dev.attar.distill.teacher.Answer;
import dev.attar.distill.teacher.Question;
import dev.attar.distill.teacher.Teacher;
import java.io.IOException;

/** What a teacher itself thinks of the text that its student is validated on. */
final class TeacherPerplexity {

  private TeacherPerplexity() {}

  /** The teacher's perplexity on all tokens of the windows that are held out, but the first of each. */
  static double of(Teacher teacher, DistillTask task) throws IOException {
    LogitKernel kernel = LogitKernel.get();
    int windows = teacher.validation();
    int scored = teacher.context() - 1;
    TokenScores scores = new TokenScores(scored);
    double sum = 0;
    ask(teacher, 0);
    for (int i = 0; i < windows; i++) {
      if (i + 1 < windows) {
        ask(teacher, i + 1);
      }
      Answer answer = teacher.answer();
      int[] tokens = teacher.tokens(teacher.training() + i);
      kernel.score(answer.logits(), scored, teacher.vocabulary(), tokens, 1, scores, 0);
      for (int token = 0; token < scored; token++) {
        sum += scores.nll(token);
      }
      task.at("measuring the teacher", i + 1, windows, "windows");
    }
    return Math.exp(sum / ((double) windows * scored));
  }

  private static void ask(Teacher teacher, int window) throws IOException {
    teacher.ask(
      new Question(new int[] { teacher.training() + window }, new Question.Distribution.Logits(), new int[0])
    );
  }
}
