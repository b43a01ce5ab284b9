package dev.attar.distill.teacher;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.calibration.TestModels;
import dev.attar.distill.teacher.Question.Distribution;
import dev.attar.llama.Batch;
import dev.attar.llama.LlamaContext;
import dev.attar.llama.LlamaModel;
import dev.attar.llama.Node;
import dev.attar.llama.NodeObserver;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.OptionalInt;
import java.util.OptionalLong;
import java.util.stream.IntStream;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

class LlamaTeacherTest {

  private static final Path TEXT = Path.of("../samples/calibration.txt");
  private static final int[] NONE = {};

  @TempDir
  private static Path models;

  private static Path model;

  @TempDir
  private Path folder;

  @BeforeAll
  static void convert() throws IOException {
    model = TestModels.convert(TestModels.SAMPLE, models.resolve("model.gguf"));
  }

  private static LlamaTeacher.Settings settings(Path text, long tokens, int context, int held, int vocabulary) {
    return new LlamaTeacher.Settings(
      List.of(text),
      List.of(),
      OptionalLong.of(tokens),
      context,
      held,
      vocabulary,
      1,
      OptionalInt.of(0),
      Duration.ofSeconds(60)
    );
  }

  /** What a model computes of one window, alone, a piece at a time, with the API of llama.cpp. */
  private record Truth(float[] logits, float[][] states) {
    static Truth of(int[] tokens) throws IOException {
      try (LlamaModel opened = LlamaModel.open(model, new LlamaModel.Options(OptionalInt.of(0), false, true, null))) {
        int n = tokens.length;
        int width = opened.embeddingLength();
        int vocabulary = opened.tokens().size();
        int piece = Math.min(n, 512);
        float[][] states = new float[opened.layers() + 1][n * width];
        int[] from = { 0 };
        // The stream is normalized before each block's attention. The last norm may overwrite what it reads.
        String last = "l_out-" + (opened.layers() - 1);
        NodeObserver stream = new NodeObserver() {
          private int next;

          @Override
          public boolean wants(Node node) {
            return node.name().equals(next == opened.layers() ? last : "norm-" + next);
          }

          @Override
          public boolean computed(Node node) {
            Node values = next == opened.layers() ? node : node.source(0).orElseThrow();
            for (int i = 0; i < values.ne(1); i++) {
              MemorySegment.copy(
                values.data(),
                JAVA_FLOAT,
                i * values.nb(1),
                states[next],
                (from[0] + i) * width,
                width
              );
            }
            next = (next + 1) % states.length;
            return true;
          }
        };
        float[] logits = new float[n * vocabulary];
        LlamaContext.Options options = new LlamaContext.Options(n, piece, piece, 1, 1);
        try (LlamaContext context = opened.context(options, stream); Batch batch = new Batch(piece)) {
          for (; from[0] < n; from[0] += piece) {
            batch.clear();
            int count = Math.min(piece, n - from[0]);
            for (int i = 0; i < count; i++) {
              batch.add(tokens[from[0] + i], from[0] + i, 0, true);
            }
            context.decode(batch);
            MemorySegment.copy(context.logits(), JAVA_FLOAT, 0, logits, from[0] * vocabulary, count * vocabulary);
          }
        }
        return new Truth(logits, states);
      }
    }
  }

  private static float[] floats(MemorySegment values) {
    return values.toArray(JAVA_FLOAT);
  }

  private static float[] part(MemorySegment values, int index, int length) {
    return values.asSlice(4L * index * length, 4L * length).toArray(JAVA_FLOAT);
  }

  private static void assertClose(float[] expected, float[] actual, double tolerance) {
    assertEquals(expected.length, actual.length);
    for (int i = 0; i < expected.length; i++) {
      assertEquals(expected[i], actual[i], tolerance * (1 + Math.abs(expected[i])), "number " + i);
    }
  }

  private static Answer ask(Teacher teacher, Distribution distribution, int[] states, int... windows)
    throws IOException {
    teacher.ask(new Question(windows, distribution, states));
    return teacher.answer();
  }

  @Test
  void saysWhatTheModelSays() throws IOException, InterruptedException {
    int context = 48; // ten of them in a batch
    try (LlamaTeacher teacher = LlamaTeacher.open(model, settings(TEXT, 48 * 30, context, 4, 0))) {
      assertEquals(26, teacher.training());
      assertEquals(4, teacher.validation());
      int vocabulary = teacher.vocabulary();
      int width = teacher.embedding();
      int perWindow = context * vocabulary;
      int[] many = IntStream.range(0, 23)
        .map(i -> (7 * i + 29) % 30)
        .toArray();
      int[] states = { -1, 1, 3 };
      Answer answer = ask(teacher, new Distribution.Logits(), states, many);
      assertNull(answer.tokens());
      for (int i : new int[] { 0, 9, 10, 22 }) {
        Truth truth = Truth.of(teacher.tokens(many[i]));
        assertClose(truth.logits, part(answer.logits(), i, perWindow), 1e-3);
        for (int j = 0; j < states.length; j++) {
          assertClose(truth.states[states[j] + 1], part(answer.states().get(j), i, context * width), 1e-3);
        }
      }
      assertEmbedding(teacher, many, floats(answer.states().getFirst()), width);

      // States alone, of fewer windows and with a computation that ends early; in the same place of a batch they are the same numbers.
      float[] state = floats(answer.states().get(1));
      Answer alone = ask(teacher, new Distribution.None(), new int[] { 1 }, Arrays.copyOf(many, 10));
      assertNull(alone.logits());
      assertArrayEquals(Arrays.copyOf(state, 10 * context * width), floats(alone.states().getFirst()));

      assertTop(teacher, new int[] { 29 }, 7, 1);
      assertTop(teacher, new int[] { 5 }, 64, 2.5f);
      assertTop(teacher, new int[] { 3 }, vocabulary - 1, 0.7f);
      assertEquals(0, ask(teacher, new Distribution.None(), NONE, 1).states().size());
      answersFollowQuestions(teacher);
    }
  }

  /** What enters the first block are the rows of the embedding. */
  private static void assertEmbedding(LlamaTeacher teacher, int[] windows, float[] state, int width)
    throws IOException {
    float[] embedding = TestModels.values(model, "token_embd.weight");
    int row = 0;
    for (int window : windows) {
      for (int token : teacher.tokens(window)) {
        float[] expected = Arrays.copyOfRange(embedding, token * width, (token + 1) * width);
        assertArrayEquals(expected, Arrays.copyOfRange(state, row * width, (row + 1) * width));
        row++;
      }
    }
  }

  private static void assertTop(Teacher teacher, int[] windows, int k, float temperature) throws IOException {
    float[] logits = floats(ask(teacher, new Distribution.Logits(), NONE, windows).logits());
    Answer top = ask(teacher, new Distribution.Top(k, temperature), NONE, windows);
    float[] logProbabilities = floats(top.logProbabilities());
    TopTokensTest.assertRows(logits, teacher.vocabulary(), k, temperature, top.tokens(), logProbabilities);
  }

  /** An answer stays as it is while the next one is computed, and goes when that is taken. */
  private static void answersFollowQuestions(Teacher teacher) throws IOException, InterruptedException {
    assertThrows(IllegalStateException.class, teacher::answer);
    Distribution logits = new Distribution.Logits();
    float[][] expected = new float[6][];
    for (int i = 0; i < expected.length; i++) {
      expected[i] = floats(ask(teacher, logits, NONE, questionOf(i)).logits());
    }
    teacher.ask(new Question(questionOf(0), logits, NONE));
    teacher.ask(new Question(questionOf(1), logits, NONE));
    Question third = new Question(questionOf(2), logits, NONE);
    assertThrows(IllegalStateException.class, () -> teacher.ask(third));
    for (int i = 0; i < expected.length; i++) {
      MemorySegment answer = teacher.answer().logits();
      if (i + 2 < expected.length) {
        teacher.ask(new Question(questionOf(i + 2), logits, NONE));
        Thread.sleep(50); // time for what must not happen
      }
      assertArrayEquals(expected[i], floats(answer));
    }
  }

  private static int[] questionOf(int number) {
    // Of different lengths, so that their memory grows.
    return IntStream.rangeClosed(0, number)
      .map(i -> 4 * number + i)
      .toArray();
  }

  @Test
  void longWindowsAreComputedInPieces() throws IOException {
    int context = 700;
    Path other = Files.writeString(folder.resolve("other.txt"), Files.readString(TEXT).substring(20_000, 40_000));
    LlamaTeacher.Settings settings = new LlamaTeacher.Settings(
      List.of(TEXT),
      List.of(other),
      OptionalLong.of(2 * context),
      context,
      1,
      300, // fewer than the model has
      1,
      OptionalInt.of(0),
      Duration.ofSeconds(60)
    );
    IOException e = assertThrows(IOException.class, () -> LlamaTeacher.open(model, settings));
    assertTrue(
      e
        .getMessage()
        .matches(
          ".*calibration.txt: token \\d+ of the teacher, .*, is in the text, expected only tokens below 300, the shared ones"
        ),
      e.getMessage()
    );
    int size = 4096;
    LlamaTeacher.Settings all = settings(TEXT, 3 * context, context, 1, size);
    try (LlamaTeacher teacher = LlamaTeacher.open(model, all)) {
      assertEquals(2, teacher.training());
      Truth truth = Truth.of(teacher.tokens(2));
      Answer answer = ask(teacher, new Distribution.Logits(), new int[] { 2 }, 0, 2);
      assertClose(truth.logits, part(answer.logits(), 1, context * size), 1e-3);
      assertClose(truth.states[3], part(answer.states().getFirst(), 1, context * teacher.embedding()), 1e-3);
    }
  }

  @Test
  void whatIsWrongIsNamed() throws IOException {
    IOException few = assertThrows(IOException.class, () -> LlamaTeacher.open(model, settings(TEXT, 320, 64, 5, 0)));
    assertEquals(
      TEXT + ": 5 windows of 64 tokens, expected more than the 5 that are held out for validation",
      few.getMessage()
    );
    Path broken = TestModels.convert(
      TestModels.SAMPLE,
      folder.resolve("broken.gguf"),
      metadata -> metadata,
      (tensor, values) -> {
        if (tensor.name().equals("blk.1.ffn_norm.weight")) {
          values[7] = Float.NaN;
        }
        return values;
      }
    );
    try (LlamaTeacher teacher = LlamaTeacher.open(broken, settings(TEXT, 640, 64, 1, 0))) {
      assertEquals(1, ask(teacher, new Distribution.None(), new int[] { 0 }, 3).states().size());
      Distribution none = new Distribution.None();
      assertThrows(IllegalArgumentException.class, () -> ask(teacher, none, new int[] { 1, 0 }, 0));
      assertThrows(IllegalArgumentException.class, () -> ask(teacher, none, new int[] { 4 }, 0));
      assertThrows(IndexOutOfBoundsException.class, () -> ask(teacher, none, NONE, 10));
      int all = teacher.vocabulary();
      assertThrows(IllegalArgumentException.class, () -> ask(teacher, new Distribution.Top(all, 1), NONE, 0));
      assertThrows(IllegalArgumentException.class, () -> ask(teacher, new Distribution.Top(1, 0), NONE, 0));
      IOException e = assertThrows(IOException.class, () -> ask(teacher, new Distribution.Logits(), NONE, 2, 7));
      assertEquals(broken + ": logits are not finite in window 3, token 1", e.getMessage());
    }
  }
}
