package dev.attar.formats.block;

import dev.attar.formats.TensorType;

/** Decodes blocks of one tensor type to single precision. Stateless and safe for use by several threads. */
public interface BlockDecoder {
  /** The type that is read. */
  TensorType type();

  /**
   * Decodes consecutive blocks.
   *
   * @param in the encoded blocks
   * @param inOffset index of the first byte
   * @param out receives the values
   * @param outOffset index of the first value
   * @param count number of values, a multiple of the type's block length
   */
  void decode(byte[] in, int inOffset, float[] out, int outOffset, int count);
}
