package dev.attar.distill.train;

import dev.attar.compute.Device;
import dev.attar.compute.DistributionLoss;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import dev.attar.compute.TeacherRows;
import dev.attar.compute.TransformerOperations;
import dev.attar.distill.DistillOptions.Loss;
import dev.attar.distill.DistillOptions.StatePair;
import dev.attar.distill.network.Network;
import dev.attar.distill.network.Network.StateGradient;
import dev.attar.distill.network.Parameter;
import dev.attar.distill.network.Shape;
import dev.attar.distill.teacher.Answer;
import dev.attar.distill.teacher.Question;
import dev.attar.distill.teacher.Question.Distribution;
import dev.attar.distill.teacher.Teacher;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.SplittableRandom;

/**
 * What a student is to become: its loss against a teacher and the text, and the gradients of that. Where hidden states of the two have
 * different widths, the student's go through a projection of their own, which is trained too and is not the student's.
 */
final class Objective implements AutoCloseable {

  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);

  /**
   * What is compared with a state of the teacher.
   *
   * @param pair which states
   * @param answer where the teacher's is in its answers
   * @param gradient room for the gradient with respect to the student's state (n, its embedding length)
   * @param projection (the teacher's embedding length, the student's); empty where the two are the same
   */
  private record Compared(StatePair pair, int answer, Matrix gradient, Optional<Parameter> projection) {}

  private final Device device;
  private final TransformerOperations operations;
  private final Loss loss;
  private final Network network;
  private final Teacher teacher;
  private final int context;
  private final Question form; // of questions
  private final Scope scope;
  private final Arena arena = Arena.ofConfined();
  private final Matrix losses;
  private final Matrix stateLosses;
  private final Matrix teacherRows; // logits or logarithms of probabilities; null if there are none
  private final Matrix teacherState; // null if no states are compared
  private final Matrix projected; // null if nothing is projected
  private final MemorySegment downloaded;
  private final List<Compared> compared = new ArrayList<>();

  /**
   * @param sequences the most windows that are computed together
   * @param teacherWidth the teacher's embedding length; any number if no states are compared
   * @param seed of projections
   * @throws dev.attar.compute.OutOfDeviceMemoryException if the device has no room for it
   */
  Objective(Device device, Loss loss, Network network, Teacher teacher, int sequences, int teacherWidth, long seed) {
    this.device = device;
    operations = device.transformer();
    this.loss = loss;
    this.network = network;
    this.teacher = teacher;
    context = teacher.context();
    form = question(loss, new int[0]);
    int rows = sequences * context;
    downloaded = arena.allocate(FLOAT, 2L * rows);
    scope = device.scope();
    try {
      losses = scope.matrix(rows, 2);
      stateLosses = scope.matrix(rows, 1);
      int columns = distributionColumns(loss, network.shape());
      teacherRows = columns == 0 ? null : scope.matrix(rows, columns);
      boolean projects = loss.comparesStates() && teacherWidth != network.shape().embedding();
      teacherState = loss.comparesStates() ? scope.matrix(rows, teacherWidth) : null;
      projected = projects ? scope.matrix(rows, teacherWidth) : null;
      if (loss.comparesStates()) {
        SplittableRandom random = new SplittableRandom(seed);
        for (StatePair pair : loss.states()) {
          Optional<Parameter> projection = projects
            ? Optional.of(project(pair, teacherWidth, random))
            : Optional.empty();
          int answer = Arrays.binarySearch(form.states(), pair.teacher());
          compared.add(new Compared(pair, answer, scope.matrix(rows, network.shape().embedding()), projection));
        }
      }
    } catch (RuntimeException e) {
      close();
      throw e;
    }
  }

  /** A projection that keeps lengths about the same: normal numbers with variance 1 / (the student's embedding length). */
  private Parameter project(StatePair pair, int teacherWidth, SplittableRandom random) {
    int width = network.shape().embedding();
    Parameter projection = new Parameter(
      "projection.%d.%d".formatted(pair.student(), pair.teacher()),
      true,
      scope.matrix(teacherWidth, width),
      scope.matrix(teacherWidth, width),
      scope.matrix(teacherWidth, width),
      scope.matrix(teacherWidth, width)
    );
    try (Arena values = Arena.ofConfined()) {
      MemorySegment numbers = values.allocate(FLOAT, (long) teacherWidth * width);
      for (long i = 0; i < (long) teacherWidth * width; i++) {
        numbers.setAtIndex(FLOAT, i, (float) (random.nextGaussian() / Math.sqrt(width)));
      }
      device.upload(numbers, projection.value());
    }
    return projection;
  }

  /** The teacher's states that a loss compares, ascending. */
  private static int[] statesOf(Loss loss) {
    return loss.comparesStates()
      ? loss.states().stream().mapToInt(StatePair::teacher).distinct().sorted().toArray()
      : new int[0];
  }

  private static Distribution distributionOf(Loss loss) {
    if (loss.divergenceWeight() == 0) {
      return new Distribution.None();
    }
    return loss.top().isPresent()
      ? new Distribution.Top(loss.top().getAsInt(), loss.temperature())
      : new Distribution.Logits();
  }

  private static int distributionColumns(Loss loss, Shape shape) {
    if (loss.divergenceWeight() == 0) {
      return 0;
    }
    return loss.top().isPresent() ? loss.top().getAsInt() + 1 : shape.vocabulary();
  }

  /** Bytes of the device's memory that it takes. */
  static long bytes(Loss loss, Shape shape, int sequences, int context, int teacherWidth) {
    long perRow = 3L + distributionColumns(loss, shape);
    long projections = 0;
    if (loss.comparesStates()) {
      boolean projects = teacherWidth != shape.embedding();
      int pairs = loss.states().size();
      perRow += (projects ? 2L : 1L) * teacherWidth + (long) pairs * shape.embedding();
      projections = projects ? 4L * pairs * teacherWidth * shape.embedding() : 0;
    }
    return Float.BYTES * (perRow * sequences * context + projections);
  }

  /** What is trained beside the student. */
  List<Parameter> projections() {
    return compared
      .stream()
      .flatMap(state -> state.projection().stream())
      .toList();
  }

  /** What the teacher is asked of some windows. */
  Question question(int[] windows) {
    return new Question(windows, form.distribution(), form.states());
  }

  /** What a teacher is asked of some windows for a loss. */
  static Question question(Loss loss, int[] windows) {
    return new Question(windows, distributionOf(loss), statesOf(loss));
  }

  /** Adds the losses of some windows. */
  void evaluate(int[] windows, Answer answer, LossSums sums) throws IOException {
    compute(windows, answer, windows.length, sums, false);
  }

  /**
   * Adds the losses of some windows, and their gradients to those of the weights.
   *
   * @param batch windows over which the loss is a mean
   */
  void learn(int[] windows, Answer answer, int batch, LossSums sums) throws IOException {
    compute(windows, answer, batch, sums, true);
  }

  private void compute(int[] windows, Answer answer, int batch, LossSums sums, boolean backward) throws IOException {
    int rows = windows.length * context;
    long tokens = (long) batch * context;
    int[] read = new int[rows];
    int[] labels = new int[rows];
    for (int i = 0; i < windows.length; i++) {
      int[] window = teacher.tokens(windows[i]);
      int at = i * context;
      System.arraycopy(window, 0, read, at, context);
      System.arraycopy(window, 1, labels, at, context - 1);
      labels[at + context - 1] = -1;
    }
    sums.addWindows(windows.length);
    Matrix logits = network.forward(read);
    List<StateGradient> gradients = new ArrayList<>();
    for (Compared state : compared) {
      gradients.add(compare(state, answer, rows, tokens, sums, backward));
    }
    judge(logits, answer, labels, tokens, sums);
    if (backward) {
      network.backward(logits, gradients);
    }
  }

  /** Replaces logits by their gradient. */
  private void judge(Matrix logits, Answer answer, int[] labels, long tokens, LossSums sums) {
    int rows = labels.length;
    TeacherRows said = null;
    if (teacherRows != null) {
      Matrix matrix = teacherRows.rows(0, rows);
      boolean top = form.distribution() instanceof Distribution.Top;
      device.upload(top ? answer.logProbabilities() : answer.logits(), matrix);
      said = top ? new TeacherRows.Top(answer.tokens(), matrix) : new TeacherRows.Logits(matrix);
    }
    // The operation has one factor for both losses, but fewer tokens have a next one than have a teacher.
    DistributionLoss means = new DistributionLoss(
      loss.divergence(),
      loss.beta(),
      loss.temperature(),
      loss.divergenceWeight(),
      (loss.crossEntropyWeight() * context) / (context - 1),
      (float) (1.0 / tokens)
    );
    operations.distributionLoss(logits, said, labels, means, losses.rows(0, rows));
    device.download(losses.rows(0, rows), downloaded);
    for (int i = 0; i < rows; i++) {
      sums.addRow(downloaded.getAtIndex(FLOAT, 2L * i), downloaded.getAtIndex(FLOAT, 2L * i + 1));
    }
  }

  /** The gradient of one comparison with respect to the student's state. */
  private StateGradient compare(Compared state, Answer answer, int rows, long tokens, LossSums sums, boolean backward) {
    Matrix wanted = teacherState.rows(0, rows);
    device.upload(answer.states().get(state.answer()), wanted);
    Matrix found = network.state(state.pair().student());
    Matrix gradient = state.gradient().rows(0, rows);
    Matrix judged = state.projection().isPresent() ? projected.rows(0, rows) : gradient;
    if (state.projection().isPresent()) {
      device.gemm(1, found, false, state.projection().get().value(), true, 0, judged);
    } else {
      operations.scale(0, judged);
      device.add(1, found, judged);
    }
    float scale = (float) (loss.statesWeight() / (loss.states().size() * (double) tokens));
    operations.stateLoss(judged, wanted, loss.cosine(), scale, stateLosses.rows(0, rows));
    device.download(stateLosses.rows(0, rows), downloaded);
    for (int i = 0; i < rows; i++) {
      sums.addStates(downloaded.getAtIndex(FLOAT, i));
    }
    if (backward && state.projection().isPresent()) {
      Parameter projection = state.projection().get();
      device.gemm(1, judged, true, found, false, 1, projection.gradient());
      device.gemm(1, judged, false, projection.value(), false, 0, gradient);
    }
    return new StateGradient(state.pair().student(), gradient);
  }

  @Override
  public void close() {
    scope.close();
    arena.close();
  }
}
