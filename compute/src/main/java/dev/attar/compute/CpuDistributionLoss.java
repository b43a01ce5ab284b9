package dev.attar.compute;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import dev.attar.compute.RowKernel.Logs;
import java.lang.foreign.MemorySegment;

/** The CPU device's losses of distributions. Shapes and tokens have been checked. Threads share rows. */
final class CpuDistributionLoss {

  /** What a smaller logarithm of the teacher's counts as, where a probability of 0 would make the reverse divergence infinite. */
  private static final float LEAST_LOG = -100;

  private static final float NONE = Float.NEGATIVE_INFINITY;

  /** Numbers of the logits in a part. */
  private static final int PART = 1 << 15;

  private final CpuDevice device;
  private final RowKernel kernel;

  CpuDistributionLoss(CpuDevice device, RowKernel kernel) {
    this.device = device;
    this.kernel = kernel;
  }

  /** Does what {@link CheckedTransformer#distributionLossChecked} says. */
  void compute(
    CpuMatrix logits,
    int[] tokens,
    CpuMatrix teacher,
    int[] labels,
    DistributionLoss loss,
    CpuMatrix losses
  ) {
    int k = tokens == null ? 0 : teacher.columns() - 1;
    try (Scratch scratch = new Scratch(2L * logits.columns() + 4L * (k + 1))) {
      device.parallel(0, logits.rows(), Math.max(1, PART / logits.columns()), (from, to) ->
        scratch.use(memory -> {
          Rows rows = new Rows(logits, tokens, teacher, labels, loss, losses, memory);
          for (int i = from; i < to; i++) {
            rows.compute(i);
          }
        })
      );
    }
  }

  /** Some rows of an operation, one at a time. */
  private final class Rows {

    private final CpuMatrix logits;
    private final MemorySegment values;
    private final int n;
    private final int[] tokens;
    private final CpuMatrix teacher;
    private final int[] labels;
    private final DistributionLoss loss;
    private final CpuMatrix losses;

    /** What the divergence's derivative by logits is multiplied with: of temperature², one temperature is that of the logits. */
    private final float factor;
    private final float hardFactor;

    /** Room for a row's gradient and for a mixture's logarithms, then for k + 1 events' logits, logarithms, gradient and mixture. */
    private final MemorySegment memory;

    Rows(
      CpuMatrix logits,
      int[] tokens,
      CpuMatrix teacher,
      int[] labels,
      DistributionLoss loss,
      CpuMatrix losses,
      MemorySegment memory
    ) {
      this.logits = logits;
      values = logits.values();
      n = logits.columns();
      this.tokens = tokens;
      this.teacher = teacher;
      this.labels = labels;
      this.loss = loss;
      this.losses = losses;
      factor = loss.scale() * loss.divergenceWeight() * loss.temperature();
      hardFactor = loss.scale() * loss.crossEntropyWeight();
      this.memory = memory;
    }

    void compute(int row) {
      long at = 4L * row * n;
      int label = labels[row];
      float byTemperature = 1 / loss.temperature();
      Logs soft = teacher == null ? null : Logs.of(kernel, values, at, n, byTemperature);
      boolean needsHard = soft == null || (label >= 0 && loss.temperature() != 1);
      Logs hard = needsHard ? Logs.of(kernel, values, at, n, 1) : soft;
      double crossEntropy = label < 0 ? 0 : -hard.of(logits.values().get(JAVA_FLOAT, at + 4L * label));
      float b = label < 0 ? 0 : hardFactor;
      double divergence = 0;
      if (teacher == null) {
        kernel.exp(b, hard, n, values, at);
      } else if (tokens == null) {
        divergence = toAll(row, soft, b, hard);
      } else {
        divergence = toTop(row, soft, b, hard);
      }
      if (label >= 0) {
        add(at, label, -hardFactor);
      }
      losses.values().setAtIndex(JAVA_FLOAT, 2L * row, (float) divergence);
      losses.values().setAtIndex(JAVA_FLOAT, 2L * row + 1, (float) crossEntropy);
    }

    private void add(long at, int i, float what) {
      values.set(JAVA_FLOAT, at + 4L * i, values.get(JAVA_FLOAT, at + 4L * i) + what);
    }

    private double toAll(int row, Logs q, float b, Logs hard) {
      Logs p = Logs.of(kernel, teacher.values(), q.at(), n, q.factor());
      double result = divergence(p, q, n, 0, 4L * n);
      finish(b, hard);
      return result;
    }

    /** Adds the cross-entropy's to the row's gradient, and replaces the logits with that. */
    private void finish(float b, Logs hard) {
      if (b != 0) {
        kernel.addExp(b, hard, n, memory, 0);
      }
      MemorySegment.copy(memory, 0, values, hard.at(), 4L * n);
    }

    /**
     * Computes a divergence over some events, and its gradient.
     *
     * @param gradientAt where in memory that goes
     * @param mixtureAt where there is room for a number of each event
     */
    private double divergence(Logs p, Logs q, int events, long gradientAt, long mixtureAt) {
      return switch (loss.divergence()) {
        case FORWARD -> {
          kernel.exp(factor, q, events, memory, gradientAt);
          kernel.addExp(-factor, p, events, memory, gradientAt);
          yield kernel.relativeEntropy(p, q, NONE, events);
        }
        case REVERSE -> {
          double entropy = kernel.relativeEntropy(q, p, LEAST_LOG, events);
          kernel.relativeEntropyGradient(q, p, LEAST_LOG, (float) entropy, factor, events, memory, gradientAt);
          yield entropy;
        }
        case JENSEN_SHANNON -> {
          float beta = loss.beta();
          kernel.logMixture(beta, p, q, events, memory, mixtureAt);
          Logs mixture = new Logs(memory, mixtureAt, 0, 1, 0);
          double entropy = kernel.relativeEntropy(q, mixture, NONE, events);
          float rest = 1 - beta;
          kernel.relativeEntropyGradient(q, mixture, NONE, (float) entropy, factor * rest, events, memory, gradientAt);
          yield beta * kernel.relativeEntropy(p, mixture, NONE, events) + rest * entropy;
        }
      };
    }

    /** A divergence over k + 1 events. */
    private double toTop(int row, Logs q, float b, Logs hard) {
      int k = teacher.columns() - 1;
      long at = q.at();
      int first = row * k;
      long eventsAt = 8L * n;
      long logAt = eventsAt + 4L * (k + 1);
      long gradientAt = logAt + 4L * (k + 1);
      long mixtureAt = gradientAt + 4L * (k + 1);
      for (int j = 0; j < k; j++) {
        long place = at + 4L * tokens[first + j];
        float value = values.get(JAVA_FLOAT, place);
        memory.set(JAVA_FLOAT, eventsAt + 4L * j, value);
        memory.set(JAVA_FLOAT, logAt + 4L * j, q.of(value));
        values.set(JAVA_FLOAT, place, NONE);
      }
      // Of the rest alone, so that its mass is right however small it is.
      Logs rest = Logs.of(kernel, values, at, n, q.factor());
      float restLog = (rest.shift() - q.shift()) * q.factor() + (rest.logSum() - q.logSum());
      memory.set(JAVA_FLOAT, logAt + 4L * k, restLog);
      Logs p = new Logs(teacher.values(), 4L * row * (k + 1), 0, 1, 0);
      double result = divergence(p, new Logs(memory, logAt, 0, 1, 0), k + 1, gradientAt, mixtureAt);
      // The rest's gradient is shared by its tokens' probabilities; those of the others are 0 there.
      kernel.exp(memory.get(JAVA_FLOAT, gradientAt + 4L * k), rest, n, memory, 0);
      finish(b, hard);
      kernel.addExp(b, new Logs(memory, eventsAt, hard.shift(), 1, hard.logSum()), k, memory, gradientAt);
      for (int j = 0; j < k; j++) {
        values.set(JAVA_FLOAT, at + 4L * tokens[first + j], memory.get(JAVA_FLOAT, gradientAt + 4L * j));
      }
      return result;
    }
  }
}
