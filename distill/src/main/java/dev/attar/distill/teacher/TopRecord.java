package dev.attar.distill.teacher;

import static java.lang.foreign.ValueLayout.JAVA_FLOAT;

import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Optional;
import java.util.zip.CRC32C;

/**
 * The likeliest tokens of a window as they are stored: a mark and a checksum, then, little-endian, all numbers of tokens (2 or 4 bytes
 * each) and all log-probabilities, the rest's last in each row, in 2 bytes each.
 *
 * <p>A log-probability is a whole number of steps of 1/{@value #STEPS} below 0, so it is off by at most 1/4096: a probability by 0.025 %.
 * A half-precision number would be off by up to 16 times as much where probabilities are below e^-8, as most of the likeliest 64 are. What
 * is below e^-31.99 is stored as that, and minus infinity as itself.
 *
 * @param context rows of a window
 * @param vocabulary numbers of tokens are below
 * @param k tokens of a row
 */
record TopRecord(int context, int vocabulary, int k) {
  /** Steps of a log-probability in a nat. */
  static final int STEPS = 2048;

  private static final int NOTHING = 0xffff; // for minus infinity
  private static final int LEAST = 0xfffe;
  private static final int MARK = 0x504f5431; // distinguishes a record from a hole in the file
  private static final int HEADER = 8;
  private static final int SHORT_TOKENS = 1 << 16;

  static int tokenBytes(int vocabulary) {
    return vocabulary <= SHORT_TOKENS ? 2 : 4;
  }

  /** Bytes of a record. */
  int bytes() {
    long bytes = HEADER + (long) context * ((long) k * tokenBytes(vocabulary) + 2L * (k + 1));
    return Math.toIntExact(bytes);
  }

  /**
   * Writes a record.
   *
   * @param window its number, which is part of what the checksum is of
   * @param tokens of all rows of several windows
   * @param logProbabilities as well
   * @param row the window's first
   */
  ByteBuffer encode(int window, int[] tokens, MemorySegment logProbabilities, int row) {
    ByteBuffer record = buffer();
    record.position(HEADER);
    for (int i = row * k; i < (row + context) * k; i++) {
      if (tokenBytes(vocabulary) == 2) {
        record.putShort((short) tokens[i]);
      } else {
        record.putInt(tokens[i]);
      }
    }
    for (int i = row * (k + 1); i < (row + context) * (k + 1); i++) {
      record.putShort((short) code(logProbabilities.getAtIndex(JAVA_FLOAT, i)));
    }
    record.putInt(0, MARK).putInt(Integer.BYTES, checksum(window, record));
    return record.flip();
  }

  /** An empty record. */
  ByteBuffer buffer() {
    return ByteBuffer.allocate(bytes()).order(ByteOrder.LITTLE_ENDIAN);
  }

  private static int code(float logProbability) {
    // A likely token's may be a little above 0 by rounding.
    return logProbability == Float.NEGATIVE_INFINITY
      ? NOTHING
      : Math.clamp(Math.round(-logProbability * (double) STEPS), 0, LEAST);
  }

  private static float value(int code) {
    return code == NOTHING ? Float.NEGATIVE_INFINITY : 0 - (float) code / STEPS;
  }

  private static int checksum(int window, ByteBuffer record) {
    CRC32C crc = new CRC32C();
    crc.update(ByteBuffer.allocate(4).putInt(0, window));
    crc.update(record.duplicate().position(HEADER).limit(record.capacity()));
    return (int) crc.getValue();
  }

  /** Whether a record was written whole. */
  boolean isWhole(int window, ByteBuffer record) {
    return record.getInt(0) == MARK && record.getInt(Integer.BYTES) == checksum(window, record);
  }

  /**
   * Reads a whole record.
   *
   * @param tokens for all rows of several windows
   * @param logProbabilities as well
   * @param row the window's first
   * @return what is wrong with it; empty if it could be read
   */
  Optional<String> decode(ByteBuffer record, int[] tokens, MemorySegment logProbabilities, int row) {
    record.clear().position(HEADER);
    for (int i = row * k; i < (row + context) * k; i++) {
      int token = tokenBytes(vocabulary) == 2 ? Short.toUnsignedInt(record.getShort()) : record.getInt();
      if (token < 0 || token >= vocabulary) {
        return Optional.of("token " + token + ", expected 0 to " + (vocabulary - 1));
      }
      tokens[i] = token;
    }
    for (int i = row * (k + 1); i < (row + context) * (k + 1); i++) {
      logProbabilities.setAtIndex(JAVA_FLOAT, i, value(Short.toUnsignedInt(record.getShort())));
    }
    return Optional.empty();
  }
}
