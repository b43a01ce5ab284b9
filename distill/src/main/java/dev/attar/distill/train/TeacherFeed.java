package dev.attar.distill.train;

import dev.attar.distill.teacher.Answer;
import dev.attar.distill.teacher.Question;
import dev.attar.distill.teacher.Teacher;
import java.io.IOException;
import java.util.Arrays;
import java.util.Optional;

/**
 * Asks a teacher one question ahead, where that saves time: while a GPU trains, the processor would wait. Where the processor trains, both
 * would only take it from each other.
 */
final class TeacherFeed {

  private final Teacher teacher;
  private final boolean ahead;
  private Question asked;

  TeacherFeed(Teacher teacher, boolean ahead) {
    this.teacher = teacher;
    this.ahead = ahead;
  }

  /**
   * The answer to a question, valid until the next call.
   *
   * @param then the question that will likely be the next one
   */
  Answer answer(Question question, Optional<Question> then) throws IOException {
    if (asked == null || !same(asked, question)) {
      drain();
      teacher.ask(question);
    }
    asked = null;
    if (ahead && then.isPresent()) {
      teacher.ask(then.get());
      asked = then.get();
    }
    return teacher.answer();
  }

  /** Takes what was asked in vain. */
  void drain() throws IOException {
    if (asked != null) {
      asked = null;
      Answer _ = teacher.answer();
    }
  }

  private static boolean same(Question one, Question other) {
    return (
      Arrays.equals(one.windows(), other.windows()) &&
      one.distribution().equals(other.distribution()) &&
      Arrays.equals(one.states(), other.states())
    );
  }
}
