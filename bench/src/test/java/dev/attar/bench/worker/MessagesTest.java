package dev.attar.bench.worker;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.attar.bench.accuracy.Step;
import dev.attar.bench.accuracy.TokenComparison;
import dev.attar.bench.accuracy.TokenScores;
import dev.attar.bench.accuracy.Windows;
import dev.attar.bench.latency.LatencyTest;
import dev.attar.llama.Frame;
import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.OptionalLong;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class MessagesTest {

  private static final Step STEP = new Step(
    true,
    new int[] { 5, 6, 7 },
    new int[] { 0, 1, 0 },
    new int[] { 0, 0, 1 },
    new int[] { Step.NOT_SCORED, 9, Step.NOT_SCORED }
  );

  static List<Request> requests() {
    return List.of(
      new Request.Load(Path.of("a b", "ü.gguf"), List.of(Path.of("x"), Path.of("y")), OptionalInt.of(0), false),
      new Request.Load(Path.of("m.gguf"), List.of(), OptionalInt.empty(), true),
      new Request.Tokenize(Path.of("text.txt"), 1024),
      new Request.OpenEvaluation(512, 2, Optional.of(Path.of("shared")), true),
      new Request.OpenEvaluation(512, 2, Optional.empty(), false),
      new Request.OpenTiming(128, 3),
      new Request.Time(LatencyTest.Kind.GENERATION, 128, 4, -1),
      new Request.MeasureMemory()
    );
  }

  @ParameterizedTest
  @MethodSource("requests")
  void requestsComeThroughThePipe(Request request) throws IOException {
    assertEquals(request, Request.of(Request.toFrame(request)));
  }

  static List<Reply> replies() {
    return List.of(
      new Reply.Loaded(1.5, 4096, "0.5.0", List.of("CPU", "GPU")),
      new Reply.Done(),
      new Reply.Timed(0.25, 0.5),
      new Reply.Memory(OptionalLong.of(1L << 40)),
      new Reply.Memory(OptionalLong.empty())
    );
  }

  @ParameterizedTest
  @MethodSource("replies")
  void repliesComeThroughThePipe(Reply reply) throws IOException {
    assertEquals(reply, Reply.of(Reply.toFrame(reply)));
  }

  @Test
  void stepsTokensAndScoresComeThroughThePipe() throws IOException {
    Request.Evaluate evaluate = (Request.Evaluate) Request.of(Request.toFrame(new Request.Evaluate(1, STEP)));
    assertEquals(1, evaluate.slot());
    assertEquals(true, evaluate.step().first());
    assertArrayEquals(STEP.tokens(), evaluate.step().tokens());
    assertArrayEquals(STEP.positions(), evaluate.step().positions());
    assertArrayEquals(STEP.sequences(), evaluate.step().sequences());
    assertArrayEquals(new int[] { 9 }, evaluate.step().scored());
    int[] tokens = { 1, 2, 3 };
    assertArrayEquals(tokens, ((Reply.Tokenized) Reply.of(Reply.toFrame(new Reply.Tokenized(tokens)))).tokens());
    assertEquals(7, ((Reply.Scored) Reply.of(Reply.toFrame(new Reply.Scored(new TokenScores(7))))).scores().count());
    assertEquals(
      7,
      ((Reply.Compared) Reply.of(Reply.toFrame(new Reply.Compared(new TokenComparison(7))))).scores().count()
    );
  }

  @Test
  void countsAreNotTrusted() throws IOException {
    Frame tokens = Frame.of(2, out -> out.writeInt(Integer.MAX_VALUE));
    assertThrows(IOException.class, () -> Reply.of(tokens));
    Frame negative = Frame.of(2, out -> out.writeInt(-1));
    assertThrows(IOException.class, () -> Reply.of(negative));
    Frame step = Frame.of(4, out -> {
      out.writeInt(0);
      out.writeBoolean(true);
      out.writeInt(Windows.MOST_STEP_TOKENS + 1);
    });
    assertThrows(IOException.class, () -> Request.of(step));
    Frame unknown = Frame.of(99);
    assertThrows(IOException.class, () -> Request.of(unknown));
    assertThrows(IOException.class, () -> Reply.of(unknown));
  }
}
