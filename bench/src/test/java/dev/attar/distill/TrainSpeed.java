package dev.attar.distill;

import dev.attar.compute.AdamStep;
import dev.attar.compute.Device;
import dev.attar.compute.Devices;
import dev.attar.compute.DistributionLoss;
import dev.attar.compute.DistributionLoss.Divergence;
import dev.attar.compute.Matrix;
import dev.attar.compute.Scope;
import dev.attar.compute.TransformerOperations;
import dev.attar.distill.network.Network;
import dev.attar.distill.network.Parameter;
import dev.attar.distill.network.Shape;
import dev.attar.formats.Model;
import dev.attar.formats.Models;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Locale;
import java.util.SplittableRandom;

/**
 * Times training steps of a model on random tokens, as {@code bench/train-speed.sh} prints it: forward, cross-entropy, backward, norm of
 * the gradient, AdamW.
 */
public final class TrainSpeed {

  private TrainSpeed() {}

  /** Arguments: model, threads, sequences of a step, of a micro-batch, their tokens, timed steps, whether to recompute. */
  public static void main(String[] args) throws IOException {
    int threads = Integer.parseInt(args[1]);
    int batch = Integer.parseInt(args[2]);
    int micro = Integer.parseInt(args[3]);
    int context = Integer.parseInt(args[4]);
    int steps = Integer.parseInt(args[5]);
    boolean recompute = Boolean.parseBoolean(args[6]);
    try (Model model = Models.open(Path.of(args[0])); Device device = Devices.cpu(threads)) {
      Shape shape = Shape.of(model);
      System.out.printf(
        Locale.ROOT,
        "%s: %d blocks, %.1f M weights, batch %d x %d in parts of %d%s, %s%n",
        args[0],
        shape.blocks(),
        shape.weights() / 1e6,
        batch,
        context,
        micro,
        recompute ? ", recomputing" : "",
        device.name()
      );
      try (
        Network network = Network.load(device, model, shape, micro, context, recompute);
        Scope scope = device.scope()
      ) {
        Matrix losses = scope.matrix(micro * context, 2);
        double[] speeds = new double[steps];
        for (int step = -2; step < steps; step++) {
          long start = System.nanoTime();
          step(device, network, losses, batch / micro, step + 3);
          if (step >= 0) {
            // The first ones warm up.
            speeds[step] = ((double) batch * context * 1e9) / (System.nanoTime() - start);
          }
        }
        Arrays.sort(speeds);
        System.out.printf(
          Locale.ROOT,
          "%.0f tokens/s (%.0f to %.0f, %d steps)%n",
          (speeds[(steps - 1) / 2] + speeds[steps / 2]) / 2,
          speeds[0],
          speeds[steps - 1],
          steps
        );
      }
    }
  }

  private static void step(Device device, Network network, Matrix losses, int parts, int number) {
    TransformerOperations operations = device.transformer();
    for (Parameter parameter : network.parameters()) {
      operations.scale(0, parameter.gradient());
    }
    int rows = losses.rows();
    SplittableRandom random = new SplittableRandom(number);
    for (int part = 0; part < parts; part++) {
      int[] tokens = random.ints(rows, 0, network.shape().vocabulary()).toArray();
      int[] labels = new int[rows];
      System.arraycopy(tokens, 1, labels, 0, rows - 1);
      labels[rows - 1] = -1;
      Matrix logits = network.forward(tokens);
      operations.distributionLoss(
        logits,
        null,
        labels,
        new DistributionLoss(Divergence.FORWARD, 0, 1, 0, 1, 1f / (rows * parts)),
        losses
      );
      network.backward(logits, List.of());
    }
    double squares = 0;
    for (Parameter parameter : network.parameters()) {
      squares += operations.squares(parameter.gradient());
    }
    float clip = (float) Math.min(1, 1 / Math.sqrt(squares));
    AdamStep step = new AdamStep(1e-4f, 0.9f, 0.999f, 1e-8f, 0.01f, number, clip);
    for (Parameter parameter : network.parameters()) {
      operations.adamW(parameter.value(), parameter.gradient(), parameter.first(), parameter.second(), step);
    }
  }
}
