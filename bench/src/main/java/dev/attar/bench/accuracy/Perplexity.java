package dev.attar.bench.accuracy;

/**
 * Perplexity of a model on a text, as llama-perplexity defines it: e to the mean negative log-likelihood of the tokens in the second
 * half of each window.
 *
 * @param value the perplexity
 * @param error its standard error
 * @param tokens number of tokens that were scored
 * @param windows number of windows of the text
 * @param context tokens per window
 */
public record Perplexity(double value, double error, long tokens, int windows, int context) {}
