/** JMH benchmarks, and what the scripts in {@code bench/} need: a model of random weights and the table of ratios. */
package dev.attar.bench.jmh;
