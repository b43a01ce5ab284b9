/** Compares the tensors of two models, without running them. */
package dev.attar.bench.tensors;
