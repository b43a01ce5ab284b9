package dev.attar.distill.student;

import dev.attar.distill.DistillException;
import dev.attar.formats.Metadata;
import dev.attar.formats.MetadataValue;
import dev.attar.formats.Model;
import dev.attar.formats.Utf8;
import java.lang.reflect.Array;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.Set;
import java.util.regex.Pattern;

/**
 * The tokens that teacher and student have in common, from number 0 on: all that are not padding at the end of one of them.
 *
 * <p>Two vocabularies are the same if every number stands for the same token and every text becomes the same numbers in llama.cpp: its
 * tokenizer (model, pre-tokenizer, merges, scores, kinds of tokens, flags) and what is put before and behind a text are equal. Tokens with
 * roles that are not put there by themselves, such as the one that ends what a model says, may differ: they are but tokens to a
 * distribution.
 *
 * @param tokens how many
 * @param notes lines for the user: which tokens are left out
 */
public record SharedVocabulary(int tokens, List<String> notes) {
  private static final String PREFIX = "tokenizer.ggml.";
  private static final String TOKENS = PREFIX + "tokens";
  private static final String TYPES = PREFIX + "token_type";
  private static final String SCORES = PREFIX + "scores";
  private static final String MERGES = PREFIX + "merges";

  private static final String SENTENCE_PIECE = "llama";
  private static final String BYTE_LEVEL = "gpt2";

  /** Of {@code token_type}. */
  private static final long NORMAL = 1;

  private static final long USER_DEFINED = 4;
  private static final long UNUSED = 5;

  /** What converters call a number that stands for no token. */
  private static final Pattern PADDING = Pattern.compile("\\[PAD([0-9]{1,9})]");

  /** Byte-level pre-tokenizers with which llama.cpp begins a text by a token of its own unless it is told otherwise. */
  private static final Set<String> BEGINNING = Set.of(
    "llama3",
    "llama-v3",
    "llama-bpe",
    "falcon3",
    "falcon-h1",
    "pixtral",
    "midm-2.0",
    "lfm2",
    "jina-v5-nano",
    "tekken",
    "chameleon"
  );

  public SharedVocabulary {
    notes = List.copyOf(notes);
  }

  /**
   * Compares two vocabularies.
   *
   * @throws DistillException if they are not the same; the message names the first difference: the student, the key and number, what it has
   *     there, and what the teacher has
   */
  public static SharedVocabulary of(Model teacher, Model student) throws DistillException {
    return new Comparison(new Side(teacher), new Side(student)).compare();
  }

  /**
   * How many tokens a model has, without padding at the end.
   *
   * @throws DistillException if it has no vocabulary
   */
  static int withoutPadding(Model model) throws DistillException {
    Side side = new Side(model);
    int tokens = side.tokens.length;
    while (tokens > 1 && side.isPadding(tokens - 1)) {
      tokens--;
    }
    return tokens;
  }

  /** The vocabulary of a model. */
  private static final class Side {

    private final Model model;
    private final Metadata metadata;
    private final String[] tokens;
    private final Object types;
    private final Object scores;

    Side(Model model) throws DistillException {
      this.model = model;
      this.metadata = model.metadata();
      Object value = value(TOKENS);
      if (!(value instanceof String[] texts) || texts.length == 0) {
        throw new DistillException(model.source() + ": " + TOKENS + ": found nothing, expected a vocabulary");
      }
      this.tokens = texts;
      this.types = list(TYPES);
      this.scores = list(SCORES);
    }

    private Object value(String key) {
      return metadata.get(key).map(MetadataValue::value).orElse(null);
    }

    /** A list with a number for each token, or null if there is none. */
    private Object list(String key) throws DistillException {
      Object list = value(key);
      if (list == null) {
        return null;
      }
      boolean numbers = list instanceof long[] || list instanceof float[] || list instanceof double[];
      if (!numbers || Array.getLength(list) < tokens.length) {
        String found = metadata.get(key).orElseThrow().toString();
        String expected = tokens.length + " numbers, one for each token";
        throw new DistillException(model.source() + ": " + key + ": found " + found + ", expected " + expected);
      }
      return list;
    }

    long type(int token) {
      return types == null ? NORMAL : ((Number) Array.get(types, token)).longValue();
    }

    double score(int token) {
      return scores == null ? 0 : ((Number) Array.get(scores, token)).doubleValue();
    }

    /** Whether a number stands for no token. Older converters call such a token user-defined. */
    boolean isPadding(int token) {
      var match = PADDING.matcher(tokens[token]);
      return (
        match.matches() &&
        (type(token) == UNUSED || (type(token) == USER_DEFINED && Integer.parseInt(match.group(1)) == token))
      );
    }

    String text(String key, String otherwise) {
      return metadata
        .string(key)
        .filter(text -> !text.isEmpty())
        .orElse(otherwise);
    }

    boolean flag(String key, boolean otherwise) {
      return value(key) instanceof Boolean flag ? flag : otherwise;
    }

    String tokenizer() {
      return text(PREFIX + "model", "");
    }

    String preTokenizer() {
      return text(PREFIX + "pre", "default");
    }

    /** Whether llama.cpp puts a token before each text. */
    boolean addsBeginning() {
      boolean usual = switch (tokenizer()) {
        case SENTENCE_PIECE -> true;
        case BYTE_LEVEL -> BEGINNING.contains(preTokenizer());
        default -> false;
      };
      return flag(PREFIX + "add_bos_token", usual);
    }

    boolean addsEnd() {
      return flag(PREFIX + "add_eos_token", false);
    }

    /** The number of a token with a role, or what llama.cpp takes for it. */
    long role(String key, long sentencePiece) {
      long usual = tokenizer().equals(SENTENCE_PIECE) ? sentencePiece : 11;
      return metadata.integer(PREFIX + key).orElse(usual);
    }

    String token(int number) {
      return number < tokens.length ? Utf8.quote(tokens[number]) : "nothing";
    }
  }

  private record Comparison(Side teacher, Side student) {
    SharedVocabulary compare() throws DistillException {
      require(PREFIX + "model", Utf8.quote(student.tokenizer()), Utf8.quote(teacher.tokenizer()));
      if (teacher.tokenizer().equals(BYTE_LEVEL)) {
        require(PREFIX + "pre", Utf8.quote(student.preTokenizer()), Utf8.quote(teacher.preTokenizer()));
      }
      int shared = Math.min(teacher.tokens.length, student.tokens.length);
      for (int token = 0; token < shared; token++) {
        compare(token);
      }
      List<String> notes = new ArrayList<>();
      leaveOut(teacher, student, "the teacher ").ifPresent(notes::add);
      leaveOut(student, teacher, "the student ").ifPresent(notes::add);
      compareMerges();
      compareFlags();
      return new SharedVocabulary(shared, notes);
    }

    private DistillException difference(String place, String found, String expected) {
      return new DistillException(
        student.model.source() +
          ": " +
          place +
          ": found " +
          found +
          ", expected " +
          expected +
          " as in the teacher " +
          teacher.model.source()
      );
    }

    private void require(String place, Object found, Object expected) throws DistillException {
      if (!Objects.equals(found, expected)) {
        throw difference(place, String.valueOf(found), String.valueOf(expected));
      }
    }

    private void compare(int token) throws DistillException {
      boolean padding = teacher.isPadding(token);
      if (padding && student.isPadding(token)) {
        return;
      }
      if (padding != student.isPadding(token)) {
        throw difference(
          TOKENS + ": token " + token,
          student.token(token) + (padding ? "" : ", which is padding"),
          teacher.token(token) + (padding ? ", which is padding," : "")
        );
      }
      if (!teacher.tokens[token].equals(student.tokens[token])) {
        throw difference(TOKENS + ": token " + token, student.token(token), teacher.token(token));
      }
      String place = ": token " + token + " " + student.token(token);
      require(TYPES + place, student.type(token), teacher.type(token));
      // Byte-level tokenizers have merges instead, and control tokens are not made of pieces.
      if (!teacher.tokenizer().equals(BYTE_LEVEL) && teacher.type(token) == NORMAL) {
        require(SCORES + place, student.score(token), teacher.score(token));
      }
    }

    /** Checks that what one has beyond the other is padding, and says so. */
    private Optional<String> leaveOut(Side longer, Side shorter, String name) throws DistillException {
      int shared = shorter.tokens.length;
      for (int token = shared; token < longer.tokens.length; token++) {
        if (!longer.isPadding(token)) {
          throw difference(TOKENS + ": token " + token, student.token(token), teacher.token(token));
        }
      }
      int left = longer.tokens.length - shared;
      return left <= 0
        ? Optional.empty()
        : Optional.of(
            name +
              longer.model.source() +
              ": the last " +
              left +
              " of " +
              longer.tokens.length +
              " tokens are padding, from " +
              longer.token(shared) +
              " on, and are left out"
          );
    }

    private void compareMerges() throws DistillException {
      String[] found = student.value(MERGES) instanceof String[] merges ? merges : new String[0];
      String[] expected = teacher.value(MERGES) instanceof String[] merges ? merges : new String[0];
      for (int i = 0; i < Math.max(found.length, expected.length); i++) {
        String ours = i < found.length ? Utf8.quote(found[i]) : "nothing";
        String theirs = i < expected.length ? Utf8.quote(expected[i]) : "nothing";
        if (!ours.equals(theirs) || !found[i].equals(expected[i])) {
          throw difference(MERGES + ": merge " + i, ours, theirs);
        }
      }
    }

    private void compareFlags() throws DistillException {
      boolean sentencePiece = teacher.tokenizer().equals(SENTENCE_PIECE);
      compareFlag("add_space_prefix", sentencePiece);
      compareFlag("remove_extra_whitespaces", false);
      compareFlag("normalizer.lowercase", false);
      compareFlag("normalizer.strip_accents", false);
      require(PREFIX + "add_bos_token", student.addsBeginning(), teacher.addsBeginning());
      require(PREFIX + "add_eos_token", student.addsEnd(), teacher.addsEnd());
      if (teacher.addsBeginning()) {
        require(PREFIX + "bos_token_id", student.role("bos_token_id", 1), teacher.role("bos_token_id", 1));
      }
      if (teacher.addsEnd()) {
        require(PREFIX + "eos_token_id", student.role("eos_token_id", 2), teacher.role("eos_token_id", 2));
      }
    }

    private void compareFlag(String key, boolean usual) throws DistillException {
      require(PREFIX + key, student.flag(PREFIX + key, usual), teacher.flag(PREFIX + key, usual));
    }
  }
}
