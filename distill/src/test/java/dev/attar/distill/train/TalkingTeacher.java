package dev.attar.distill.train;

import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.distill.teacher.Answer;
import dev.attar.distill.teacher.Question;
import dev.attar.distill.teacher.Question.Distribution;
import dev.attar.distill.teacher.Teacher;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.Deque;
import java.util.List;
import java.util.SplittableRandom;
import java.util.stream.IntStream;

/** A teacher whose text and answers are made up: what follows a token depends on it, and on chance. */
class TalkingTeacher implements Teacher {

  static final int CONTEXT = 16;

  private final int training;
  private final int width;
  private final Deque<Question> asked = new ArrayDeque<>();

  /** How many windows were asked about, which is what takes time. */
  int answered;

  /** What it says at this many answered windows is not a number. */
  int sillyAt = Integer.MAX_VALUE;

  TalkingTeacher(int training, int width) {
    this.training = training;
    this.width = width;
  }

  @Override
  public int training() {
    return training;
  }

  @Override
  public int validation() {
    return 3;
  }

  @Override
  public int context() {
    return CONTEXT;
  }

  @Override
  public int vocabulary() {
    return TinyStudent.VOCABULARY;
  }

  @Override
  public int[] tokens(int window) {
    assertTrue(window < training + validation(), "window " + window);
    SplittableRandom random = new SplittableRandom(1000 + window);
    int[] tokens = new int[CONTEXT];
    for (int i = 1; i < CONTEXT; i++) {
      tokens[i] = random.nextInt(4) == 0 ? random.nextInt(vocabulary()) : next(tokens[i - 1]);
    }
    return tokens;
  }

  private int next(int token) {
    return (5 * token + 3) % vocabulary();
  }

  @Override
  public void ask(Question question) {
    asked.add(question);
    assertTrue(asked.size() <= 2, "questions are put before they are answered");
  }

  @Override
  public Answer answer() throws IOException {
    Question question = asked.remove();
    int[] tokens = Arrays.stream(question.windows())
      .flatMap(window -> Arrays.stream(tokens(window)))
      .toArray();
    answered += question.windows().length;
    List<MemorySegment> states = new ArrayList<>();
    for (int block : question.states()) {
      states.add(segment(tokens, width, (token, i) -> state(block, token, i)));
    }
    return switch (question.distribution()) {
      case Distribution.None _ -> new Answer(null, null, null, states);
      case Distribution.Logits _ -> new Answer(segment(tokens, vocabulary(), this::logit), null, null, states);
      case Distribution.Top top -> top(tokens, top, states);
    };
  }

  private Answer top(int[] tokens, Distribution.Top top, List<MemorySegment> states) {
    int k = top.k();
    int[] likeliest = new int[tokens.length * k];
    float[][] logarithms = new float[tokens.length][];
    for (int i = 0; i < tokens.length; i++) {
      int token = tokens[i];
      double[] p = IntStream.range(0, vocabulary())
        .mapToDouble(j -> Math.exp(logit(token, j) / top.temperature()))
        .toArray();
      double sum = Arrays.stream(p).sum();
      int[] order = IntStream.range(0, vocabulary())
        .boxed()
        .sorted(Comparator.comparing(j -> -p[j]))
        .mapToInt(Integer::intValue)
        .limit(k)
        .toArray();
      System.arraycopy(order, 0, likeliest, i * k, k);
      double rest = 1;
      logarithms[i] = new float[k + 1];
      for (int j = 0; j < k; j++) {
        logarithms[i][j] = (float) Math.log(p[order[j]] / sum);
        rest -= p[order[j]] / sum;
      }
      logarithms[i][k] = (float) Math.log(rest);
    }
    ByteBuffer bytes = ByteBuffer.allocate(4 * tokens.length * (k + 1)).order(ByteOrder.LITTLE_ENDIAN);
    for (float[] row : logarithms) {
      for (float value : row) {
        bytes.putFloat(value);
      }
    }
    return new Answer(null, likeliest, MemorySegment.ofArray(bytes.array()), states);
  }

  private float logit(int token, int other) {
    if (answered >= sillyAt) {
      return Float.NaN;
    }
    return (float) (noise(1, token, other) + (other == next(token) ? 5 : 0));
  }

  /** What leaves a block has what entered it, and something more. */
  private float state(int block, int token, int i) {
    double sum = noise(2, token, i);
    for (int b = 0; b <= block; b++) {
      sum += 0.5 * noise(3 + b, token, i);
    }
    return (float) sum;
  }

  private static final double[][] NOISE = new double[6][];

  static {
    SplittableRandom random = new SplittableRandom(1);
    for (int kind = 0; kind < NOISE.length; kind++) {
      NOISE[kind] = random.doubles(TinyStudent.VOCABULARY * TinyStudent.VOCABULARY, -1.7, 1.7).toArray();
    }
  }

  private static double noise(int kind, int row, int column) {
    return NOISE[kind][row * TinyStudent.VOCABULARY + column];
  }

  private interface Value {
    float of(int token, int column);
  }

  private static MemorySegment segment(int[] tokens, int columns, Value value) {
    ByteBuffer bytes = ByteBuffer.allocate(4 * tokens.length * columns).order(ByteOrder.LITTLE_ENDIAN);
    for (int token : tokens) {
      for (int i = 0; i < columns; i++) {
        bytes.putFloat(value.of(token, i));
      }
    }
    MemorySegment segment = MemorySegment.ofArray(bytes.array());
    return segment.asReadOnly();
  }

  @Override
  public void close() {
    // Nothing is open.
  }
}
