package dev.attar.quant;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.attar.formats.TensorType;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class TensorTypeRuleTest {

  @Test
  void readsExpressionAndType() {
    TensorTypeRule rule = TensorTypeRule.parse("Blk\\.1\\.ATTN_(q|k)=iq4_NL");
    assertEquals(TensorType.IQ4_NL, rule.type());
    assertEquals("blk\\.1\\.attn_(q|k)=iq4_nl", rule.toString());
    assertEquals(rule.toString(), TensorTypeRule.parse(rule.toString()).toString());
    assertTrue(rule.matches("blk.1.attn_k.weight"));
  }

  /** What std::regex takes otherwise than java.util.regex. */
  @ParameterizedTest
  @CsvSource(
    {
      "[[:digit:]]+, 12, true",
      "^[[:alpha:]_]+$, attn_k, true",
      "^[[:alpha:]_]+$, attn_k2, false",
      "[[:xdigit:]], g, false",
      "[a[]x, [x, true",
      "[a-d&&x], &, true",
      "[a-d&&x], x, true",
      "\\[x, [x, true",
      "[\\]]x, ]x, true"
    }
  )
  void takesEcmaScript(String expression, String name, boolean expected) {
    assertEquals(expected, TensorTypeRule.parse(expression + "=q8_0").matches(name));
  }

  @ParameterizedTest
  @CsvSource(
    {
      "attn_k, expected REGEX=TYPE",
      "=q8_0, expected REGEX=TYPE",
      "attn_k=, expected REGEX=TYPE",
      "attn_k=q9, unknown tensor type q9",
      "attn_(k=q8_0, not a regular expression"
    }
  )
  void saysWhatIsWrong(String rule, String problem) {
    String message = assertThrows(IllegalArgumentException.class, () -> TensorTypeRule.parse(rule)).getMessage();
    assertTrue(message.contains("'" + rule + "'") && message.contains(problem), message);
  }
}
