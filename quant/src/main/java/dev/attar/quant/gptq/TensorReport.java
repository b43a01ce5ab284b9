package dev.attar.quant.gptq;

import dev.attar.formats.TensorType;

/**
 * What GPTQ did to a tensor.
 *
 * @param name the tensor
 * @param type what it was quantized to
 * @param damping what was added to the diagonal of its Gram matrix, as a part of its mean; the largest of its experts'
 * @param errorRatio the error of its layer's outputs over that which importance-weighted rounding would have left; below 1 is better
 */
public record TensorReport(String name, TensorType type, double damping, double errorRatio) {}
