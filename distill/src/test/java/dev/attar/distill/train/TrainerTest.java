package dev.attar.distill.train;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.calibration.MemoryModel;
import dev.attar.distill.DistillException;
import dev.attar.distill.DistillListener.Step;
import dev.attar.distill.DistillListener.Validation;
import dev.attar.distill.DistillOptions;
import dev.attar.distill.DistillResult;
import dev.attar.distill.DistillRun;
import dev.attar.distill.teacher.Answer;
import dev.attar.formats.OutputFiles;
import dev.attar.formats.safetensors.SafetensorsFile;
import dev.attar.formats.safetensors.StoredTensor;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.lang.foreign.ValueLayout;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Consumer;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

class TrainerTest {

  private static final MemoryModel STUDENT = TinyStudent.model();
  private static final String IDENTITY = "a teacher, a student, a text";

  @TempDir
  private Path folder;

  private static TalkingTeacher teacher() {
    return new TalkingTeacher(13, TinyStudent.WIDTH);
  }

  private Path work() {
    return folder.resolve("work");
  }

  private static DistillResult run(DistillOptions options, Path work, boolean resume)
    throws IOException, InterruptedException {
    return run(options, work, resume, _ -> {});
  }

  private static DistillResult run(DistillOptions options, Path work, boolean resume, Consumer<Step> each)
    throws IOException, InterruptedException {
    // With states to compare, the teacher is wider than the student.
    int width = options.loss().comparesStates() ? 24 : TinyStudent.WIDTH;
    return DistillRun.run(STUDENT, new TalkingTeacher(13, width), options, IDENTITY, work, resume, new Log(each));
  }

  /** Ends a run as a kill would: nothing more is written. */
  private static final class Killed extends RuntimeException {

    private static final long serialVersionUID = 1;
  }

  private static Consumer<Step> killAt(String phase, int number) {
    return step -> {
      if (step.phase().equals(phase) && step.number() == number) {
        throw new Killed();
      }
    };
  }

  /** All of a step that does not depend on time. */
  private static List<Object> numbers(Step step) {
    return List.of(
      step.phase(),
      step.number(),
      step.steps(),
      step.loss(),
      step.divergence(),
      step.crossEntropy(),
      step.states(),
      step.gradientNorm(),
      step.rate()
    );
  }

  private static void assertSame(DistillResult expected, DistillResult found) throws IOException {
    assertEquals(
      expected.steps().stream().map(TrainerTest::numbers).toList(),
      found.steps().stream().map(TrainerTest::numbers).toList()
    );
    assertEquals(expected.validations(), found.validations());
    assertEquals(expected.tokens(), found.tokens());
    assertEquals(expected.ended(), found.ended());
    // Weights and moments at the end, and the best weights.
    Path[] folders = { expected.best().getParent(), found.best().getParent() };
    assertEquals(names(folders[0]), names(folders[1]));
    for (String name : names(folders[0])) {
      if (name.endsWith(".safetensors")) {
        assertEquals(-1, Files.mismatch(folders[0].resolve(name), folders[1].resolve(name)), name);
      }
    }
  }

  private static List<String> names(Path folder) throws IOException {
    return OutputFiles.entries(folder)
      .stream()
      .map(file -> file.getFileName().toString())
      .toList();
  }

  private static Map<String, float[]> weights(Path file) throws IOException {
    Map<String, float[]> weights = new HashMap<>();
    try (SafetensorsFile stored = SafetensorsFile.open(file)) {
      for (StoredTensor tensor : stored.tensors()) {
        weights.put(tensor.name(), tensor.bytes().toArray(ValueLayout.JAVA_FLOAT_UNALIGNED));
      }
    }
    return weights;
  }

  @Test
  void aStudentLearnsWhatTheTeacherSays() throws Exception {
    DistillOptions options = TestOptions.of()
      .reconstruction(30)
      .steps(OptionalInt.of(120))
      .rate(0.02f)
      .every(40, 50)
      .build();
    DistillResult result = run(options, work(), false);
    assertEquals(150, result.steps().size());
    double before = result.steps().getFirst().loss();
    double after = result.steps().get(29).loss();
    assertTrue(after < 0.5 * before, "reconstruction " + before + " to " + after);
    List<Validation> validations = result.validations();
    assertEquals(
      List.of("start 0", "reconstruction 30", "distillation 40", "distillation 80", "distillation 120"),
      validations
        .stream()
        .map(validation -> validation.phase() + " " + validation.step())
        .toList()
    );
    Validation start = validations.getFirst();
    Validation best = validations.stream().filter(Validation::best).toList().getLast();
    assertTrue(best.divergence() < 0.5 * start.divergence(), start + " to " + best);
    assertTrue(best.crossEntropy() < 0.7 * start.crossEntropy(), start + " to " + best);
    for (Validation validation : validations) {
      assertEquals(
        0.7 * 4 * validation.divergence() + 0.3 * validation.crossEntropy(),
        validation.loss(),
        1e-5 * validation.loss()
      );
    }
    assertEquals(120L * 4 * TalkingTeacher.CONTEXT, result.tokens());
    Map<String, float[]> weights = weights(result.best());
    assertEquals(2 + 9 * TinyStudent.BLOCKS, weights.size());
    assertEquals(TinyStudent.VOCABULARY * TinyStudent.WIDTH, weights.get("token_embd.weight").length);
    assertEquals("best-distillation-" + best.step() + ".safetensors", result.best().getFileName().toString());
    assertEquals(
      List.of("best-distillation-" + best.step() + ".safetensors", "checkpoint.json", "lock", "metrics.jsonl") +
        " and state-distillation-120.safetensors",
      names(work()).subList(0, 4) + " and " + names(work()).get(4)
    );
  }

  @Test
  void reconstructionLeavesWhatIsOutsideOfTheBlocks() throws Exception {
    DistillOptions options = TestOptions.of().reconstruction(5).build();
    assertThrows(Killed.class, () -> run(options, work(), false, killAt("distillation", 1)));
    Map<String, float[]> state = weights(work().resolve("state-distillation-0.safetensors"));
    for (String outside : List.of("token_embd.weight", "output_norm.weight")) {
      assertArrayEquals(MemoryModel.values(MemoryModel.tensor(STUDENT, outside)), state.get(outside), outside);
    }
    String inside = "blk.1.ffn_down.weight";
    assertFalse(Arrays.equals(MemoryModel.values(MemoryModel.tensor(STUDENT, inside)), state.get(inside)));
    state.forEach((name, values) -> {
      if (name.endsWith(".first") || name.endsWith(".second")) {
        assertArrayEquals(new float[values.length], values, "moments are forgotten: " + name);
      }
    });
  }

  static List<Arguments> kills() {
    DistillOptions both = TestOptions.of().reconstruction(5).build();
    DistillOptions states = TestOptions.of().topAndStates().build();
    return List.of(
      Arguments.of("reconstruction, then distillation", both, List.of("reconstruction 2", "reconstruction 5")),
      Arguments.of("at a boundary", both, List.of("reconstruction 4", "distillation 1", "distillation 8")),
      Arguments.of("with projections", states, List.of("distillation 2", "distillation 4", "distillation 7"))
    );
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("kills")
  void aKilledTrainingGoesOnAsIfNothingHadHappened(String name, DistillOptions options, List<String> kills)
    throws Exception {
    DistillResult expected = run(options, folder.resolve("whole"), false);
    for (int i = 0; i < kills.size(); i++) {
      String[] place = kills.get(i).split(" ");
      boolean resume = i > 0;
      assertThrows(Killed.class, () -> run(options, work(), resume, killAt(place[0], Integer.parseInt(place[1]))));
    }
    // What a kill in the middle of writing leaves.
    Files.writeString(work().resolve("state-distillation-99.safetensors.part"), "half");
    Files.writeString(work().resolve("best-distillation-99.safetensors"), "of steps that are done again");
    Files.writeString(work().resolve("checkpoint.json.part"), "{");
    assertSame(expected, run(options, work(), true));
    List<String> lines = Files.readAllLines(work().resolve("metrics.jsonl"));
    assertEquals(expected.steps().size() + expected.validations().size(), lines.size());
    // What is done is done.
    assertSame(
      expected,
      run(options, work(), true, _ -> {
        throw new AssertionError("a step");
      })
    );
  }

  @Test
  void anInterruptedTrainingKeepsItsSteps() throws Exception {
    DistillOptions options = TestOptions.of().every(4, 100).build();
    DistillResult expected = run(options, folder.resolve("whole"), false);
    for (int at : new int[] { 2, 4, 8 }) {
      // At 4 and 8 it is interrupted in a validation.
      assertThrows(InterruptedException.class, () ->
        run(options, work(), at > 2, step -> {
          if (step.number() == at) {
            Thread.currentThread().interrupt();
          }
        })
      );
      assertFalse(Thread.currentThread().isInterrupted());
      assertEquals(at, Checkpoint.read(work().resolve("checkpoint.json")).step());
    }
    // Most of the time it waits for the teacher.
    OutputFiles.delete(work());
    TalkingTeacher teacher = new TalkingTeacher(13, TinyStudent.WIDTH) {
      @Override
      public Answer answer() throws IOException {
        if (answered > 3 + 5 * 4 + 3) {
          Thread.currentThread().interrupt();
          throw new InterruptedIOException("interrupted while waiting for a frame");
        }
        return super.answer();
      }
    };
    assertThrows(InterruptedException.class, () ->
      DistillRun.run(STUDENT, teacher, options, IDENTITY, work(), false, new Log())
    );
    assertFalse(Thread.currentThread().isInterrupted());
    assertEquals(5, Checkpoint.read(work().resolve("checkpoint.json")).step());
    assertSame(expected, run(options, work(), true));
  }

  @ParameterizedTest
  @ValueSource(booleans = { false, true })
  void partsOfABatchMakeNoDifferenceButRounding(boolean states) throws Exception {
    List<DistillResult> results = new ArrayList<>();
    for (int micro : new int[] { 4, 1 }) {
      TestOptions options = TestOptions.of().micro(micro).steps(OptionalInt.of(3));
      DistillOptions built = states ? options.topAndStates().build() : options.reconstruction(3).build();
      results.add(run(built, folder.resolve("micro" + micro), false));
    }
    for (int i = 0; i < results.get(0).steps().size(); i++) {
      Step whole = results.get(0).steps().get(i);
      Step parts = results.get(1).steps().get(i);
      assertEquals(whole.loss(), parts.loss(), 1e-4 * whole.loss(), whole.toString());
      assertEquals(whole.gradientNorm(), parts.gradientNorm(), 1e-3 * whole.gradientNorm(), whole.toString());
    }
  }

  @Test
  void whatIsNotANumberEndsTrainingAndLeavesTheLastCheckpoint() throws Exception {
    DistillOptions options = TestOptions.of().build();
    TalkingTeacher teacher = teacher();
    teacher.sillyAt = 3 + 4 * 4 + 2 + 3; // in the second part of the fifth step; there is a validation after the fourth
    DistillException e = assertThrows(DistillException.class, () ->
      DistillRun.run(STUDENT, teacher, options, IDENTITY, work(), false, new Log())
    );
    assertEquals(
      "step 5 of distillation: the divergence is not finite; " + work() + " has a checkpoint of step 3 of distillation",
      e.getMessage()
    );
    assertSame(run(options, folder.resolve("whole"), false), run(options, work(), true));
  }

  @ParameterizedTest
  @ValueSource(floats = { 1e30f, 30 })
  void aRateThatIsTooHighEndsTraining(float rate) throws Exception {
    DistillOptions options = TestOptions.of().rate(rate).steps(OptionalInt.of(200)).every(1000, 1).build();
    DistillException e = assertThrows(DistillException.class, () -> run(options, work(), false));
    assertTrue(
      e
        .getMessage()
        .matches(
          "step \\d+ of distillation: .*%s.*; .* has a checkpoint.*".formatted(
            rate < 1000 ? "training diverged: for 20 steps the loss has been above" : "is not finite"
          )
        ),
      e.getMessage()
    );
    // What is left is from before.
    Checkpoint left = Checkpoint.read(work().resolve("checkpoint.json"));
    assertTrue(left.step() <= 2, left.toString());
    Map<String, float[]> state = weights(work().resolve(left.tensors()));
    state.forEach((name, values) -> {
      for (float value : values) {
        assertTrue(Float.isFinite(value), name);
      }
    });
  }

  @Test
  void aStudentThatGetsNoBetterKeepsItsWeights() throws Exception {
    Log log = new Log();
    DistillOptions options = TestOptions.of().rate(0.4f).steps(OptionalInt.of(3)).every(1, 2).build();
    DistillResult result = DistillRun.run(STUDENT, teacher(), options, IDENTITY, work(), false, log);
    assertEquals("best-start-0.safetensors", result.best().getFileName().toString());
    for (Map.Entry<String, float[]> tensor : weights(result.best()).entrySet()) {
      assertArrayEquals(
        MemoryModel.values(MemoryModel.tensor(STUDENT, tensor.getKey())),
        tensor.getValue(),
        tensor.getKey()
      );
    }
    assertTrue(log.lines.getLast().startsWith("warned: no validation was better"), log.lines.toString());
  }

  @Test
  void otherOptionsAreRefusedAndNamed() throws Exception {
    DistillOptions options = TestOptions.of().build();
    assertThrows(Killed.class, () -> run(options, work(), false, killAt("distillation", 2)));
    assertEquals(
      work() + ": the training there has rate 0.01, this one has 0.02: it cannot go on with it",
      assertThrows(DistillException.class, () -> run(TestOptions.of().rate(0.02f).build(), work(), true)).getMessage()
    );
    DistillException e = assertThrows(DistillException.class, () ->
      DistillRun.run(STUDENT, teacher(), options, "a teacher, another student, a text", work(), true, new Log())
    );
    String other =
      ": the training there is of another student, teacher or text: it was a student, this one is another student";
    assertEquals(work() + other, e.getMessage());
    FileAlreadyExistsException there = assertThrows(FileAlreadyExistsException.class, () ->
      run(options, work(), false)
    );
    assertTrue(there.getMessage().contains("holds a training that can be gone on with"), there.getMessage());
    Path diary = Files.writeString(Files.createDirectory(folder.resolve("own")).resolve("diary.txt"), "dear");
    assertThrows(FileAlreadyExistsException.class, () -> run(options, diary.getParent(), true));
    assertEquals(List.of("diary.txt"), names(diary.getParent()));
    // How it is computed, how long it may take and how often it is kept may change.
    assertEquals(8, run(TestOptions.of().micro(4).maxTime(1000).every(4, 1).build(), work(), true).steps().size());
  }

  @Test
  void twoRunsDoNotShareAFolder() throws Exception {
    DistillOptions options = TestOptions.of().steps(OptionalInt.of(1)).build();
    DistillResult result = run(options, work(), false, _ -> {
      DistillException e = assertThrows(DistillException.class, () -> run(options, work(), true));
      assertEquals(work() + ": another run trains here", e.getMessage());
    });
    assertEquals(1, result.steps().size());
  }

  @Test
  void whatDoesNotFitTogetherIsRefused() {
    TalkingTeacher wide = new TalkingTeacher(13, 24);
    DistillException e = assertThrows(DistillException.class, () ->
      DistillRun.run(STUDENT, wide, TestOptions.of().reconstruction(2).build(), "", work(), false, new Log())
    );
    assertEquals("test-model: numbers of a token, to reconstruct blocks: found 32, expected 24", e.getMessage());
    TalkingTeacher larger = new TalkingTeacher(13, 32) {
      @Override
      public int vocabulary() {
        return 65;
      }
    };
    e = assertThrows(DistillException.class, () ->
      DistillRun.run(STUDENT, larger, TestOptions.of().build(), "", work(), false, new Log())
    );
    assertEquals("test-model: vocabulary: found 64, expected 65", e.getMessage());
    assertFalse(Files.exists(work()));
  }

  @Test
  void damagedCheckpointsAreRefusedInOneLine() throws Exception {
    DistillOptions options = TestOptions.of().build();
    assertThrows(Killed.class, () -> run(options, work(), false, killAt("distillation", 5)));
    Path checkpoint = work().resolve("checkpoint.json");
    Path state = work().resolve("state-distillation-3.safetensors");
    Path metrics = work().resolve("metrics.jsonl");
    String json = Files.readString(checkpoint);
    assertRefused(options, checkpoint, "not JSON", json.substring(0, json.length() / 2));
    assertRefused(
      options,
      checkpoint,
      "attar.distill: found",
      json.replace("\"attar.distill\": \"1\"", "\"attar.distill\": \"2\"")
    );
    assertRefused(options, checkpoint, "phase", json.replace("\"phase\": \"distillation\"", "\"phase\": \"sleep\""));
    assertRefused(options, checkpoint, "step: found -1", json.replace("\"step\": 3", "\"step\": -1"));
    assertRefused(options, checkpoint, "step: found 1000.0", json.replace("\"step\": 3", "\"step\": 1e3"));
    assertRefused(
      options,
      checkpoint,
      "names state-distillation-9",
      json.replace("state-distillation-3", "state-distillation-9")
    );
    assertRefused(
      options,
      checkpoint,
      "expected a name like",
      json.replace("state-distillation-3", "../state-distillation-3")
    );
    assertRefused(options, checkpoint, "micro", json.replace("\"micro\": 2", "\"micro\": 0"));
    assertRefused(options, checkpoint, "best_loss: found nothing", json.replace("\"best_loss\"", "\"worst_loss\""));
    assertRefused(options, checkpoint, "has seed nothing", json.replace("\"seed\"", "\"sad\""));
    assertRefused(options, metrics, "found 9 bytes, expected", "{\"k\": 1}\n");
    String lines = Files.readString(metrics);
    assertRefused(options, metrics, "line 2", lines.replaceFirst("\"kind\":\"step\"", "\"kind\":\"stop\""));
    assertRefused(options, metrics, "line 2", lines.replaceFirst("\n\\{", "\n["));
    assertRefused(options, state, "at least 8", "");
    byte[] tensors = Files.readAllBytes(state);
    Files.copy(work().resolve("best-start-0.safetensors"), folder.resolve("others"));
    Files.write(state, Files.readAllBytes(folder.resolve("others")));
    String message = assertThrows(IOException.class, () -> run(options, work(), true)).getMessage();
    assertTrue(message.matches(".*: tensor \\S+(first|second): found nothing, expected F32 \\[.*\\]"), message);
    Files.write(state, tensors);
    assertEquals(8, run(options, work(), true).steps().size());
  }

  /** Refused with a file that is something else, which is put back. */
  private void assertRefused(DistillOptions options, Path file, String expected, String content) throws IOException {
    byte[] good = Files.readAllBytes(file);
    Files.writeString(file, content);
    String message = assertThrows(IOException.class, () -> run(options, work(), true)).getMessage();
    assertTrue(message.contains(expected) && message.lines().count() == 1, message);
    assertTrue(message.startsWith(folder.toString()), message);
    Files.write(file, good);
  }

  private static final long SECOND = 1_000_000_000L;

  /** Trains with a clock by which a teacher takes a second for each window, and nothing else takes time. */
  private DistillResult timed(DistillOptions options, boolean resume, Consumer<Step> each)
    throws IOException, InterruptedException {
    TalkingTeacher teacher = teacher();
    AtomicLong begin = new AtomicLong(77 * SECOND);
    return Trainer.run(
      STUDENT,
      teacher,
      options,
      IDENTITY,
      work(),
      resume,
      new Log(each),
      () -> begin.get() + teacher.answered * SECOND
    );
  }

  @Test
  void asManyStepsAreDoneAsThereIsTimeFor() throws Exception {
    DistillOptions options = TestOptions.of().steps(OptionalInt.empty()).maxTime(200).every(10, 15).build();
    // A step takes 4 seconds and a validation 3: 8 steps until that is seen, and 34.85 after it.
    DistillResult result = timed(options, false, _ -> {});
    assertEquals(Optional.empty(), result.ended());
    assertEquals(3 + 4 * result.steps().size() + 3 * (result.validations().size() - 1), result.seconds());
    assertTrue(result.seconds() > 185 && result.seconds() <= 200, "seconds " + result.seconds());
    int count = result.steps().size();
    assertEquals(0, result.steps().get(6).steps());
    assertEquals(count, result.steps().get(7).steps());
    assertEquals(count, result.steps().getLast().steps());
    assertEquals(0.001, result.steps().getLast().rate(), 1e-4);
    assertEquals(count, result.validations().getLast().step());
  }

  @Test
  void theNumberOfStepsIsKeptWhenTrainingGoesOn() throws Exception {
    DistillOptions options = TestOptions.of().steps(OptionalInt.empty()).maxTime(200).every(10, 1000).build();
    assertThrows(Killed.class, () -> timed(options, false, killAt("distillation", 20)));
    Checkpoint left = Checkpoint.read(work().resolve("checkpoint.json"));
    assertTrue(left.steps().isPresent());
    DistillOptions more = TestOptions.of().steps(OptionalInt.empty()).maxTime(400).every(10, 1000).build();
    DistillResult result = timed(more, true, _ -> {});
    assertEquals(left.steps().getAsInt(), result.steps().size());
  }

  @Test
  void trainingEndsWhenItsTimeIsUp() throws Exception {
    DistillOptions options = TestOptions.of().reconstruction(5).maxTime(41).build();
    DistillResult result = timed(options, false, _ -> {});
    // A probe, validations of 3 at the start and between the phases; 2 steps of 4 until a quarter has passed, then 5 and a validation.
    assertEquals("the time was up at step 5 of distillation, which was to have 8", result.ended().orElseThrow());
    assertEquals(7, result.steps().size());
    assertEquals(5, result.validations().getLast().step());
    assertTrue(result.seconds() <= 41, "seconds " + result.seconds());
    // The same time is still up; with more of it training goes on.
    assertEquals(
      result.steps().size(),
      timed(options, true, _ -> {})
        .steps()
        .size()
    );
    DistillResult more = timed(TestOptions.of().reconstruction(5).maxTime(1000).build(), true, _ -> {});
    assertEquals(10, more.steps().size());
    assertTrue(more.ended().isEmpty());
    DistillOptions little = TestOptions.of().reconstruction(5).maxTime(20).build();
    OutputFiles.delete(work());
    result = timed(little, false, _ -> {});
    assertEquals("the time was up at step 1 of distillation, which was to have 8", result.ended().orElseThrow());
    assertEquals(2, result.steps().size());
  }

  @Test
  void withoutAnyNumberTheTextIsReadOnce() throws Exception {
    DistillResult result = run(TestOptions.of().steps(OptionalInt.empty()).build(), work(), false);
    assertEquals(4, result.steps().size()); // 13 windows in batches of 4
    assertEquals(4, result.steps().getFirst().steps());
  }
}
