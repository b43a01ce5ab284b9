package dev.attar.calibration;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import dev.attar.compute.DeviceChoice;
import dev.attar.formats.TensorType;
import dev.attar.llama.Frame;
import java.io.IOException;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import org.junit.jupiter.api.Test;

class MessagesTest {

  @Test
  void requestsComeBackAsTheyWere() throws IOException {
    Calibrator.Settings settings = new Calibrator.Settings(
      List.of(Path.of("a"), Path.of("b c")),
      1 << 30,
      512,
      3,
      DeviceChoice.CPU,
      true,
      false,
      Duration.ofSeconds(3)
    );
    for (Request request : List.of(
      new Request.Open(Path.of("m.gguf"), settings),
      new Request.CollectImportance(),
      new Request.CollectGrams(
        Path.of("f"),
        "identity",
        List.of(new Request.Wanted(3, -1), new Request.Wanted(0, 0)),
        List.of("blk.0.ffn_up.weight")
      ),
      new Request.MeasureInfluence(),
      new Request.Replace("blk.0.ffn_up.weight", TensorType.Q4_K, Path.of("x"))
    )) {
      assertEquals(request, Request.of(Request.toFrame(request)));
    }
    assertThrows(IOException.class, () -> Request.of(Frame.of(99)));
  }

  @Test
  void repliesComeBackAsTheyWere() throws IOException {
    LinearInput input = new LinearInput("a", List.of("a", "b"), 3, 2);
    for (Reply reply : List.of(
      new Reply.Opened(2, 1024, List.of(input), List.of("a warning")),
      new Reply.Window(7),
      new Reply.Done()
    )) {
      assertEquals(reply, Reply.of(Reply.toFrame(reply)));
    }
    Reply.Importance sums = new Reply.Importance(new double[] { 1, 2.5, 3, 4 }, new long[] { 5, 0 });
    Reply.Importance back = (Reply.Importance) Reply.of(Reply.toFrame(sums));
    assertArrayEquals(sums.squares(), back.squares());
    assertArrayEquals(sums.counts(), back.counts());
    double[] blocks = { 0.5, 0 };
    assertArrayEquals(blocks, ((Reply.Influence) Reply.of(Reply.toFrame(new Reply.Influence(blocks)))).blocks());
    assertThrows(IOException.class, () -> Reply.of(Frame.of(99)));
    // A count that its message has no room for.
    assertThrows(IOException.class, () -> Reply.of(Frame.of(3, out -> out.writeInt(Integer.MAX_VALUE))));
  }

  @Test
  void settingsAreChecked() {
    List<Path> texts = List.of(Path.of("a"));
    Duration patience = Duration.ofSeconds(1);
    assertThrows(IllegalArgumentException.class, () ->
      new Calibrator.Settings(List.of(), 1, 512, 1, DeviceChoice.CPU, false, false, patience)
    );
    assertThrows(IllegalArgumentException.class, () ->
      new Calibrator.Settings(texts, 0, 512, 1, DeviceChoice.CPU, false, false, patience)
    );
    assertThrows(IllegalArgumentException.class, () ->
      new Calibrator.Settings(texts, 1, 1, 1, DeviceChoice.CPU, false, false, patience)
    );
    assertThrows(IllegalArgumentException.class, () ->
      new Calibrator.Settings(texts, 1, 512, 0, DeviceChoice.CPU, false, false, patience)
    );
  }
}
