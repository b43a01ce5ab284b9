package dev.attar.cli;

/**
 * A size that the user gave.
 *
 * @param bytes how many bytes, at least 0
 * @param word as it was typed: {@code 1500M}
 */
record ByteSize(long bytes, String word) {}
