package dev.attar.distill.train;

import dev.attar.compute.Device;
import dev.attar.compute.Matrix;
import dev.attar.distill.DistillException;
import dev.attar.distill.DistillListener;
import dev.attar.distill.DistillListener.Step;
import dev.attar.distill.DistillListener.Validation;
import dev.attar.distill.DistillOptions;
import dev.attar.distill.DistillOptions.Loss;
import dev.attar.distill.DistillOptions.Reconstruction;
import dev.attar.distill.DistillOptions.Schedule;
import dev.attar.distill.DistillResult;
import dev.attar.distill.network.Network;
import dev.attar.distill.network.Parameter;
import dev.attar.distill.teacher.Answer;
import dev.attar.distill.teacher.Question;
import dev.attar.distill.teacher.Teacher;
import java.io.IOException;
import java.nio.file.Files;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.OptionalInt;
import java.util.stream.IntStream;

/** A training under way: from its beginning or a checkpoint through its phases, until it is done or its time is up. */
final class Session {

  /** What the validation of a student that has not been trained is called. */
  private static final String START = "start";

  private final Device device;
  private final Network network;
  private final Objective objective;
  private final Teacher teacher;
  private final DistillOptions options;
  private final Map<String, String> settings;
  private final Partition partition;
  private final WorkFiles files;
  private final Metrics metrics;
  private final DistillListener listener;
  private final TimeBudget time;
  private final Pace pace;
  private final TeacherFeed feed;
  private final WindowOrder order;
  private final Optimizer optimizer; // of all that distillation trains
  private final List<Parameter> parameters = new ArrayList<>();

  private Phase phase;
  private int step; // of the phase, done
  private OptionalInt steps; // of distillation
  private String best = "";
  private double bestLoss = Double.POSITIVE_INFINITY;
  private Optional<String> ended = Optional.empty();
  private Health health = new Health(0); // of the phase

  Session(
    Device device,
    Network network,
    Objective objective,
    Teacher teacher,
    DistillOptions options,
    Map<String, String> settings,
    Partition partition,
    WorkFiles files,
    Metrics metrics,
    DistillListener listener,
    TimeBudget time
  ) {
    this.device = device;
    this.network = network;
    this.objective = objective;
    this.teacher = teacher;
    this.options = options;
    this.settings = settings;
    this.partition = partition;
    this.files = files;
    this.metrics = metrics;
    this.listener = listener;
    Schedule schedule = options.schedule();
    this.time = time;
    pace = new Pace(options.validationEvery(), options.checkpointEvery());
    feed = new TeacherFeed(teacher, device.hasOwnMemory());
    order = new WindowOrder(teacher.training(), options.seed());
    parameters.addAll(network.parameters());
    parameters.addAll(objective.projections());
    optimizer = new Optimizer(device, parameters, schedule);
    phase = options.reconstruction().isPresent() ? Phase.RECONSTRUCTION : Phase.DISTILLATION;
    steps = schedule.steps().isPresent() || schedule.maxTime().isPresent()
      ? schedule.steps()
      : OptionalInt.of(Math.ceilDiv(teacher.training(), options.batch()));
  }

  DistillResult run() throws IOException, InterruptedException {
    try {
      return trained();
    } catch (DistillException e) {
      throw e; // what is in memory is not worth keeping
    } catch (IOException e) {
      if (!Thread.interrupted()) {
        throw e;
      }
      // The thread was interrupted in something that cannot say so otherwise, as most often in waiting for the teacher.
      InterruptedException interrupted = (InterruptedException) new InterruptedException().initCause(e);
      try {
        keep();
      } catch (IOException late) {
        interrupted.addSuppressed(late);
      }
      throw interrupted;
    }
  }

  private DistillResult trained() throws IOException, InterruptedException {
    if (files.last().isPresent()) {
      restore(files.last().get());
    } else {
      validate(START);
      commit();
    }
    if (phase == Phase.RECONSTRUCTION) {
      reconstruct();
    }
    if (ended.isEmpty()) {
      distill();
    }
    feed.drain();
    if (best.equals(bestName(START))) {
      listener.warn("no validation was better than that of the student before training: its weights are kept");
    }
    return result();
  }

  private void restore(Checkpoint last) throws IOException {
    TensorFile.read(files.resolve(last.tensors()), device, state());
    phase = last.phase();
    step = last.step();
    steps = last.steps();
    best = last.best();
    bestLoss = last.bestLoss();
    pace.addValidation(last.validationSeconds());
  }

  private void reconstruct() throws IOException, InterruptedException {
    Reconstruction plan = options.reconstruction().orElseThrow();
    Schedule schedule = options.schedule();
    int warmup = Math.min(schedule.warmup(), plan.steps() / 10);
    try (
      BlockFit fit = new BlockFit(
        device,
        network,
        plan.ends(),
        partition.micro(),
        options.context(),
        options.threads(),
        schedule
      )
    ) {
      train(fit, new LearningRate(plan.rate(), warmup, schedule.leastRate()), OptionalInt.of(plan.steps()), 1);
    }
    validateOnce();
    if (ended.isEmpty()) {
      optimizer.clearMoments();
      phase = Phase.DISTILLATION;
      step = 0;
      commit();
    } else if (!health.isHigh()) {
      commit();
    }
  }

  private void distill() throws IOException, InterruptedException {
    Schedule schedule = options.schedule();
    LearningRate rate = new LearningRate(schedule.rate(), schedule.warmup(), schedule.leastRate());
    Loss loss = options.loss();
    double slack =
      loss.divergenceWeight() * loss.temperature() * loss.temperature() +
      loss.crossEntropyWeight() +
      loss.statesWeight();
    train(new EndToEnd(objective, optimizer, loss), rate, steps, slack);
    validateOnce();
    if (!health.isHigh()) {
      commit();
    }
  }

  /** Validates, unless that was done here. */
  private void validateOnce() throws IOException, InterruptedException {
    Validation last = metrics.validations().getLast();
    if (!last.phase().equals(phase.toString()) || last.step() != step) {
      validate(phase.toString());
    }
  }

  /**
   * Does the steps of a phase that are left.
   *
   * @param known how many the phase has; empty if that is to be found out
   * @param slack how much the loss may rise
   */
  private void train(Learner learner, LearningRate rate, OptionalInt known, double slack)
    throws IOException, InterruptedException {
    OptionalInt count = known;
    pace.begin(stepSecondsBefore());
    health = new Health(slack);
    metrics
      .steps()
      .stream()
      .filter(done -> done.phase().equals(phase.toString()))
      .forEach(done -> health.see(done.loss()));
    if (step > 0 && isValidationDue(step)) {
      validateOnce(); // the run before may have been interrupted in it
    }
    while (count.isEmpty() || step < count.getAsInt()) {
      stopIfInterrupted();
      if (pace.end() + pace.step() > time.left()) {
        ended = Optional.of("the time was up at " + place(step) + count(count));
        return;
      }
      if (phase == Phase.RECONSTRUCTION && time.isReconstructionUp()) {
        listener.warn(
          "block reconstruction ended after " +
            step +
            " of its " +
            count.getAsInt() +
            " steps: a quarter of the time was up"
        );
        return;
      }
      double begin = time.now();
      Learner.Losses losses = learn(learner, count);
      double norm = learner.gradientNorm();
      if (!Double.isFinite(norm)) {
        throw failure(
          place(step + 1) +
            ": the gradient of " +
            learner.notFinite() +
            " is not finite: is the learning rate too high?"
        );
      }
      double stepRate = rate.at(step + 1, count);
      learner.update(stepRate, step + 1);
      step++;
      pace.addStep(time.now() - begin);
      boolean settled = count.isEmpty() && settle();
      count = phase == Phase.DISTILLATION ? steps : count;
      record(losses, norm, stepRate, count);
      health.see(losses.loss());
      if (health.hasDiverged()) {
        throw failure(
          "%s: training diverged: for %d steps the loss has been above %.3f, it is %.3f: is the learning rate too high?".formatted(
            place(step),
            Health.PATIENCE,
            health.most(),
            losses.loss()
          )
        );
      }
      if (isValidationDue(step)) {
        validate(phase.toString());
      }
      // What follows at the end of a phase writes a checkpoint of its own.
      boolean last = count.isPresent() && step == count.getAsInt();
      if ((settled || step % options.checkpointEvery() == 0) && !last && !health.isHigh()) {
        commit();
      }
    }
  }

  private String place(int number) {
    return "step " + number + " of " + phase;
  }

  private static String count(OptionalInt count) {
    return count.isPresent() ? ", which was to have " + count.getAsInt() : "";
  }

  private boolean isValidationDue(int number) {
    return phase == Phase.DISTILLATION && number % options.validationEvery() == 0;
  }

  /** Adds up the gradients of a step. */
  private Learner.Losses learn(Learner learner, OptionalInt count) throws IOException, InterruptedException {
    LossSums sums = new LossSums(options.context());
    List<int[]> parts = parts(step);
    for (int i = 0; i < parts.size(); i++) {
      stopIfInterrupted();
      Optional<Question> then = Optional.empty();
      if (i + 1 < parts.size()) {
        then = Optional.of(learner.question(parts.get(i + 1)));
      } else if ((count.isEmpty() || step + 1 < count.getAsInt()) && !isValidationDue(step + 1)) {
        then = Optional.of(learner.question(parts(step + 1).getFirst()));
      }
      Answer answer = feed.answer(learner.question(parts.get(i)), then);
      learner.learn(parts.get(i), answer, options.batch(), sums);
    }
    Learner.Losses losses = learner.losses(sums);
    if (!Double.isFinite(losses.loss())) {
      throw failure(place(step + 1) + ": the " + sums.notFinite() + " is not finite");
    }
    return losses;
  }

  /** The windows of a step, in the parts in which they are computed. Distillation goes on in the order where reconstruction ends. */
  private List<int[]> parts(int number) {
    long before = phase == Phase.RECONSTRUCTION ? 0 : options.reconstruction().map(Reconstruction::steps).orElse(0);
    return cut(order.batch((before + number) * options.batch(), options.batch()));
  }

  private List<int[]> cut(int[] windows) {
    int micro = partition.micro();
    return IntStream.range(0, Math.ceilDiv(windows.length, micro))
      .mapToObj(i -> Arrays.copyOfRange(windows, i * micro, Math.min(windows.length, (i + 1) * micro)))
      .toList();
  }

  /** Settles the number of steps that there is time for, once enough has been seen. */
  private boolean settle() {
    if (!time.canEstimate(pace.steps(), pace.sum())) {
      return false;
    }
    steps = OptionalInt.of(step + time.estimate(pace.end(), pace.settledStep()));
    return true;
  }

  /** What a step took in the run before. */
  private double stepSecondsBefore() {
    double speed = metrics.steps().isEmpty() ? 0 : metrics.steps().getLast().tokensPerSecond();
    return speed > 0 ? tokensPerStep() / speed : 0;
  }

  private double tokensPerStep() {
    return (double) options.batch() * options.context();
  }

  private void record(Learner.Losses losses, double norm, double rate, OptionalInt count) throws IOException {
    double mean = pace.step();
    Step done = new Step(
      phase.toString(),
      step,
      count.orElse(0),
      losses.loss(),
      losses.divergence(),
      losses.crossEntropy(),
      losses.states(),
      norm,
      rate,
      mean > 0 ? tokensPerStep() / mean : 0,
      count.isPresent() ? Optional.of(left(count.getAsInt() - step)) : Optional.empty()
    );
    metrics.add(done, time.seconds());
    listener.step(done);
  }

  private Duration left(int more) {
    double seconds = Math.min(pace.of(more, phase == Phase.DISTILLATION), time.left());
    return Duration.ofMillis(Math.round(1000 * Math.max(0, seconds)));
  }

  /** Measures the student on all windows that are held out, and keeps its weights if they are the best. */
  private void validate(String name) throws IOException, InterruptedException {
    double begin = time.now();
    LossSums sums = new LossSums(options.context());
    int count = teacher.validation();
    List<int[]> parts = cut(
      IntStream.range(0, count)
        .map(i -> teacher.training() + i)
        .toArray()
    );
    int done = 0;
    for (int i = 0; i < parts.size(); i++) {
      listener.at("validation", done, count, "windows");
      stopIfInterrupted();
      Optional<Question> then = i + 1 < parts.size()
        ? Optional.of(objective.question(parts.get(i + 1)))
        : Optional.empty();
      objective.evaluate(parts.get(i), feed.answer(objective.question(parts.get(i)), then), sums);
      done += parts.get(i).length;
    }
    listener.at("validation", done, count, "windows");
    Learner.Losses losses = Learner.Losses.of(sums, options.loss());
    if (!Double.isFinite(losses.loss())) {
      throw failure(place(step) + ": the " + sums.notFinite() + " in validation is not finite");
    }
    boolean better = losses.loss() < bestLoss;
    if (better) {
      Map<String, Matrix> weights = new LinkedHashMap<>();
      network.parameters().forEach(parameter -> weights.put(parameter.name(), parameter.value()));
      TensorFile.write(files.resolve(bestName(name)), device, weights);
      best = bestName(name);
      bestLoss = losses.loss();
    }
    Validation validation = new Validation(
      name,
      step,
      losses.loss(),
      losses.divergence(),
      losses.crossEntropy(),
      better
    );
    pace.addValidation(time.now() - begin);
    metrics.add(validation, time.seconds());
    listener.validated(validation);
  }

  private String bestName(String name) {
    return Checkpoint.fileName("best", name, name.equals(START) ? 0 : step);
  }

  /** All that is trained, with its moments: what a checkpoint has to keep. Gradients are zeros between steps. */
  private Map<String, Matrix> state() {
    Map<String, Matrix> state = new LinkedHashMap<>();
    for (Parameter parameter : parameters) {
      state.put(parameter.name(), parameter.value());
      state.put(parameter.name() + ".first", parameter.first());
      state.put(parameter.name() + ".second", parameter.second());
    }
    return state;
  }

  /** Writes a checkpoint. */
  private void commit() throws IOException {
    double begin = time.now();
    requireFinite();
    String tensors = Checkpoint.fileName("state", phase.toString(), step);
    boolean there = files
      .last()
      .filter(last -> last.tensors().equals(tensors))
      .isPresent();
    if (!there || !Files.exists(files.resolve(tensors))) {
      TensorFile.write(files.resolve(tensors), device, state());
    }
    metrics.force();
    files.commit(
      new Checkpoint(
        settings,
        phase,
        step,
        steps,
        time.seconds(),
        partition.micro(),
        partition.recompute(),
        metrics.bytes(),
        tensors,
        best,
        bestLoss,
        pace.validation()
      )
    );
    pace.addCheckpoint(time.now() - begin);
  }

  /** A last step may have gone wrong without a loss that tells. */
  private void requireFinite() throws DistillException {
    for (Map.Entry<String, Matrix> entry : state().entrySet()) {
      if (!Double.isFinite(device.transformer().squares(entry.getValue()))) {
        throw failure(place(step) + ": " + entry.getKey() + " is not finite");
      }
    }
  }

  /** Ends the run if its thread is interrupted, with a checkpoint of the steps that are done. */
  private void stopIfInterrupted() throws IOException, InterruptedException {
    // A channel that is written to by an interrupted thread would be closed.
    if (Thread.interrupted()) {
      keep();
      throw new InterruptedException();
    }
  }

  /** Writes a checkpoint of the steps that are done, unless there is one or it would be none to go on with. */
  private void keep() throws IOException {
    boolean kept = files
      .last()
      .filter(last -> last.phase() == phase && last.step() == step)
      .isPresent();
    if (files.last().isPresent() && !kept && !health.isHigh()) {
      commit();
    }
  }

  private DistillException failure(String problem) {
    String left = files
      .last()
      .map(last -> "; " + files.path() + " has a checkpoint of " + last.place())
      .orElse("; there is no checkpoint");
    return new DistillException(problem + left);
  }

  private DistillResult result() throws IOException {
    long trained = metrics
      .steps()
      .stream()
      .filter(done -> done.phase().equals(Phase.DISTILLATION.toString()))
      .count();
    return new DistillResult(
      files.resolve(best),
      metrics.steps(),
      metrics.validations(),
      trained * options.batch() * options.context(),
      time.seconds(),
      ended
    );
  }
}
