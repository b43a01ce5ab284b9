package dev.attar.formats.block;

/** Decoders of the IQ1, IQ2 and IQ3 types. Each method has the parameters of {@link BlockDecoder#decode}. */
final class CodebookDecoders {

  private CodebookDecoders() {}

  static void iq1s(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 256, at += 50) {
      float d = Bits.getHalf(in, at);
      for (int b = 0; b < 8; b++) {
        int high = Bits.getUnsignedShort(in, at + 34 + 2 * b);
        float dl = d * (2 * ((high >> 12) & 7) + 1);
        for (int l = 0; l < 4; l++) {
          int word = (in[at + 2 + 4 * b + l] & 0xFF) | (((high >> (3 * l)) & 7) << 8);
          shifted(word, dl, (high & 0x8000) != 0, out, to + 32 * b + 8 * l);
        }
      }
    }
  }

  static void iq1m(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 256, at += 56) {
      // The top four bits of the four groups of scales make the half that scales the super-block.
      long scales = Bits.getLong(in, at + 48);
      int half = 0;
      for (int i = 0; i < 4; i++) {
        half |= (int) ((scales >>> (16 * i + 12)) & 15) << (4 * i);
      }
      float d = Float.float16ToFloat((short) half);
      for (int b = 0; b < 8; b++) {
        for (int l = 0; l < 4; l++) {
          int scale = (int) (scales >>> (16 * (b / 2) + 6 * (b % 2) + 3 * (l / 2))) & 7;
          int high = (in[at + 32 + 2 * b + l / 2] >> (4 * (l % 2))) & 15;
          int word = (in[at + 4 * b + l] & 0xFF) | ((high & 7) << 8);
          shifted(word, d * (2 * scale + 1), (high & 8) != 0, out, to + 32 * b + 8 * l);
        }
      }
    }
  }

  /** Eight values of -1, 0 or 1, all moved by one eighth up or down. */
  private static void shifted(int word, float d, boolean down, float[] out, int to) {
    float shift = down ? -0.125f : 0.125f;
    for (int j = 0; j < 8; j++) {
      out[to + j] = d * (Codebooks.IQ1[8 * word + j] + shift);
    }
  }

  static void iq2xxs(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 256, at += 66) {
      float d = Bits.getHalf(in, at);
      for (int b = 0; b < 8; b++) {
        int signs = Bits.getInt(in, at + 2 + 8 * b + 4);
        float db = d * (0.5f + (signs >>> 28)) * 0.25f;
        for (int l = 0; l < 4; l++) {
          int word = in[at + 2 + 8 * b + l] & 0xFF;
          signed(Codebooks.IQ2_XXS, 8 * word, 8, db, evenSigns(signs >> (7 * l)), out, to + 32 * b + 8 * l);
        }
      }
    }
  }

  static void iq2xs(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 256, at += 74) {
      float d = Bits.getHalf(in, at);
      for (int b = 0; b < 8; b++) {
        for (int l = 0; l < 4; l++) {
          float db = d * (0.5f + ((in[at + 66 + b] >> (4 * (l / 2))) & 15)) * 0.25f;
          int code = Bits.getUnsignedShort(in, at + 2 + 8 * b + 2 * l);
          signed(Codebooks.IQ2_XS, 8 * (code & 511), 8, db, evenSigns(code >> 9), out, to + 32 * b + 8 * l);
        }
      }
    }
  }

  static void iq2s(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 256, at += 82) {
      float d = Bits.getHalf(in, at);
      for (int b = 0; b < 8; b++) {
        int high = in[at + 66 + b];
        for (int l = 0; l < 4; l++) {
          float db = d * (0.5f + ((in[at + 74 + b] >> (4 * (l / 2))) & 15)) * 0.25f;
          int word = (in[at + 2 + 4 * b + l] & 0xFF) | (((high >> (2 * l)) & 3) << 8);
          signed(Codebooks.IQ2_S, 8 * word, 8, db, in[at + 34 + 4 * b + l], out, to + 32 * b + 8 * l);
        }
      }
    }
  }

  static void iq3xxs(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 256, at += 98) {
      float d = Bits.getHalf(in, at);
      for (int b = 0; b < 8; b++) {
        int signs = Bits.getInt(in, at + 66 + 4 * b);
        float db = d * (0.5f + (signs >>> 28)) * 0.5f;
        for (int l = 0; l < 8; l++) {
          int word = in[at + 2 + 8 * b + l] & 0xFF;
          int quad = evenSigns(signs >> (7 * (l / 2))) >> (4 * (l % 2));
          signed(Codebooks.IQ3_XXS, 4 * word, 4, db, quad, out, to + 32 * b + 4 * l);
        }
      }
    }
  }

  static void iq3s(byte[] in, int at, float[] out, int to, int count) {
    for (int end = to + count; to < end; to += 256, at += 110) {
      float d = Bits.getHalf(in, at);
      for (int b = 0; b < 8; b++) {
        float db = d * (1 + 2 * ((in[at + 106 + b / 2] >> (4 * (b % 2))) & 15));
        int high = in[at + 66 + b];
        for (int l = 0; l < 8; l++) {
          int word = (in[at + 2 + 8 * b + l] & 0xFF) | (((high >> l) & 1) << 8);
          int quad = in[at + 74 + 4 * b + l / 2] >> (4 * (l % 2));
          signed(Codebooks.IQ3_S, 4 * word, 4, db, quad, out, to + 32 * b + 4 * l);
        }
      }
    }
  }

  /** Seven signs and an eighth that makes the number of minus signs even. */
  private static int evenSigns(int seven) {
    int signs = seven & 127;
    return signs | ((Integer.bitCount(signs) & 1) << 7);
  }

  /** A code word's magnitudes; a set bit of {@code signs} makes a value negative. */
  private static void signed(byte[] book, int at, int n, float d, int signs, float[] out, int to) {
    for (int j = 0; j < n; j++) {
      float magnitude = d * book[at + j];
      out[to + j] = ((signs >> j) & 1) != 0 ? -magnitude : magnitude;
    }
  }
}
