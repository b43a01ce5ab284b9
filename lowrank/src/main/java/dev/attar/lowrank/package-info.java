/**
 * Low-rank factorization: the best product of two thin matrices in the place of a weight, or of what rounding did to it ({@link
 * dev.attar.lowrank.FactorRun}: plain SVD, or SVD in the metric of the activations), adapters made of such products and merged into
 * weights, and in {@link dev.attar.lowrank.heads} attention heads of a smaller size. Uses {@code calibration} and what is below it; what
 * it makes is a {@link dev.attar.formats.Model} that others write, or an adapter.
 */
package dev.attar.lowrank;
