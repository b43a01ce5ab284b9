package dev.attar.bench;

/**
 * A value with its uncertainty.
 *
 * @param value the estimate
 * @param error its standard error, in the same unit; 0 if it is not known
 */
public record Estimate(double value, double error) {}
