/** What is timed, and statistics of repeated timings. */
package dev.attar.bench.latency;
