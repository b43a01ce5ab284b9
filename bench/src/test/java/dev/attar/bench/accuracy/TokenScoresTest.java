package dev.attar.bench.accuracy;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInput;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.Arrays;
import org.junit.jupiter.api.Test;

/** How scores cross a pipe. */
class TokenScoresTest {

  private static final int COUNT = 3;
  private static final int NLL = 4;
  private static final int BASE_NLL = NLL + 8 * COUNT;
  private static final int DIVERGENCE = BASE_NLL + 8 * COUNT;
  private static final int DELTA_P = DIVERGENCE + 8 * COUNT;
  private static final int SAME_TOP = DELTA_P + 8 * COUNT;
  private static final int END = SAME_TOP + COUNT;

  private static byte[] comparison() throws IOException {
    TokenComparison scores = new TokenComparison(COUNT);
    for (int i = 0; i < COUNT; i++) {
      scores.nll[i] = i;
      scores.baseNll[i] = 10 + i;
      scores.divergence[i] = 0.1 * i;
      scores.deltaP[i] = 0.5 - 0.5 * i;
      scores.sameTop[i] = i == 1;
    }
    scores.nll[2] = Double.POSITIVE_INFINITY;
    scores.divergence[2] = Double.NaN;
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    scores.write(new DataOutputStream(bytes));
    return bytes.toByteArray();
  }

  private static DataInput in(byte[] bytes) {
    return new DataInputStream(new ByteArrayInputStream(bytes));
  }

  @Test
  void comparisonsSurviveAPipe() throws IOException {
    byte[] bytes = comparison();
    assertEquals(END, bytes.length);
    TokenComparison scores = TokenComparison.read(in(bytes), COUNT);
    assertEquals(COUNT, scores.count());
    assertEquals(1, scores.nll(1));
    assertEquals(Double.POSITIVE_INFINITY, scores.nll(2));
    assertEquals(11, scores.baseNll(1));
    assertEquals(0.1, scores.divergence(1));
    assertEquals(-0.5, scores.deltaP(2));
    assertArrayEquals(new boolean[] { false, true, false }, scores.sameTop);
    assertEquals(2, scores.firstInvalid());
    ByteArrayOutputStream again = new ByteArrayOutputStream();
    scores.write(new DataOutputStream(again));
    assertArrayEquals(bytes, again.toByteArray());
  }

  @Test
  void scoresSurviveAPipe() throws IOException {
    TokenScores scores = new TokenScores(2);
    scores.nll[0] = 0.25;
    assertEquals(-1, scores.firstInvalid());
    scores.nll[1] = Double.NaN;
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    scores.write(new DataOutputStream(bytes));
    assertEquals(4 + 16, bytes.size());
    TokenScores read = TokenScores.read(in(bytes.toByteArray()), 2);
    assertArrayEquals(scores.nll, read.nll);
    assertEquals(1, read.firstInvalid());
  }

  @Test
  void aCutEndIsAnError() throws IOException {
    byte[] bytes = comparison();
    for (int length = 0; length < bytes.length; length++) {
      byte[] cut = Arrays.copyOf(bytes, length);
      assertThrows(EOFException.class, () -> TokenComparison.read(in(cut), COUNT));
    }
  }

  @Test
  void whatCannotBeIsAnError() throws IOException {
    damaged("-1 tokens, expected at most 3", buffer -> buffer.putInt(0, -1));
    damaged("4 tokens, expected at most 3", buffer -> buffer.putInt(0, 4));
    damaged("2147483647 tokens, expected at most 3", buffer -> buffer.putInt(0, Integer.MAX_VALUE));
    damaged("token 1: negative log-likelihood is -1.0, expected 0.0 to Infinity", buffer ->
      buffer.putDouble(NLL + 8, -1)
    );
    damaged("token 0: negative log-likelihood of the base is -Infinity, expected 0.0 to Infinity", buffer ->
      buffer.putDouble(BASE_NLL, Double.NEGATIVE_INFINITY)
    );
    damaged("token 2: KL divergence is -1.0E-9, expected 0.0 to Infinity", buffer ->
      buffer.putDouble(DIVERGENCE + 16, -1e-9)
    );
    damaged("token 0: change of probability is 1.5, expected -1.0 to 1.0", buffer -> buffer.putDouble(DELTA_P, 1.5));
    damaged("token 2: same top is 2, expected 0 or 1", buffer -> buffer.put(SAME_TOP + 2, (byte) 2));
  }

  private interface Damage {
    void to(ByteBuffer bytes);
  }

  private static void damaged(String message, Damage damage) throws IOException {
    byte[] bytes = comparison();
    damage.to(ByteBuffer.wrap(bytes));
    IOException error = assertThrows(IOException.class, () -> TokenComparison.read(in(bytes), COUNT));
    assertEquals("scores of tokens: " + message, error.getMessage());
  }
}
