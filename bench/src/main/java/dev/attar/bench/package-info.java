/** JMH benchmarks of the encoders, and what {@code bench/quantize-speed.sh} needs: a model of random weights and the table of ratios. */
package dev.attar.bench;
