package dev.attar.distill.teacher;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.attar.distill.teacher.Question.Distribution;
import dev.attar.llama.Frame;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.OptionalLong;
import org.junit.jupiter.api.Test;

class MessagesTest {

  private static LlamaTeacher.Settings settings(OptionalLong tokens, OptionalInt gpuLayers, int context) {
    return new LlamaTeacher.Settings(
      List.of(Path.of("a"), Path.of("b c")),
      List.of(Path.of("v")),
      tokens,
      context,
      3,
      300,
      2,
      gpuLayers,
      Duration.ofSeconds(3)
    );
  }

  @Test
  void messagesComeBackAsTheyWere() throws IOException {
    for (LlamaTeacher.Settings settings : List.of(
      settings(OptionalLong.empty(), OptionalInt.empty(), 512),
      settings(OptionalLong.of(1 << 30), OptionalInt.of(0), 2)
    )) {
      Request open = new Request.Open(Path.of("m.gguf"), settings, Path.of("t"));
      assertEquals(open, Request.of(Request.toFrame(open)));
    }
    for (Distribution distribution : List.of(
      new Distribution.None(),
      new Distribution.Logits(),
      new Distribution.Top(64, 1.5f)
    )) {
      Question question = new Question(new int[] { 7, 0 }, distribution, new int[] { -1, 3 });
      Request.Ask ask = new Request.Ask(1, Optional.of(Path.of("s")), 1L << 40, question);
      Request.Ask back = (Request.Ask) Request.of(Request.toFrame(ask));
      assertEquals(ask.file(), back.file());
      assertEquals(ask.bytes(), back.bytes());
      assertArrayEquals(question.windows(), back.question().windows());
      assertEquals(distribution, back.question().distribution());
      assertArrayEquals(question.states(), back.question().states());
    }
    for (Reply reply : List.of(new Reply.Opened(2, 1, 300, 4, 64, List.of("a warning")), new Reply.Answered())) {
      assertEquals(reply, Reply.of(Reply.toFrame(reply)));
    }
    assertThrows(IOException.class, () -> Request.of(Frame.of(99)));
    assertThrows(IOException.class, () -> Reply.of(Frame.of(99)));
    // A count that its message has no room for.
    assertThrows(IOException.class, () ->
      Request.of(
        Frame.of(2, out -> {
          out.writeInt(0);
          out.writeUTF("");
          out.writeLong(0);
          out.writeInt(Integer.MAX_VALUE);
        })
      )
    );
  }

  @Test
  void settingsAreChecked() {
    assertThrows(IllegalArgumentException.class, () -> settings(OptionalLong.of(0), OptionalInt.empty(), 512));
    assertThrows(IllegalArgumentException.class, () -> settings(OptionalLong.empty(), OptionalInt.empty(), 1));
  }
}
