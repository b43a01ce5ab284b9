package dev.attar.llama;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BOOLEAN;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_INT;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;
import java.nio.charset.StandardCharsets;
import java.util.OptionalInt;
import java.util.concurrent.CompletableFuture;
import java.util.function.Supplier;

/**
 * A model's vocabulary: text to tokens and back, as llama.cpp does it. Safe for use by several threads. Unless said otherwise a
 * method throws {@code IllegalStateException} when the model is closed or carries no vocabulary.
 */
public final class Tokens {

  private static final int TYPE_NONE = 0; // LLAMA_VOCAB_TYPE_NONE
  private static final int TYPE_WORD_PIECE = 3; // LLAMA_VOCAB_TYPE_WPM

  private static final int ATTRIBUTE_UNKNOWN = 1; // LLAMA_TOKEN_ATTR_UNKNOWN

  // Reserved, not used, unless a text is a trap.
  private static final long STACK_BYTES = 1L << 30;

  // Room for what is added at both ends of a text.
  private static final int MARGIN = 16;

  private final LlamaModel model;
  private final MemorySegment vocabulary;
  private final MethodHandle tokenize;
  private final MethodHandle detokenize;
  private final MethodHandle textOf;
  private final MethodHandle isEndOfGeneration;
  private final MethodHandle attributesOf;
  private final int type;
  private final int size;
  private final boolean addsBos;
  private final boolean addsEos;
  private final OptionalInt bos;
  private final OptionalInt eos;
  private final OptionalInt separator;

  Tokens(LlamaLibrary library, LlamaModel model, MemorySegment vocabulary) {
    this.model = model;
    this.vocabulary = vocabulary;
    tokenize = library.function(
      "llama_tokenize",
      FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, JAVA_INT, ADDRESS, JAVA_INT, JAVA_BOOLEAN, JAVA_BOOLEAN)
    );
    detokenize = library.function(
      "llama_detokenize",
      FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, JAVA_INT, ADDRESS, JAVA_INT, JAVA_BOOLEAN, JAVA_BOOLEAN)
    );
    textOf = library.function("llama_vocab_get_text", FunctionDescriptor.of(ADDRESS, ADDRESS, JAVA_INT));
    isEndOfGeneration = library.function("llama_vocab_is_eog", FunctionDescriptor.of(JAVA_BOOLEAN, ADDRESS, JAVA_INT));
    attributesOf = library.function("llama_vocab_get_attr", FunctionDescriptor.of(JAVA_INT, ADDRESS, JAVA_INT));
    type = library.getInt("llama_vocab_type", vocabulary);
    size = library.getInt("llama_vocab_n_tokens", vocabulary);
    addsBos = library.getBoolean("llama_vocab_get_add_bos", vocabulary);
    addsEos = library.getBoolean("llama_vocab_get_add_eos", vocabulary);
    bos = known(library.getInt("llama_vocab_bos", vocabulary));
    eos = known(library.getInt("llama_vocab_eos", vocabulary));
    separator = known(library.getInt("llama_vocab_sep", vocabulary));
  }

  private OptionalInt known(int token) {
    return token >= 0 && token < size ? OptionalInt.of(token) : OptionalInt.empty();
  }

  /** Number of tokens, which is the length of a row of logits. Throws nothing. */
  public int size() {
    return size;
  }

  /** Whether the model wants the token of the beginning before a text. Throws nothing. */
  public boolean addsBos() {
    return addsBos;
  }

  /** Whether the model wants the token of the end after a text. Throws nothing. */
  public boolean addsEos() {
    return addsEos;
  }

  /** The token of the beginning; empty if there is none. Throws nothing. */
  public OptionalInt bos() {
    return bos;
  }

  /** The token of the end; empty if there is none. Throws nothing. */
  public OptionalInt eos() {
    return eos;
  }

  /**
   * Cuts a text into tokens.
   *
   * @param text any text; a lone surrogate counts as a question mark
   * @param addSpecial add the tokens of the beginning and of the end if the model wants them
   * @param parseSpecial take the names of special tokens in the text for these tokens, instead of for text
   * @throws IllegalArgumentException if there would be more tokens than an array can hold
   */
  public int[] encode(String text, boolean addSpecial, boolean parseSpecial) {
    return encode(text.getBytes(StandardCharsets.UTF_8), addSpecial, parseSpecial);
  }

  /**
   * Cuts a text into tokens. The whole text is one call of the library, which needs many times its size in memory.
   *
   * @param utf8 any bytes; what malformed ones become depends on the tokenizer
   * @param addSpecial add the tokens of the beginning and of the end if the model wants them
   * @param parseSpecial take the names of special tokens in the text for these tokens, instead of for text
   * @throws IllegalArgumentException if there would be more tokens than an array can hold
   */
  public int[] encode(byte[] utf8, boolean addSpecial, boolean parseSpecial) {
    requireText();
    if (addSpecial) {
      boolean wordPiece = type == TYPE_WORD_PIECE;
      if (
        ((wordPiece || addsBos) && bos.isEmpty()) || (addsEos && eos.isEmpty()) || (wordPiece && separator.isEmpty())
      ) {
        throw new IllegalStateException(model + ": the vocabulary has no token for an end that its texts must have");
      }
    }
    Supplier<int[]> task = () -> encodeHere(utf8, addSpecial, parseSpecial);
    int[] tokens = CompletableFuture.supplyAsync(task, Tokens::runOnLargeStack).join();
    if (tokens == null) {
      throw new IllegalArgumentException("a text of " + utf8.length + " bytes has too many tokens for one array");
    }
    return tokens;
  }

  /** Some tokenizers match regular expressions by recursion, whose depth is the length of the text's longest word. */
  private static void runOnLargeStack(Runnable task) {
    new Thread(null, task, "tokenizer", STACK_BYTES).start();
  }

  /** The tokens, or {@code null} if they are too many. */
  private int[] encodeHere(byte[] utf8, boolean addSpecial, boolean parseSpecial) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment text = arena.allocate(Math.max(1, utf8.length));
      MemorySegment.copy(utf8, 0, text, JAVA_BYTE, 0, utf8.length);
      int capacity = (int) Math.min(Integer.MAX_VALUE, utf8.length + (long) MARGIN);
      MemorySegment tokens = arena.allocate(JAVA_INT, capacity);
      int count = encode(text, utf8.length, tokens, addSpecial, parseSpecial);
      if (count < 0 && count != Integer.MIN_VALUE) {
        // Where the vocabulary has no space, each becomes the three bytes of U+2581.
        tokens = arena.allocate(JAVA_INT, -count);
        count = encode(text, utf8.length, tokens, addSpecial, parseSpecial);
      }
      return count < 0 ? null : tokens.asSlice(0, 4L * count).toArray(JAVA_INT);
    }
  }

  private int encode(MemorySegment text, int bytes, MemorySegment tokens, boolean addSpecial, boolean parseSpecial) {
    int capacity = (int) (tokens.byteSize() / 4);
    return Natives.call(() ->
      (int) tokenize.invokeExact(vocabulary, text, bytes, tokens, capacity, addSpecial, parseSpecial)
    );
  }

  /**
   * The text of tokens. Bytes that are no UTF-8, as where the tokens of one character are not all there, are replaced. A space that
   * {@link #encode} puts before a text stays where a token of the beginning precedes it; without special tokens, the text comes back
   * as it was.
   *
   * @param tokens tokens of this vocabulary
   * @param removeSpecial leave out the tokens of the beginning and of the end that {@link #encode} adds
   * @param unparseSpecial write special tokens by their names; they are left out otherwise
   * @throws IllegalArgumentException if a number is no token's, or if the text would be too long for an array
   */
  public String decode(int[] tokens, boolean removeSpecial, boolean unparseSpecial) {
    requireText();
    for (int token : tokens) {
      requireToken(token);
    }
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment in = arena.allocate(JAVA_INT, Math.max(1, tokens.length));
      MemorySegment.copy(tokens, 0, in, JAVA_INT, 0, tokens.length);
      long capacity = Math.min(Integer.MAX_VALUE, 4L * tokens.length + MARGIN);
      MemorySegment text = arena.allocate(capacity);
      int length = decode(in, tokens.length, text, removeSpecial, unparseSpecial);
      if (length < 0 && length != Integer.MIN_VALUE) {
        text = arena.allocate(-length);
        length = decode(in, tokens.length, text, removeSpecial, unparseSpecial);
      }
      if (length < 0) {
        throw new IllegalArgumentException("the text of " + tokens.length + " tokens is too long for one array");
      }
      return new String(text.asSlice(0, length).toArray(JAVA_BYTE), StandardCharsets.UTF_8);
    }
  }

  private int decode(
    MemorySegment tokens,
    int count,
    MemorySegment text,
    boolean removeSpecial,
    boolean unparseSpecial
  ) {
    int capacity = (int) text.byteSize();
    return Natives.call(() ->
      (int) detokenize.invokeExact(vocabulary, tokens, count, text, capacity, removeSpecial, unparseSpecial)
    );
  }

  /**
   * Whether a token ends what a model generates: the end of the text, of a turn, or of a message.
   *
   * @throws IllegalArgumentException if the number is no token's
   */
  public boolean isEndOfGeneration(int token) {
    requireText();
    requireToken(token);
    return Natives.call(() -> (boolean) isEndOfGeneration.invokeExact(vocabulary, token));
  }

  /**
   * Whether a token stands for text that the vocabulary has no token for.
   *
   * @throws IllegalArgumentException if the number is no token's
   */
  public boolean isUnknown(int token) {
    requireText();
    requireToken(token);
    return (Natives.call(() -> (int) attributesOf.invokeExact(vocabulary, token)) & ATTRIBUTE_UNKNOWN) != 0;
  }

  /**
   * A token as the vocabulary has it, for example {@code ▁the} or {@code <0x0A>}, not as it would be written in a text.
   *
   * @throws IllegalArgumentException if the number is no token's
   */
  public String text(int token) {
    requireText();
    requireToken(token);
    return Natives.string(Natives.call(() -> (MemorySegment) textOf.invokeExact(vocabulary, token)));
  }

  private void requireText() {
    model.requireOpen();
    if (type == TYPE_NONE) {
      throw new IllegalStateException(model + ": the model carries no vocabulary");
    }
  }

  private void requireToken(int token) {
    if (token < 0 || token >= size) {
      throw new IllegalArgumentException("token " + token + ", expected 0 to " + (size - 1));
    }
  }
}
