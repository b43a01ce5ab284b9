package dev.attar.distill.teacher;

import java.lang.foreign.MemorySegment;
import java.util.List;

/**
 * What a teacher says of some windows: a row for each token, in the order of the windows. Numbers are little-endian float32, row-major.
 *
 * @param logits (n, vocabulary), null if not asked for
 * @param tokens (n, k): the likeliest tokens, likeliest first; null if not asked for. Not to be changed
 * @param logProbabilities (n, k + 1): the logarithms of their probabilities and of the rest's mass; null if not asked for
 * @param states for each state that was asked for (n, the teacher's embedding length)
 */
public record Answer(MemorySegment logits, int[] tokens, MemorySegment logProbabilities, List<MemorySegment> states) {}
