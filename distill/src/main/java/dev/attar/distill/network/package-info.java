/**
 * The computation that is trained: a decoder of Llama's kind, forward and backward, as operations of a {@link dev.attar.compute.Device}.
 * Knows nothing of teachers or losses.
 */
package dev.attar.distill.network;
