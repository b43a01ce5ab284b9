package dev.attar.distill.teacher;

import dev.attar.distill.teacher.Question.Distribution;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Queue;

/**
 * A teacher whose likeliest tokens are remembered in a folder, which later epochs and runs use. Another one is opened when something is
 * asked that the folder does not hold: windows that were not asked of before, all logits, states, or likeliest tokens of another number or
 * temperature.
 *
 * <p>Log-probabilities are rounded as {@link TopRecord} says, also when they are computed: an answer is the same whether it comes out of
 * the folder or not, so that a resumed run computes what an uninterrupted one does.
 */
public final class CachedTeacher implements Teacher {

  private static final int MOST_ASKED = 2;

  /** Opens the teacher that knows. */
  @FunctionalInterface
  public interface Source {
    /** Called at most once, when it is needed; what it gives is closed with the cache. */
    Teacher open() throws IOException;
  }

  /**
   * A question without an answer.
   *
   * @param question what was asked
   * @param answer what the folder holds of it, null if the teacher was asked all of it
   * @param missing places in the question of those windows that the teacher was asked about
   */
  @SuppressWarnings("ArrayRecordComponent") // not compared
  private record Pending(Question question, Answer answer, int[] missing) {}

  private final TeacherCache cache;
  private final Source source;
  private final Distribution.Top stored;
  private final TeacherCache.Contents contents;
  private final Queue<Pending> asked = new ArrayDeque<>();
  private Teacher teacher; // null as long as it was not needed

  private CachedTeacher(TeacherCache cache, Distribution.Top stored, Source source) throws IOException {
    this.cache = cache;
    this.stored = stored;
    this.source = source;
    try {
      if (cache.contents().isEmpty()) {
        teacher = source.open();
        cache.begin(teacher);
      }
      contents = cache.contents().orElseThrow();
    } catch (IOException | RuntimeException e) {
      close();
      throw e;
    }
  }

  /**
   * Opens a folder, or makes a new one; for the latter the teacher is opened.
   *
   * @param identity all that its answers depend on
   * @param stored what is remembered
   * @throws dev.attar.distill.DistillException if the folder holds answers of another teacher, or is in use; the message says what differs
   * @throws dev.attar.formats.FormatException if it is damaged, other than by a run that was killed
   * @throws IOException if the folder cannot be read or written, or the teacher cannot be opened
   */
  public static CachedTeacher open(Path folder, TeacherIdentity identity, Distribution.Top stored, Source source)
    throws IOException {
    return new CachedTeacher(TeacherCache.open(folder, identity, stored.k(), stored.temperature()), stored, source);
  }

  /**
   * Bytes that a folder takes when all windows were asked of.
   *
   * @param windows those to validate with among them
   * @param k likeliest tokens that are remembered
   */
  public static long bytes(long windows, int context, int vocabulary, int k) {
    return TeacherCache.bytes(windows, context, vocabulary, k);
  }

  @Override
  public int training() {
    return contents.training();
  }

  @Override
  public int validation() {
    return contents.validation();
  }

  @Override
  public int context() {
    return contents.context();
  }

  @Override
  public int vocabulary() {
    return contents.vocabulary();
  }

  @Override
  public int[] tokens(int window) throws IOException {
    Objects.checkIndex(window, contents.windows());
    return cache.tokens(window);
  }

  private Teacher teacher() throws IOException {
    if (teacher == null) {
      Teacher opened = source.open();
      try {
        cache.check(opened);
      } catch (IOException | RuntimeException e) {
        opened.close();
        throw e;
      }
      teacher = opened;
    }
    return teacher;
  }

  @Override
  public void ask(Question question) throws IOException {
    if (asked.size() == MOST_ASKED) {
      throw new IllegalStateException("two questions have no answer yet");
    }
    if (!question.distribution().equals(stored) || question.states().length > 0) {
      teacher().ask(question);
      asked.add(new Pending(question, null, null));
      return;
    }
    int[] windows = question.windows();
    Answer answer = room(windows.length);
    int[] missing = new int[windows.length];
    int count = 0;
    for (int i = 0; i < windows.length; i++) {
      Objects.checkIndex(windows[i], contents.windows());
      if (!cache.find(windows[i], answer.tokens(), answer.logProbabilities(), i * context())) {
        missing[count++] = i;
      }
    }
    if (count > 0) {
      int[] unknown = Arrays.stream(missing, 0, count)
        .map(i -> windows[i])
        .toArray();
      teacher().ask(new Question(unknown, stored, question.states()));
    }
    asked.add(new Pending(question, answer, Arrays.copyOf(missing, count)));
  }

  /** An answer of likeliest tokens, to be filled. */
  private Answer room(int windows) {
    int rows = Math.multiplyExact(windows, context());
    MemorySegment logProbabilities = Arena.ofAuto().allocate(4L * rows * (stored.k() + 1), 64);
    return new Answer(null, new int[Math.multiplyExact(rows, stored.k())], logProbabilities, List.of());
  }

  @Override
  public Answer answer() throws IOException {
    if (asked.isEmpty()) {
      throw new IllegalStateException("nothing was asked");
    }
    Pending pending = asked.remove();
    int[] windows = pending.question.windows();
    if (pending.answer == null) {
      Answer given = teacher.answer();
      if (!pending.question.distribution().equals(stored)) {
        return given;
      }
      Answer rounded = room(windows.length);
      for (int i = 0; i < windows.length; i++) {
        take(windows[i], given, i, rounded, i);
      }
      return new Answer(null, rounded.tokens(), rounded.logProbabilities(), given.states());
    }
    if (pending.missing.length > 0) {
      Answer given = teacher.answer();
      for (int i = 0; i < pending.missing.length; i++) {
        int place = pending.missing[i];
        take(windows[place], given, i, pending.answer, place);
      }
    }
    return pending.answer;
  }

  /** Stores what the teacher says of a window, and puts it into an answer as it is stored. */
  private void take(int window, Answer given, int from, Answer to, int place) throws IOException {
    int first = from * context();
    cache.read(
      cache.put(window, given.tokens(), given.logProbabilities(), first),
      to.tokens(),
      to.logProbabilities(),
      place * context()
    );
  }

  /** Ends the use of the folder, and the teacher. */
  @Override
  public void close() throws IOException {
    try (cache) {
      if (teacher != null) {
        teacher.close();
      }
    }
  }
}
