package dev.attar.distill.train;

import dev.attar.compute.Device;
import dev.attar.compute.DeviceException;
import dev.attar.compute.Devices;
import dev.attar.distill.DistillException;
import dev.attar.distill.DistillListener;
import dev.attar.distill.DistillOptions;
import dev.attar.distill.DistillOptions.Loss;
import dev.attar.distill.DistillOptions.StatePair;
import dev.attar.distill.DistillResult;
import dev.attar.distill.DistillRun.Need;
import dev.attar.distill.network.Network;
import dev.attar.distill.network.Shape;
import dev.attar.distill.teacher.Answer;
import dev.attar.distill.teacher.Teacher;
import dev.attar.formats.Model;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Map;
import java.util.Optional;
import java.util.function.LongSupplier;

/** Prepares a training: checks what belongs together, finds memory for it, and a checkpoint to go on with. */
public final class Trainer {

  private final Model student;
  private final Shape shape;
  private final Teacher teacher;
  private final DistillOptions options;
  private final Device device;
  private final DistillListener listener;
  private final LongSupplier nanos;
  private final long begin;

  private Trainer(
    Model student,
    Teacher teacher,
    DistillOptions options,
    Device device,
    DistillListener listener,
    LongSupplier nanos
  ) throws IOException {
    this.student = student;
    shape = Shape.of(student);
    this.teacher = teacher;
    this.options = options;
    this.device = device;
    this.listener = listener;
    this.nanos = nanos;
    begin = nanos.getAsLong();
  }

  /** Checks that no run trains in a folder; see {@code DistillRun}. */
  public static void requireFree(Path work) throws IOException {
    WorkFiles.requireFree(work);
  }

  /**
   * Trains, as {@link dev.attar.distill.DistillRun#run} says.
   *
   * @param nanos a clock
   */
  public static DistillResult run(
    Model student,
    Teacher teacher,
    DistillOptions options,
    String identity,
    Path work,
    boolean resume,
    DistillListener listener,
    LongSupplier nanos
  ) throws IOException, InterruptedException {
    try (Devices.Opened opened = Devices.open(options.device(), options.threads())) {
      listener.device(opened.line());
      Trainer trainer = new Trainer(student, teacher, options, opened.device(), listener, nanos);
      trainer.check();
      try (WorkFiles files = WorkFiles.open(work, Settings.of(options, identity), resume)) {
        return trainer.train(files, Settings.of(options, identity));
      }
    } catch (DeviceException e) {
      throw new DistillException(e.getMessage(), e);
    } catch (IOException e) {
      // An interrupted thread gets the exception from whatever it was doing.
      if (Thread.interrupted()) {
        throw (InterruptedException) new InterruptedException().initCause(e);
      }
      throw e;
    }
  }

  /** What can be said before any time is spent. */
  private void check() throws DistillException {
    Loss loss = options.loss();
    require(teacher.context() == options.context(), "windows of tokens", teacher.context(), options.context());
    require(teacher.vocabulary() == shape.vocabulary(), "vocabulary", shape.vocabulary(), teacher.vocabulary());
    if (loss.top().isPresent() && loss.top().getAsInt() >= shape.vocabulary()) {
      throw failure("top", loss.top().getAsInt(), "less than the vocabulary's " + shape.vocabulary());
    }
    for (StatePair pair : loss.states()) {
      if (pair.student() >= shape.blocks()) {
        throw failure("state of block", pair.student(), "-1 to " + (shape.blocks() - 1));
      }
    }
    if (options.reconstruction().isPresent()) {
      int ends = options.reconstruction().get().ends().size();
      require(ends == shape.blocks(), "blocks to reconstruct", ends, shape.blocks());
    }
  }

  private void require(boolean good, String what, int found, int expected) throws DistillException {
    if (!good) {
      throw failure(what, found, String.valueOf(expected));
    }
  }

  private DistillException failure(String what, int found, String expected) {
    return new DistillException(student.source() + ": " + what + ": found " + found + ", expected " + expected);
  }

  private DistillResult train(WorkFiles files, Map<String, String> settings) throws IOException, InterruptedException {
    double before = files.last().map(Checkpoint::seconds).orElse(0.0);
    TimeBudget time = new TimeBudget(nanos, begin, before, options.schedule().maxTime());
    int teacherWidth = teacherWidth();
    Optional<Partition> used = files.last().map(last -> new Partition(last.micro(), last.recompute()));
    Partition partition = Partition.choose(options, used, device, candidate ->
      bytes(options, shape, candidate, teacherWidth)
    );
    if (used.isPresent() && !used.get().equals(partition)) {
      listener.warn("the training was computed in other parts so far: it goes on the same but for rounding");
    }
    int micro = partition.micro();
    try (
      Network network = Network.load(device, student, shape, micro, options.context(), partition.recompute());
      Objective objective = new Objective(
        device,
        options.loss(),
        network,
        teacher,
        micro,
        teacherWidth,
        options.seed()
      );
      Metrics metrics = Metrics.open(
        files.resolve(WorkFiles.METRICS),
        files.last().map(Checkpoint::metricsBytes).orElse(0L)
      )
    ) {
      return new Session(
        device,
        network,
        objective,
        teacher,
        options,
        settings,
        partition,
        files,
        metrics,
        listener,
        time
      ).run();
    }
  }

  private static long bytes(DistillOptions options, Shape shape, Partition partition, int teacherWidth) {
    int micro = partition.micro();
    int context = options.context();
    long bytes =
      Network.bytes(shape, micro, context, partition.recompute()) +
      Objective.bytes(options.loss(), shape, micro, context, teacherWidth);
    return options.reconstruction().isPresent() ? bytes + BlockFit.bytes(shape, micro, context) : bytes;
  }

  /** What training takes, as {@link dev.attar.distill.DistillRun#need} says. */
  public static Need need(Model student, DistillOptions options, int teacherWidth) throws IOException {
    Shape shape = Shape.of(student);
    try (Devices.Opened opened = Devices.open(options.device(), options.threads())) {
      Partition partition = Partition.choose(options, Optional.empty(), opened.device(), candidate ->
        bytes(options, shape, candidate, teacherWidth)
      );
      return new Need(bytes(options, shape, partition, teacherWidth), partition.micro(), partition.recompute());
    } catch (DeviceException e) {
      throw new DistillException(e.getMessage(), e);
    }
  }

  /**
   * The teacher's embedding length, which its answers tell.
   *
   * @return 0 if its states are not needed
   */
  private int teacherWidth() throws IOException {
    if (options.reconstruction().isEmpty() && !options.loss().comparesStates()) {
      return 0;
    }
    // A question as they will be, so that a teacher that remembers its answers need not answer another kind.
    int[] first = { 0 };
    teacher.ask(
      options
        .reconstruction()
        .map(plan -> BlockFit.question(plan.ends(), first))
        .orElseGet(() -> Objective.question(options.loss(), first))
    );
    Answer answer = teacher.answer();
    int width = Math.toIntExact(answer.states().getFirst().byteSize() / ((long) Float.BYTES * options.context()));
    if (options.reconstruction().isPresent()) {
      require(width == shape.embedding(), "numbers of a token, to reconstruct blocks", shape.embedding(), width);
    }
    return width;
  }
}
