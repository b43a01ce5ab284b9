package dev.attar.formats.tokenizer;

/** The kinds of token in {@code tokenizer.ggml.token_type}. */
enum TokenType {
  NORMAL(1),
  UNKNOWN(2),
  CONTROL(3),
  USER_DEFINED(4),
  UNUSED(5),
  BYTE(6);

  private final int id;

  TokenType(int id) {
    this.id = id;
  }

  /** The number in a GGUF file. */
  int id() {
    return id;
  }

  /** The kind with this number in a SentencePiece model, whose numbers are the same; {@link #NORMAL} if there is none. */
  static TokenType ofPiece(int id) {
    for (TokenType type : values()) {
      // GGUF's converter does not carry over that a piece is user-defined.
      if (type.id == id && type != USER_DEFINED) {
        return type;
      }
    }
    return NORMAL;
  }

  /** Whether an added token that does not say so is a control token all the same, by its looks. */
  static boolean looksSpecial(String text) {
    return (
      text.equals("<pad>") ||
      text.equals("<mask>") ||
      text.equals("<2mass>") ||
      text.equals("[@BOS@]") ||
      (text.startsWith("<|") && text.endsWith("|>")) ||
      (text.startsWith("<｜") && text.endsWith("｜>")) ||
      (text.startsWith("<unused") && text.endsWith(">"))
    );
  }
}
