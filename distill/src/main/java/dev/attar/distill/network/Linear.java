package dev.attar.distill.network;

import dev.attar.compute.Device;
import dev.attar.compute.Matrix;

/**
 * A linear layer: {@code y = x W' + b}.
 *
 * @param weight W (outputs, inputs)
 * @param bias b (1, outputs); null if there is none
 */
record Linear(Parameter weight, Parameter bias) {
  /**
   * Computes.
   *
   * @param x (n, inputs)
   * @param y gets (n, outputs)
   */
  void forward(Device device, Matrix x, Matrix y) {
    device.gemm(1, x, false, weight.value(), true, 0, y);
    if (bias != null) {
      device.transformer().addBias(bias.value(), y);
    }
  }

  /**
   * Adds to the gradients of the weights, and computes that of what went in.
   *
   * @param x what went in (n, inputs)
   * @param y the gradient of what came out (n, outputs)
   * @param add whether to add to xGradient (n, inputs) instead of overwriting it
   */
  void backward(Device device, Matrix x, Matrix y, boolean add, Matrix xGradient) {
    device.gemm(1, y, true, x, false, 1, weight.gradient());
    if (bias != null) {
      device.transformer().addBiasGradient(y, bias.gradient());
    }
    device.gemm(1, y, false, weight.value(), false, add ? 1 : 0, xGradient);
  }
}
