package dev.attar.distill.teacher;

import dev.attar.distill.teacher.Question.Distribution;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;

/**
 * Where the parts of an answer lie in memory, which worker and parent share: logits, tokens, log-probabilities, states, as {@link Answer}
 * has them; each part begins at a multiple of 64 bytes.
 *
 * @param rows tokens of all windows
 * @param vocabulary numbers in a row of logits; 0 if there are none
 * @param top tokens in a row of the likeliest; 0 if there are none
 * @param states how many there are
 * @param embedding numbers in a row of a state
 */
record AnswerLayout(int rows, int vocabulary, int top, int states, int embedding) {
  private static final long ALIGNMENT = 64;

  static AnswerLayout of(Question question, int context, int vocabulary, int embedding) {
    Distribution distribution = question.distribution();
    return new AnswerLayout(
      Math.multiplyExact(question.windows().length, context),
      distribution instanceof Distribution.Logits ? vocabulary : 0,
      distribution instanceof Distribution.Top top ? top.k() : 0,
      question.states().length,
      embedding
    );
  }

  private static long aligned(long bytes) {
    return Math.ceilDiv(bytes, ALIGNMENT) * ALIGNMENT;
  }

  private long part(long perRow) {
    return 4L * rows * perRow;
  }

  private long tokensAt() {
    return aligned(part(vocabulary));
  }

  private long logProbabilitiesAt() {
    return tokensAt() + aligned(part(top));
  }

  private long statesAt(int index) {
    return logProbabilitiesAt() + aligned(top == 0 ? 0 : part(top + 1)) + index * aligned(part(embedding));
  }

  /** Bytes of the whole answer. */
  long bytes() {
    return statesAt(states);
  }

  MemorySegment logits(MemorySegment slot) {
    return slot.asSlice(0, part(vocabulary));
  }

  MemorySegment tokens(MemorySegment slot) {
    return slot.asSlice(tokensAt(), part(top));
  }

  MemorySegment logProbabilities(MemorySegment slot) {
    return slot.asSlice(logProbabilitiesAt(), top == 0 ? 0 : part(top + 1));
  }

  MemorySegment state(MemorySegment slot, int index) {
    return slot.asSlice(statesAt(index), part(embedding));
  }

  /** What lies in a slot. */
  Answer answer(MemorySegment slot) {
    List<MemorySegment> all = new ArrayList<>();
    for (int i = 0; i < states; i++) {
      all.add(state(slot, i));
    }
    return new Answer(
      vocabulary == 0 ? null : logits(slot),
      top == 0 ? null : tokens(slot).toArray(ValueLayout.JAVA_INT),
      top == 0 ? null : logProbabilities(slot),
      all
    );
  }

  /** Memory for an answer that no other process sees. */
  MemorySegment allocate(Arena arena) {
    return arena.allocate(Math.max(1, bytes()), ALIGNMENT);
  }
}
