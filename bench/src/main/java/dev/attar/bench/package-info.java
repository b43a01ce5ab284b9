/**
 * Measures what models are worth: perplexity, KL divergence, latency, memory, the error of each tensor. Each model runs in llama.cpp
 * in a process of its own. Uses {@code formats} and {@code llama}.
 */
package dev.attar.bench;
