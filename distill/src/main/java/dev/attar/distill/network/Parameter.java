package dev.attar.distill.network;

import dev.attar.compute.Matrix;

/**
 * Weights that are trained, with what AdamW remembers of them; all of one shape.
 *
 * @param name GGUF's name of the tensor, or another one for what is not the student's
 * @param decays whether weight decay is for it: matrices, not norms and biases
 * @param value the weights
 * @param gradient the sum of gradients since it was last cleared
 * @param first the running mean of gradients
 * @param second the running mean of their squares
 */
public record Parameter(String name, boolean decays, Matrix value, Matrix gradient, Matrix first, Matrix second) {}
