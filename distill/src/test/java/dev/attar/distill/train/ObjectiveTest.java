package dev.attar.distill.train;

import static org.junit.jupiter.api.Assertions.assertEquals;

import dev.attar.compute.Device;
import dev.attar.compute.Devices;
import dev.attar.compute.Matrix;
import dev.attar.distill.DistillOptions;
import dev.attar.distill.network.Network;
import dev.attar.distill.network.Parameter;
import dev.attar.distill.network.Shape;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.SplittableRandom;
import org.junit.jupiter.api.Test;

/** Gradients of whole steps against finite differences of the loss. */
class ObjectiveTest {

  private static final int[][] PARTS = { { 3, 0 }, { 7 } };

  /** What is differentiated: adds gradients, returns the loss. */
  private interface Learning {
    double learn() throws IOException;
  }

  @Test
  void gradientsOfDistributionsAndText() throws IOException {
    assertGradients(TestOptions.of().build(), 32);
  }

  @Test
  void gradientsOfLikeliestTokensAndProjectedStates() throws IOException {
    assertGradients(TestOptions.of().topAndStates().build(), 24);
  }

  @Test
  void gradientsOfStatesOfTheSameWidth() throws IOException {
    assertGradients(TestOptions.of().topAndStates().build(), 32);
  }

  private static void assertGradients(DistillOptions options, int width) throws IOException {
    TalkingTeacher teacher = new TalkingTeacher(9, width);
    try (
      Device device = Devices.cpu(1);
      Network network = network(device);
      Objective objective = new Objective(device, options.loss(), network, teacher, 2, width, 1)
    ) {
      List<Parameter> parameters = new ArrayList<>(network.parameters());
      parameters.addAll(objective.projections());
      TeacherFeed feed = new TeacherFeed(teacher, false);
      check(device, parameters, () -> {
        LossSums sums = new LossSums(TalkingTeacher.CONTEXT);
        for (int[] part : PARTS) {
          objective.learn(part, feed.answer(objective.question(part), Optional.empty()), 3, sums);
        }
        return sums.total(options.loss());
      });
    }
  }

  @Test
  void gradientsOfReconstruction() throws IOException {
    TalkingTeacher teacher = new TalkingTeacher(9, TinyStudent.WIDTH);
    try (
      Device device = Devices.cpu(1);
      Network network = network(device);
      BlockFit fit = new BlockFit(
        device,
        network,
        List.of(1, 2),
        2,
        TalkingTeacher.CONTEXT,
        2,
        TestOptions.of().build().schedule()
      )
    ) {
      List<Parameter> parameters = new ArrayList<>(network.parameters(0));
      parameters.addAll(network.parameters(1));
      TeacherFeed feed = new TeacherFeed(teacher, false);
      check(device, parameters, () -> {
        LossSums sums = new LossSums(TalkingTeacher.CONTEXT);
        for (int[] part : PARTS) {
          fit.learn(part, feed.answer(fit.question(part), Optional.empty()), 3, sums);
        }
        return 2 * fit.losses(sums).loss(); // the sum over two blocks
      });
    }
  }

  private static Network network(Device device) throws IOException {
    return Network.load(device, TinyStudent.model(), Shape.of(TinyStudent.model()), 2, TalkingTeacher.CONTEXT, false);
  }

  /** Compares the derivative along a random direction of each parameter. */
  private static void check(Device device, List<Parameter> parameters, Learning learning) throws IOException {
    double _ = learning.learn();
    SplittableRandom random = new SplittableRandom(11);
    try (Arena arena = Arena.ofConfined()) {
      List<float[]> gradients = new ArrayList<>();
      for (Parameter parameter : parameters) {
        gradients.add(values(device, arena, parameter.gradient()));
      }
      for (int i = 0; i < parameters.size(); i++) {
        float[] gradient = gradients.get(i);
        float[] weights = values(device, arena, parameters.get(i).value());
        float[] there = new float[gradient.length];
        float[] back = new float[gradient.length];
        double length = 0;
        for (float value : gradient) {
          length += value * value;
        }
        // Along the gradient, so that rounding is small beside the difference, and a random direction.
        double expected = 0;
        for (int j = 0; j < gradient.length; j++) {
          double direction =
            gradient[j] / Math.sqrt(length) + (0.3 * random.nextGaussian()) / Math.sqrt(gradient.length);
          there[j] = (float) (weights[j] + STEP * direction);
          back[j] = (float) (weights[j] - STEP * direction);
          expected += gradient[j] * ((double) there[j] - back[j]);
        }
        Matrix value = parameters.get(i).value();
        device.upload(arena.allocateFrom(ValueLayout.JAVA_FLOAT, there), value);
        double difference = learning.learn();
        device.upload(arena.allocateFrom(ValueLayout.JAVA_FLOAT, back), value);
        difference -= learning.learn();
        device.upload(arena.allocateFrom(ValueLayout.JAVA_FLOAT, weights), value);
        assertEquals(expected, difference, 0.02 * Math.abs(expected) + 4e-6, parameters.get(i).name());
      }
    }
  }

  private static final double STEP = 0.01;

  private static float[] values(Device device, Arena arena, Matrix matrix) {
    MemorySegment segment = arena.allocate(4L * matrix.rows() * matrix.columns());
    device.download(matrix, segment);
    return segment.toArray(ValueLayout.JAVA_FLOAT);
  }
}
