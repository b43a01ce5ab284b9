package dev.attar.distill.teacher;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.distill.teacher.Question.Distribution;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.SplittableRandom;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.EnabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

class CachedTeacherTest {

  private static final int K = 5;
  private static final Distribution.Top TOP = new Distribution.Top(K, 1.5f);
  private static final int[] NONE = {};
  private static final TeacherIdentity IDENTITY = new TeacherIdentity(Map.of("teacher", "abc"));

  @TempDir
  private Path folder;

  /** A made-up teacher: tokens and predictions of a window are random numbers that begin with its number. */
  private static final class MadeUp implements Teacher {

    static final int TRAINING = 9;
    static final int CONTEXT = 8;

    final int vocabulary;
    final List<Question> questions = new ArrayList<>();
    private final int seed;
    private final Queue<Question> asked = new ArrayDeque<>();
    private boolean closed;

    MadeUp(int vocabulary, int seed) {
      this.vocabulary = vocabulary;
      this.seed = seed;
    }

    @Override
    public int training() {
      return TRAINING;
    }

    @Override
    public int validation() {
      return 2;
    }

    @Override
    public int context() {
      return CONTEXT;
    }

    @Override
    public int vocabulary() {
      return vocabulary;
    }

    @Override
    public int[] tokens(int window) {
      return new SplittableRandom(1000L * seed + window).ints(CONTEXT, 0, vocabulary).toArray();
    }

    @Override
    public void ask(Question question) {
      questions.add(question);
      asked.add(question);
    }

    @Override
    public Answer answer() {
      Question question = asked.remove();
      int rows = question.windows().length * CONTEXT;
      boolean top = question.distribution() instanceof Distribution.Top;
      int[] tokens = new int[rows * K];
      MemorySegment logs = Arena.ofAuto().allocate(4L * rows * (K + 1), 4);
      for (int i = 0; i < question.windows().length; i++) {
        SplittableRandom random = new SplittableRandom(question.windows()[i]);
        for (int row = i * CONTEXT; row < (i + 1) * CONTEXT; row++) {
          for (int j = 0; j <= K; j++) {
            float log = (float) -random.nextDouble(0, j == 0 ? 0.001 : 20);
            logs.setAtIndex(JAVA_FLOAT, row * (K + 1) + j, log);
          }
          for (int j = 0; j < K; j++) {
            tokens[row * K + j] = random.nextInt(vocabulary);
          }
        }
        logs.setAtIndex(JAVA_FLOAT, (long) i * CONTEXT * (K + 1) + K, Float.NEGATIVE_INFINITY);
        logs.setAtIndex(JAVA_FLOAT, (long) i * CONTEXT * (K + 1), 1e-6f);
        logs.setAtIndex(JAVA_FLOAT, (long) i * CONTEXT * (K + 1) + 1, -500);
      }
      MemorySegment states = Arena.ofAuto().allocate(8, 8);
      return new Answer(top ? null : states, top ? tokens : null, top ? logs : null, List.of(states));
    }

    @Override
    public void close() {
      closed = true;
    }
  }

  private static Teacher nobody() {
    throw new AssertionError("no teacher is needed");
  }

  private static Answer ask(Teacher teacher, int... windows) throws IOException {
    teacher.ask(new Question(windows, TOP, NONE));
    return teacher.answer();
  }

  private static float[] logs(Answer answer) {
    return answer.logProbabilities().toArray(JAVA_FLOAT);
  }

  private static void assertSameAnswers(Answer expected, Answer actual) {
    assertArrayEquals(expected.tokens(), actual.tokens());
    assertArrayEquals(logs(expected), logs(actual));
  }

  private CachedTeacher open(CachedTeacher.Source source) throws IOException {
    return CachedTeacher.open(folder, IDENTITY, TOP, source);
  }

  private String refusal(TeacherIdentity identity, Distribution.Top top) {
    IOException e = assertThrows(IOException.class, () ->
      CachedTeacher.open(folder, identity, top, CachedTeacherTest::nobody)
    );
    String message = e.getMessage();
    assertTrue(message.startsWith(folder.toString()) && !message.contains("\n"), message);
    return message.substring(folder.toString().length());
  }

  /** What the teacher says, each number as near as a record has it. */
  private static void assertStored(MadeUp teacher, int[] windows, Answer answer) {
    teacher.ask(new Question(windows, TOP, NONE));
    Answer exact = teacher.answer();
    assertArrayEquals(exact.tokens(), answer.tokens());
    float[] expected = logs(exact);
    float[] actual = logs(answer);
    for (int i = 0; i < expected.length; i++) {
      if (expected[i] < -31.99f || expected[i] > 0) {
        float nearest = expected[i] > 0 ? 0 : expected[i] < -1000 ? Float.NEGATIVE_INFINITY : -65534 / 2048f;
        assertEquals(nearest, actual[i]);
      } else {
        assertEquals(expected[i], actual[i], 1 / 4096f);
      }
    }
  }

  @Test
  void whatWasAskedIsNotAskedAgain() throws IOException {
    for (int vocabulary : new int[] { 65_536, 70_000 }) {
      Path place = folder.resolve("of " + vocabulary);
      MadeUp teacher = new MadeUp(vocabulary, 1);
      Answer first;
      int[] windows = { 4, 10, 0 };
      try (CachedTeacher cached = CachedTeacher.open(place, IDENTITY, TOP, () -> teacher)) {
        first = ask(cached, windows);
        assertStored(teacher, windows, first);
        teacher.questions.clear();
        // In another order and company, with another question before the answer.
        cached.ask(new Question(new int[] { 10, 4 }, TOP, NONE));
        cached.ask(new Question(new int[] { 0, 3, 10, 5 }, TOP, NONE));
        assertThrows(IllegalStateException.class, () -> cached.ask(new Question(windows, TOP, NONE)));
        assertStored(new MadeUp(vocabulary, 1), new int[] { 10, 4 }, cached.answer());
        assertStored(new MadeUp(vocabulary, 1), new int[] { 0, 3, 10, 5 }, cached.answer());
        assertThrows(IllegalStateException.class, cached::answer);
        assertEquals(1, teacher.questions.size());
        assertArrayEquals(new int[] { 3, 5 }, teacher.questions.getFirst().windows());
        assertSameAnswers(first, ask(cached, windows));
        // What is asked with states is stored too, and is what the record says.
        cached.ask(new Question(new int[] { 7 }, TOP, new int[] { 2 }));
        Answer withStates = cached.answer();
        assertEquals(1, withStates.states().size());
        assertSameAnswers(withStates, ask(cached, 7));
        assertEquals(2, teacher.questions.size());
        // The rest is the teacher's.
        cached.ask(new Question(windows, new Distribution.Logits(), NONE));
        assertEquals(8, cached.answer().logits().byteSize());
        ask(cached, IntStream.range(0, 11).toArray());
      }
      assertTrue(teacher.closed);
      try (CachedTeacher cached = CachedTeacher.open(place, IDENTITY, TOP, CachedTeacherTest::nobody)) {
        assertEquals(
          List.of(9, 2, 8, vocabulary),
          List.of(cached.training(), cached.validation(), cached.context(), cached.vocabulary())
        );
        for (int i = 0; i < 11; i++) {
          assertArrayEquals(teacher.tokens(i), cached.tokens(i));
        }
        assertSameAnswers(first, ask(cached, windows));
        assertStored(
          new MadeUp(vocabulary, 1),
          IntStream.range(0, 11).toArray(),
          ask(cached, IntStream.range(0, 11).toArray())
        );
      }
      long bytes = Files.size(place.resolve(TeacherCache.TOKENS)) + Files.size(place.resolve(TeacherCache.TOP));
      assertEquals(bytes, CachedTeacher.bytes(11, 8, vocabulary, K));
    }
  }

  @Test
  void whatAKilledRunLeftIsUsed() throws IOException {
    MadeUp teacher = new MadeUp(100, 1);
    Answer all;
    int[] windows = IntStream.range(0, 11).toArray();
    try (CachedTeacher cached = open(() -> teacher)) {
      all = ask(cached, windows);
    }
    Path file = folder.resolve(TeacherCache.TOP);
    int record = new TopRecord(8, 100, K).bytes();
    try (RandomAccessFile top = new RandomAccessFile(file.toFile(), "rw")) {
      top.setLength(10L * record + record / 2); // the last was cut off
      top.seek(3L * record);
      top.write(new byte[record]); // a hole
      top.seek(6L * record + record / 2);
      top.write(new byte[record / 2]); // written in part
      byte[] other = new byte[record];
      top.seek(0);
      top.readFully(other);
      top.seek(8L * record); // whole, but of another window
      top.write(other);
    }
    MadeUp again = new MadeUp(100, 1);
    try (CachedTeacher cached = open(() -> again)) {
      assertSameAnswers(all, ask(cached, windows));
      assertEquals(1, again.questions.size());
      assertArrayEquals(new int[] { 3, 6, 8, 10 }, again.questions.getFirst().windows());
    }
    try (CachedTeacher cached = open(CachedTeacherTest::nobody)) {
      assertSameAnswers(all, ask(cached, windows));
    }
    // Killed before it said what it is of: whatever is there counts for nothing.
    Files.delete(folder.resolve(TeacherCache.HEADER));
    Files.write(folder.resolve(TeacherCache.TOKENS), new byte[3]);
    MadeUp anew = new MadeUp(100, 2);
    try (CachedTeacher cached = open(() -> anew)) {
      assertArrayEquals(anew.tokens(5), cached.tokens(5));
      ask(cached, windows);
      assertEquals(11, anew.questions.getFirst().windows().length);
    }
  }

  @Test
  void anotherCacheIsRefused() throws IOException {
    Map<String, String> values = new LinkedHashMap<>();
    values.put("teacher", "abc");
    values.put("context", "8");
    TeacherIdentity identity = new TeacherIdentity(values);
    MadeUp teacher = new MadeUp(100, 1);
    try (CachedTeacher cached = CachedTeacher.open(folder, identity, TOP, () -> teacher)) {
      assertEquals(": in use by this process", refusal(identity, TOP));
      ask(cached, 1);
    }
    values.put("teacher", "abd");
    assertEquals(
      ": the cache is of other answers: teacher 'abc', expected abd",
      refusal(new TeacherIdentity(values), TOP)
    );
    assertEquals(": the cache is of other answers: context '8', expected nothing", refusal(IDENTITY, TOP));
    assertEquals(
      ": the cache is of other answers: likeliest tokens '5', expected 6",
      refusal(identity, new Distribution.Top(6, 1.5f))
    );
    assertEquals(
      ": the cache is of other answers: temperature '1.5', expected 1.0",
      refusal(identity, new Distribution.Top(K, 1))
    );
    // The same files, but another llama.cpp makes other tokens of the text.
    MadeUp changed = new MadeUp(100, 2);
    try (CachedTeacher cached = CachedTeacher.open(folder, identity, TOP, () -> changed)) {
      ask(cached, 1);
      IOException e = assertThrows(IOException.class, () -> ask(cached, 1, 2));
      assertEquals(
        folder + ": a cache of other windows of tokens than the teacher makes of the texts now; delete it",
        e.getMessage()
      );
      assertTrue(changed.closed);
    }
    // Nothing of this did harm.
    try (CachedTeacher cached = CachedTeacher.open(folder, identity, TOP, CachedTeacherTest::nobody)) {
      ask(cached, 1);
    }
  }

  @Test
  void damagedFilesAreNamed() throws IOException {
    MadeUp teacher = new MadeUp(100, 1);
    try (CachedTeacher cached = open(() -> teacher)) {
      ask(cached, 0, 1);
    }
    Path header = folder.resolve(TeacherCache.HEADER);
    String json = Files.readString(header);
    for (String[] change : new String[][] {
      {
        "\"training\": 9",
        "\"training\": 1e9",
        "/cache.json: key training: found '1.0E9', expected a number from 1 to 536870912"
      },
      {
        "\"vocabulary\": 100",
        "\"vocabulary\": 5",
        "/cache.json: key vocabulary: found '5', expected a number from 6 to 2147483647"
      },
      { "\"training\": 9", "\"training\": 500000000", "/tokens.bin: size: found '176', expected 8000000032" },
      { "\"version\": 1", "\"version\": 2", "/cache.json: version: found '2', expected 1" },
      { "teacher cache", "bread", "/cache.json: format: found 'attar bread', expected attar teacher cache" },
      { "{", "[", "/cache.json" }
    }) {
      Files.writeString(header, json.replace(change[0], change[1]));
      String found = refusal(IDENTITY, TOP);
      assertTrue(found.startsWith(change[2]), found);
    }
    Files.writeString(header, json);
    byte[] tokens = Files.readAllBytes(folder.resolve(TeacherCache.TOKENS));
    tokens[17] ^= 1;
    Files.write(folder.resolve(TeacherCache.TOKENS), tokens);
    assertTrue(refusal(IDENTITY, TOP).startsWith("/tokens.bin: checksum: found"));
    tokens[17] ^= 1;
    Files.write(folder.resolve(TeacherCache.TOKENS), tokens);
    // A record whose checksum is right and whose tokens are not.
    int[] wrong = new int[8 * K];
    Arrays.fill(wrong, 100);
    byte[] record = new TopRecord(8, 100, K).encode(0, wrong, Arena.ofAuto().allocate(4 * 8 * (K + 1), 4), 0).array();
    try (RandomAccessFile top = new RandomAccessFile(folder.resolve(TeacherCache.TOP).toFile(), "rw")) {
      top.write(record);
    }
    try (CachedTeacher cached = open(CachedTeacherTest::nobody)) {
      ask(cached, 1);
      IOException e = assertThrows(IOException.class, () -> ask(cached, 0));
      assertEquals(folder + "/top.bin: window 1: token 100, expected 0 to 99", e.getMessage());
    }
  }

  @Test
  @EnabledOnOs(OS.LINUX)
  void aFullDiskIsSaid() throws IOException {
    try (CachedTeacher cached = open(() -> new MadeUp(100, 1))) {
      cached.tokens(0);
    }
    Path top = folder.resolve(TeacherCache.TOP);
    Files.delete(top);
    Files.createSymbolicLink(top, Path.of("/dev/full"));
    try (CachedTeacher cached = open(() -> new MadeUp(100, 1))) {
      IOException e = assertThrows(IOException.class, () -> ask(cached, 0));
      assertEquals(top + ": cannot be written: No space left on device", e.getMessage());
    }
    Files.delete(top);
  }
}
