/**
 * Pruning: which weights of a matrix are removed ({@link dev.attar.prune.WeightPruner}: magnitude, Wanda, SparseGPT, N:M), and in
 * {@link dev.attar.prune.structure} whole neurons, heads and layers. Uses {@code calibration} and what is below it; what it makes is a
 * {@link dev.attar.formats.Model}, or a part of one, that others write.
 */
package dev.attar.prune;
