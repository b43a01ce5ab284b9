/**
 * Statistics of a model's activations: text becomes windows of tokens, llama.cpp runs the model on them in a process of its own, and
 * what enters each linear layer is gathered as mean squares ({@code importance}) and Gram matrices; so is how far a model in which
 * weights were replaced is from what it was. Uses {@code llama}, {@code compute} and {@code formats}.
 */
package dev.attar.calibration;
