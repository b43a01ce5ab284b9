package dev.attar.distill.train;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.attar.distill.teacher.Answer;
import dev.attar.distill.teacher.Question;
import dev.attar.distill.teacher.Question.Distribution;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import org.junit.jupiter.api.Test;

class TeacherFeedTest {

  private final List<String> calls = new ArrayList<>();
  private final TalkingTeacher teacher = new TalkingTeacher(9, 8) {
    @Override
    public void ask(Question question) {
      calls.add("ask " + question.windows()[0]);
      super.ask(question);
    }

    @Override
    public Answer answer() throws IOException {
      calls.add("answer");
      return super.answer();
    }
  };

  private static Question question(int window) {
    return new Question(new int[] { window }, new Distribution.Logits(), new int[0]);
  }

  private void assertAnswers(TeacherFeed feed, int window, int then) throws IOException {
    Optional<Question> next = then < 0 ? Optional.empty() : Optional.of(question(then));
    Answer answer = feed.answer(question(window), next);
    TalkingTeacher other = new TalkingTeacher(9, 8);
    other.ask(question(window));
    assertEquals(-1, answer.logits().mismatch(other.answer().logits()));
  }

  @Test
  void asksOneQuestionAheadAndTakesBackWhatIsNotWanted() throws IOException {
    TeacherFeed feed = new TeacherFeed(teacher, true);
    assertAnswers(feed, 1, 2);
    assertAnswers(feed, 2, 3);
    assertAnswers(feed, 5, -1);
    assertAnswers(feed, 6, 7);
    feed.drain();
    assertAnswers(feed, 7, -1);
    feed.drain();
    assertEquals(
      "[ask 1, ask 2, answer, ask 3, answer, answer, ask 5, answer, ask 6, ask 7, answer, answer, ask 7, answer]",
      calls.toString()
    );
  }

  @Test
  void asksInTurnWhereThatSavesNothing() throws IOException {
    TeacherFeed feed = new TeacherFeed(teacher, false);
    assertAnswers(feed, 1, 2);
    assertAnswers(feed, 2, 3);
    assertEquals("[ask 1, answer, ask 2, answer]", calls.toString());
  }
}
