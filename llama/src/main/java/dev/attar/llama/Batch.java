package dev.attar.llama;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import java.lang.foreign.Arena;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemoryLayout.PathElement;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.StructLayout;

/**
 * Tokens to decode together, with their places. Belongs to no model or context and can be used again and again; one thread at a
 * time.
 */
public final class Batch implements AutoCloseable {

  /** {@code struct llama_batch}. */
  static final StructLayout LAYOUT = MemoryLayout.structLayout(
    JAVA_INT.withName("n_tokens"),
    MemoryLayout.paddingLayout(4),
    ADDRESS.withName("token"),
    ADDRESS.withName("embd"),
    ADDRESS.withName("pos"),
    ADDRESS.withName("n_seq_id"),
    ADDRESS.withName("seq_id"),
    ADDRESS.withName("logits")
  );

  private final Arena arena = Arena.ofShared();
  private final int capacity;
  private final MemorySegment struct;
  private final MemorySegment tokens;
  private final MemorySegment positions;
  private final MemorySegment sequences;
  private final MemorySegment outputFlags;
  private int size;
  private int outputs;
  private int largestToken;
  private int largestPosition;
  private int largestSequence;

  /**
   * An empty batch.
   *
   * @param capacity number of tokens that it can hold, at least 1
   */
  public Batch(int capacity) {
    if (capacity < 1) {
      throw new IllegalArgumentException("a batch for " + capacity + " tokens, expected at least 1");
    }
    this.capacity = capacity;
    struct = arena.allocate(LAYOUT);
    tokens = arena.allocate(JAVA_INT, capacity);
    positions = arena.allocate(JAVA_INT, capacity);
    sequences = arena.allocate(JAVA_INT, capacity);
    outputFlags = arena.allocate(JAVA_BYTE, capacity);
    MemorySegment sequenceCounts = arena.allocate(JAVA_INT, capacity);
    MemorySegment sequenceLists = arena.allocate(ADDRESS, capacity);
    for (int i = 0; i < capacity; i++) {
      // Each token is in a list of sequences of its own, which has one element.
      sequenceCounts.setAtIndex(JAVA_INT, i, 1);
      sequenceLists.setAtIndex(ADDRESS, i, sequences.asSlice(4L * i, 4));
    }
    pointer("token", tokens);
    pointer("pos", positions);
    pointer("n_seq_id", sequenceCounts);
    pointer("seq_id", sequenceLists);
    pointer("logits", outputFlags);
  }

  private void pointer(String field, MemorySegment to) {
    struct.set(ADDRESS, LAYOUT.byteOffset(PathElement.groupElement(field)), to);
  }

  /** Takes all tokens out. */
  public void clear() {
    size = 0;
    outputs = 0;
    largestToken = 0;
    largestPosition = 0;
    largestSequence = 0;
  }

  /**
   * Appends a token.
   *
   * @param token its number
   * @param position its place in its sequence, from 0
   * @param sequence the sequence's number, from 0
   * @param output whether the logits of what follows the token are wanted
   * @throws IllegalStateException if the batch is full or closed
   * @throws IllegalArgumentException if a number is negative
   */
  public void add(int token, int position, int sequence, boolean output) {
    if (size == capacity) {
      throw new IllegalStateException("the batch is full: it has room for " + capacity + " tokens");
    }
    if (token < 0 || position < 0 || sequence < 0) {
      throw new IllegalArgumentException(
        "token " + token + " at position " + position + " of sequence " + sequence + ", expected nothing negative"
      );
    }
    tokens.setAtIndex(JAVA_INT, size, token);
    positions.setAtIndex(JAVA_INT, size, position);
    sequences.setAtIndex(JAVA_INT, size, sequence);
    outputFlags.setAtIndex(JAVA_BYTE, size, (byte) (output ? 1 : 0));
    size++;
    outputs += output ? 1 : 0;
    largestToken = Math.max(largestToken, token);
    largestPosition = Math.max(largestPosition, position);
    largestSequence = Math.max(largestSequence, sequence);
  }

  /** Number of tokens. */
  public int size() {
    return size;
  }

  /** Number of tokens whose logits are wanted. */
  public int outputs() {
    return outputs;
  }

  int largestToken() {
    return largestToken;
  }

  int largestPosition() {
    return largestPosition;
  }

  int largestSequence() {
    return largestSequence;
  }

  /** The {@code llama_batch}, to be passed by value. */
  MemorySegment struct() {
    struct.set(JAVA_INT, 0, size);
    return struct;
  }

  /** Frees the memory. Further calls do nothing. */
  @Override
  public void close() {
    if (arena.scope().isAlive()) {
      arena.close();
    }
  }
}
