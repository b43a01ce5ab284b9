package dev.attar.quant;

import dev.attar.formats.TensorType;
import java.util.Locale;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;

/**
 * A type that the user wants for the tensors whose name matches: {@code --tensor-type REGEX=TYPE}.
 *
 * @param text the expression as it was compiled, in llama-quantize's (ECMAScript's) syntax
 * @param pattern the expression; a match anywhere in the name counts
 * @param type the type
 */
public record TensorTypeRule(String text, Pattern pattern, TensorType type) {
  /**
   * Reads {@code REGEX=TYPE}. Letters A to Z of the expression become small, as in llama-quantize (tensor names have none).
   *
   * @throws IllegalArgumentException if a part is missing, the expression is not valid or the type unknown; the message says which
   */
  public static TensorTypeRule parse(String rule) {
    int split = rule.indexOf('=');
    if (split < 1 || split == rule.length() - 1) {
      throw new IllegalArgumentException("'" + rule + "': expected REGEX=TYPE, for instance attn_v=q8_0");
    }
    StringBuilder text = new StringBuilder();
    rule
      .substring(0, split)
      .chars()
      .forEach(c -> text.append((char) (c >= 'A' && c <= 'Z' ? c + 32 : c)));
    TensorType type = TensorType.byName(rule.substring(split + 1)).orElseThrow(() ->
      new IllegalArgumentException("'" + rule + "': unknown tensor type " + rule.substring(split + 1))
    );
    try {
      return new TensorTypeRule(text.toString(), Pattern.compile(toJava(text.toString())), type);
    } catch (PatternSyntaxException e) {
      throw new IllegalArgumentException("'" + rule + "': not a regular expression: " + e.getDescription(), e);
    }
  }

  /** Whether the rule is for the tensor of this name. */
  public boolean matches(String name) {
    return pattern.matcher(name).find();
  }

  /** The rule as it can be parsed again. */
  @Override
  public String toString() {
    return text + "=" + type.name().toLowerCase(Locale.ROOT);
  }

  /** ECMAScript to Java: within brackets, {@code [} and {@code &} stand for themselves and {@code [:alpha:]} names a class. */
  private static String toJava(String ecmaScript) {
    StringBuilder java = new StringBuilder();
    boolean inBrackets = false;
    for (int i = 0; i < ecmaScript.length(); i++) {
      char c = ecmaScript.charAt(i);
      int end = ecmaScript.indexOf(":]", i);
      if (c == '\\' && i + 1 < ecmaScript.length()) {
        java.append(c).append(ecmaScript.charAt(++i));
      } else if (inBrackets && ecmaScript.startsWith("[:", i) && end > 0) {
        java.append("\\p{").append(javaClass(ecmaScript.substring(i + 2, end))).append('}');
        i = end + 1;
      } else if (inBrackets && (c == '[' || c == '&')) {
        java.append('\\').append(c);
      } else {
        inBrackets = inBrackets ? c != ']' : c == '[';
        java.append(c);
      }
    }
    return java.toString();
  }

  private static String javaClass(String posix) {
    if (posix.equals("xdigit")) {
      return "XDigit";
    }
    return posix.isEmpty() ? posix : posix.substring(0, 1).toUpperCase(Locale.ROOT) + posix.substring(1);
  }
}
