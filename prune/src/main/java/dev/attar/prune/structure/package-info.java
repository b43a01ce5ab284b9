/**
 * Structured pruning: {@link dev.attar.prune.structure.Anatomy} says what a model has that can be removed, a
 * {@link dev.attar.prune.structure.Cut} what is left, and {@link dev.attar.prune.structure.CutModel} presents what is left as a model.
 */
package dev.attar.prune.structure;
